// gcs: the head of a cluster. See head.h.

#include <iostream>

#include "daemons/head/head.h"
#include "daemons/head/head_service.h"
#include "daemons/kit/flags.h"
#include "daemons/kit/grpc_server.h"
#include "daemons/kit/log.h"
#include "daemons/kit/loop.h"
#include "daemons/kit/metrics.h"

namespace raylet {
namespace {

constexpr Duration kWritesWaitMax = std::chrono::seconds(2);  // after SIGTERM
constexpr Duration kServerGrace = std::chrono::seconds(1);
constexpr int kExitFlags = 2;
constexpr int kExitRefused = 1;
constexpr int kExitFenced = 3;

struct Flags {
  std::string redis;
  std::string listen;
  std::string listen_tcp;
  std::string token_file;
  std::string session_dir;
  std::string log_level = "info";
  std::string metrics_http;
};

int fail(const Error& error, int exit_code) {
  std::cerr << "gcs: " << error.message << "\n";
  return exit_code;
}

int run(const Flags& flags) {
  if (Status set = set_up_log("gcs", flags.log_level); !set.ok()) return fail(set.error(), kExitFlags);
  if (!flags.listen_tcp.empty() && flags.token_file.empty()) {
    return fail(invalid("--listen-tcp needs --token-file: nobody may come in from the network without a token"),
                kExitFlags);
  }
  GrpcServer::Options doors;
  doors.unix_addresses = {flags.listen};
  doors.tcp_address = flags.listen_tcp;
  if (!flags.token_file.empty()) {
    Result<std::string> token = read_token(flags.token_file);
    if (!token.ok()) return fail(token.error(), kExitRefused);
    doors.token = *token;
  }

  Loop loop;
  int exit_code = 0;
  std::unique_ptr<GrpcServer> server;
  auto opened = Head::open(loop, flags.redis,
                           {[&] {
                              log::info("serving");
                              server->set_serving(true);
                            },
                            [&](std::string reason) {
                              log::error("this head stops: {}", reason);
                              exit_code = kExitFenced;
                              loop.stop();
                            }});
  if (!opened.ok()) return fail(opened.error(), kExitFlags);
  std::unique_ptr<Head> head = *std::move(opened);

  HeadService service(loop, *head);
  doors.services = {&service};
  auto started = GrpcServer::start(loop, doors);
  if (!started.ok()) return fail(started.error(), kExitRefused);
  server = *std::move(started);
  server->set_serving(false);
  std::unique_ptr<MetricsHttp> metrics;
  if (!flags.metrics_http.empty()) {
    auto listening = MetricsHttp::listen(loop, flags.metrics_http, [&] { return head->metrics_text(); });
    if (!listening.ok()) return fail(listening.error(), kExitRefused);
    metrics = *std::move(listening);
  }
  log::info("started listen={} redis={}", flags.listen, flags.redis);

  // What was asked before the signal is still written down, if Redis is there.
  Instant stop_at;
  Alarm stopping(loop, [&] {
    if (head->idle() || loop.now() >= stop_at) return loop.stop();
    stopping.set_after(std::chrono::milliseconds(10));
  });
  loop.on_stop_signal([&] {
    log::info("stopping");
    server->set_serving(false);
    stop_at = loop.now() + kWritesWaitMax;
    stopping.set_after(Duration::zero());
  });
  loop.run();

  service.close();
  server->stop_listening();
  server->shutdown(kServerGrace);
  loop.poll();  // the last words of watches
  log::info("stopped");
  close_log();
  return exit_code;
}

}  // namespace
}  // namespace raylet

int main(int argc, char** argv) {
  raylet::Flags flags;
  CLI::App app("The head of a raylet cluster: members, jobs, recorded graphs and names, kept in Redis.", "gcs");
  app.add_option("--redis", flags.redis, "Where Redis listens: unix:/path or host:port")->required();
  app.add_option("--listen", flags.listen, "Where to serve gRPC: unix:/path")->required();
  app.add_option("--listen-tcp", flags.listen_tcp, "Where to serve gRPC to other machines: host:port");
  app.add_option("--token-file", flags.token_file, "The cluster's token, mode 0600; needed with --listen-tcp");
  app.add_option("--session-dir", flags.session_dir, "The session's directory")->required();
  app.add_option("--log-level", flags.log_level, "trace, debug, info, warn, error or off");
  app.add_option("--metrics-http", flags.metrics_http, "Serve GET /metrics at host:port");
  if (std::optional<int> exit_code = raylet::parse_flags(app, argc, argv)) return *exit_code;
  return raylet::run(flags);
}
