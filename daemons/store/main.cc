// plasma-store: a node's shared memory. See store_daemon.h; plasma/core/store.h decides.
#include <fcntl.h>
#include <sys/socket.h>

#include <iostream>

#include "daemons/kit/flags.h"
#include "daemons/kit/grpc_server.h"
#include "daemons/kit/log.h"
#include "daemons/kit/loop.h"
#include "daemons/kit/metrics.h"
#include "daemons/store/store_daemon.h"
#include "daemons/store/store_service.h"

namespace raylet {
namespace {

constexpr Duration kServerGrace = std::chrono::milliseconds(500);
constexpr int kExitFlags = 2;
constexpr int kExitRefused = 1;

struct Flags {
  int channel_fd = -1;
  uint64_t capacity_bytes = 0;
  std::string listen;
  std::string log_level = "info";
  std::string metrics_http;
};

int fail(const Error& error, int exit_code) {
  std::cerr << "plasma-store: " << error.message << "\n";
  return exit_code;
}

Status check_channel(int descriptor) {
  int type = 0;
  socklen_t length = sizeof type;
  if (getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &length) != 0 || type != SOCK_SEQPACKET) {
    return invalid("--channel-fd " + std::to_string(descriptor) +
                   ": expected an inherited socket of type SOCK_SEQPACKET; plasma-store is started by rayletd");
  }
  fcntl(descriptor, F_SETFD, FD_CLOEXEC);
  return Done{};
}

int run(const Flags& flags) {
  if (Status set = set_up_log("store", flags.log_level); !set.ok()) return fail(set.error(), kExitFlags);
  if (flags.capacity_bytes < plasma::Store::kCapacityBytesMin) {
    return fail(invalid("--capacity: expected at least " + std::to_string(plasma::Store::kCapacityBytesMin) +
                        " bytes, got " + std::to_string(flags.capacity_bytes)),
                kExitFlags);
  }
  if (Status channel = check_channel(flags.channel_fd); !channel.ok()) return fail(channel.error(), kExitFlags);

  Loop loop;
  plasma::StoreOptions options;
  options.capacity_bytes = flags.capacity_bytes;
  options.warm_ahead_bytes = warm_ahead_bytes(options.warm_ahead_bytes);
  StoreDaemon daemon(loop, FileDescriptor(flags.channel_fd), options, [&](std::string reason) {
    log::info("the raylet is gone: {}", reason);
    loop.stop();
  });
  StoreService service(loop, daemon);
  GrpcServer::Options doors;
  doors.unix_addresses = {flags.listen};
  doors.services = {&service};
  auto started = GrpcServer::start(loop, doors);
  if (!started.ok()) return fail(started.error(), kExitRefused);
  std::unique_ptr<GrpcServer> server = *std::move(started);
  std::unique_ptr<MetricsHttp> metrics;
  if (!flags.metrics_http.empty()) {
    auto listening = MetricsHttp::listen(loop, flags.metrics_http, [&] { return service.metrics_text(); });
    if (!listening.ok()) return fail(listening.error(), kExitRefused);
    metrics = *std::move(listening);
  }
  log::info("started capacity={} listen={}", flags.capacity_bytes, flags.listen);
  loop.run();

  // Calls that were posted are still answered, so that the server can go down.
  loop.poll();
  server->stop_listening();
  server->shutdown(kServerGrace);
  log::info("stopped");
  close_log();
  return 0;
}

}  // namespace
}  // namespace raylet

int main(int argc, char** argv) {
  raylet::Flags flags;
  CLI::App app("The object store of a raylet node; rayletd starts it and is the only one it obeys.",
               "plasma-store");
  app.add_option("--channel-fd", flags.channel_fd, "Inherited SEQPACKET socket to the raylet")->required();
  app.add_option("--capacity", flags.capacity_bytes, "How many bytes it may hold")->required();
  app.add_option("--listen", flags.listen, "Where to serve gRPC: unix:/path")->required();
  app.add_option("--log-level", flags.log_level, "trace, debug, info, warn, error or off");
  app.add_option("--metrics-http", flags.metrics_http, "Serve GET /metrics at host:port");
  if (std::optional<int> exit_code = raylet::parse_flags(app, argc, argv)) return *exit_code;
  return raylet::run(flags);
}
