// `raylet start`: look, plan, make the session directory, go into the background if asked to, supervise.
#include <fcntl.h>
#include <fmt/core.h>
#include <netdb.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <memory>

#include "daemons/cli/commands.h"
#include "daemons/cli/machine.h"
#include "daemons/cli/node_plan.h"
#include "daemons/cli/redis_check.h"
#include "daemons/cli/session_directory.h"
#include "daemons/cli/sizes.h"
#include "daemons/cli/supervisor.h"
#include "daemons/kit/log.h"

namespace raylet {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kDiskFreeBytesMin = uint64_t{64} << 20;

bool runs(const std::string& path) { return access(path.c_str(), X_OK) == 0 && !fs::is_directory(path); }

std::string in_path(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::string_view rest = path == nullptr ? "/usr/bin:/bin" : path;
  while (!rest.empty()) {
    const size_t colon = rest.find(':');
    const std::string candidate = std::string(rest.substr(0, colon)) + "/" + name;
    if (runs(candidate)) return candidate;
    rest = colon == std::string_view::npos ? "" : rest.substr(colon + 1);
  }
  return "";
}

// Our daemons lie beside this program: in bin/, or as Bazel built them.
Result<std::string> own_program(const fs::path& directory, const std::string& name, const std::string& in_build) {
  for (const fs::path& candidate : {directory / name, directory / ".." / in_build / name}) {
    if (runs(candidate)) return fs::weakly_canonical(candidate).string();
  }
  return Error{Code::kNotFound,
               fmt::format("{} is not beside {}; build it: make build", name, (directory / "raylet").string())};
}

Result<Programs> find_programs(const StartOptions& options) {
  const fs::path directory = fs::read_symlink("/proc/self/exe").parent_path();
  auto gcs = own_program(directory, "gcs", "head");
  if (!gcs.ok()) return gcs.error();
  auto rayletd = own_program(directory, "rayletd", "raylet");
  if (!rayletd.ok()) return rayletd.error();
  auto store = own_program(directory, "plasma-store", "store");
  if (!store.ok()) return store.error();
  Programs programs{.gcs = *gcs, .rayletd = *rayletd, .plasma_store = *store};
  if (options.redis_address.empty()) {
    programs.redis_server = in_path("redis-server");
    if (programs.redis_server.empty()) {
      return Error{Code::kNotFound,
                   "redis-server is not in PATH; install it (apt-get install redis-server) or name a "
                   "running one with --redis-address"};
    }
  }
  const fs::path checkout = directory.parent_path();
  if (!options.python.empty()) {
    programs.python = options.python.find('/') == std::string::npos ? in_path(options.python) : options.python;
    if (!runs(programs.python))
      return invalid(fmt::format("--python: expected a Python interpreter, but {} can't be run", options.python));
  } else {
    programs.python = (checkout / ".venv/bin/python").string();
    if (!runs(programs.python)) programs.python = in_path("python3");
    if (programs.python.empty())
      return Error{Code::kNotFound, "python3 is not in PATH; name an interpreter with --python"};
  }
  if (fs::exists(checkout / "client/ray/__init__.py")) programs.client_directory = (checkout / "client").string();
  return programs;
}

// Port 0 becomes a free one. An error if the port can't be had.
Status settle_listen(std::string* listen) {
  auto address = parse_host_port(*listen);
  if (!address.ok()) return invalid("--listen: " + address.error().message);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(address->host.c_str(), std::to_string(address->port).c_str(), &hints, &found);
      error != 0) {
    return invalid(fmt::format("--listen: can't resolve {}: {}", address->host, gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);
  const int probe = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (probe < 0) return Error{Code::kInternal, fmt::format("socket: {}", std::strerror(errno))};
  const int yes = 1;
  setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  const bool bound = bind(probe, found->ai_addr, found->ai_addrlen) == 0 && ::listen(probe, 1) == 0;
  const int error = errno;
  sockaddr_storage name{};
  socklen_t size = sizeof(name);
  getsockname(probe, reinterpret_cast<sockaddr*>(&name), &size);
  close(probe);
  if (!bound) {
    const bool taken = error == EADDRINUSE;
    return Error{
        taken ? Code::kAlreadyExists : Code::kFailedPrecondition,
        fmt::format("--listen: can't listen at {}: {}{}", *listen, std::strerror(error),
                    taken ? "; another process has the port: choose another, or port 0 for a free one" : "")};
  }
  if (address->port == 0) {
    const uint16_t port = ntohs(name.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&name)->sin6_port
                                                           : reinterpret_cast<sockaddr_in*>(&name)->sin_port);
    *listen = listen->substr(0, listen->rfind(':') + 1) + std::to_string(port);
  }
  return Done{};
}

Status check_room(const std::string& directory) {
  struct statvfs disk{};
  if (statvfs(directory.c_str(), &disk) != 0) return Done{};
  const uint64_t free_bytes = static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
  if (free_bytes >= kDiskFreeBytesMin) return Done{};
  return Error{Code::kResourceExhausted,
               fmt::format("the disk of {} is full: {} are free, at least {} are needed; free some space or "
                           "choose another disk with --session-dir",
                           directory, format_size(free_bytes), format_size(kDiskFreeBytesMin))};
}

std::string how_to_use(const NodePlan& plan, const std::string& program) {
  std::string text = fmt::format("A Raylet node is running: {:g} CPUs, {} for objects.\n\n", plan.cpus,
                                 format_size(plan.object_store_bytes));
  text += "  from Python:    import ray; ray.init(address=\"auto\")\n";
  if (!plan.tcp_address.empty()) {
    text += fmt::format("  from afar:      ray.init(\"{}\") with the token of {}\n", plan.tcp_address,
                        plan.paths.token);
  }
  text += fmt::format("  look at it:     {} status --watch\n", program);
  text += fmt::format("  its logs:       {} logs -f     ({})\n", program, plan.paths.logs);
  text += fmt::format("  stop it:        {} stop\n", program);
  return text;
}

int fail(const Error& error) {
  std::cerr << "raylet start: " << error.message << std::endl;
  return 1;
}

// Leaves for the background. In the process that stays in the foreground: waits for the news of the other
// one, prints it and exits. Returns the pipe for the news in the other one.
Result<int> go_into_background() {
  int news[2];
  if (pipe2(news, O_CLOEXEC) != 0) return Error{Code::kInternal, fmt::format("pipe: {}", std::strerror(errno))};
  std::cout.flush();
  const pid_t pid = fork();
  if (pid < 0) return Error{Code::kInternal, fmt::format("fork: {}", std::strerror(errno))};
  if (pid == 0) {
    close(news[0]);
    setsid();
    return news[1];
  }
  close(news[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t size; (size = read(news[0], buffer, sizeof(buffer))) > 0;)
    text.append(buffer, static_cast<size_t>(size));
  const bool good = !text.empty() && text[0] == '+';
  if (text.empty()) text = "-raylet start: the supervisor died while the node was starting";
  (good ? std::cout : std::cerr) << text.substr(1) << std::flush;
  _exit(good ? 0 : 1);
}

// From here on what the supervisor says goes to its log; the first descriptor that is free takes stderr.
int send_output_to(const std::string& log) {
  const int terminal = fcntl(2, F_DUPFD_CLOEXEC, 3);
  const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (file >= 0) {
    dup2(file, 2);
    close(file);
  }
  return terminal;
}

void close_standard_streams() {
  const int null = open("/dev/null", O_RDWR);
  dup2(null, 0);
  dup2(null, 1);
  if (null > 2) close(null);
}

void tell(int descriptor, const std::string& text) {
  [[maybe_unused]] const ssize_t size = write(descriptor, text.data(), text.size());
}

// gRPC servers with many sessions need descriptors, and the children inherit the limit.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int start_command(const StartOptions& wished, const std::string& program) {
  StartOptions options = wished;
  if (!options.head) {
    return fail(invalid("expected --head: a node that joins the head of another machine is not supported yet"));
  }
  if (options.lifeline_fd >= 0 && fcntl(options.lifeline_fd, F_SETFD, FD_CLOEXEC) != 0) {
    return fail(invalid(fmt::format("--lifeline-fd: expected an open descriptor, got {}", options.lifeline_fd)));
  }
  auto programs = find_programs(options);
  if (!programs.ok()) return fail(programs.error());
  if (!options.redis_address.empty()) {
    if (auto status = check_redis(options.redis_address); !status.ok()) return fail(status.error());
  }
  if (!options.listen.empty()) {
    if (auto status = settle_listen(&options.listen); !status.ok()) return fail(status.error());
  }
  const std::string directory = options.session_directory.empty()
                                    ? new_session_name()
                                    : fs::absolute(options.session_directory).lexically_normal().string();
  const char* python_path = std::getenv("PYTHONPATH");
  auto plan =
      plan_node(options, look_at_machine(), *programs, directory, python_path == nullptr ? "" : python_path);
  if (!plan.ok()) return fail(plan.error());

  auto session = SessionDirectory::create(directory);
  if (!session.ok()) return fail(session.error());
  auto prepared = check_room(directory);
  if (prepared.ok() && !plan->tcp_address.empty()) prepared = session->write_token();
  if (!prepared.ok()) {
    session->remove_all();
    return fail(prepared.error());
  }
  raise_descriptor_limit();

  int news = -1;
  const bool foreground = options.block || options.private_node;
  if (!foreground) {
    auto background = go_into_background();
    if (!background.ok()) return fail(background.error());
    news = *background;
  }
  const int terminal = send_output_to(session->paths().log("supervisor"));
  if (!foreground) close_standard_streams();
  const auto say = [&](bool good, const std::string& text) {
    if (news >= 0) {
      tell(news, (good ? "+" : "-") + text);
      close(news);
      news = -1;
    } else if (!good || !options.private_node) {
      tell(good ? 1 : terminal, text);
    }
  };
  (void)set_up_log("supervisor", options.log_level);

  Supervisor supervisor(*plan, *session,
                        {.lifeline = options.lifeline_fd,
                         .ignore_interrupt = options.private_node,
                         .wait_for_store = !options.private_node && !options.null_workers});
  auto status = session->write_pid();
  if (status.ok()) status = supervisor.start();
  if (status.ok() && !options.private_node) status = session->make_current();
  if (!status.ok()) {
    say(false, fmt::format("raylet start: {}\n", status.error().message));
    if (status.error().code == Code::kCancelled) {
      session->remove_all();
    } else {
      session->remove_all_but_logs();
      if (foreground)
        tell(terminal, fmt::format("raylet start: the logs are kept in {}\n", session->paths().logs));
    }
    return 1;
  }
  say(true, how_to_use(*plan, program));
  if (!foreground) close(terminal);

  const auto ended = supervisor.run();
  if (ended.ok()) {
    session->remove_all();
    return 0;
  }
  session->remove_all_but_logs();
  if (foreground) {
    tell(terminal, fmt::format("raylet: the node ended: {}\nIts logs are kept in {}\n", ended.error().message,
                               session->paths().logs));
  }
  return 1;
}

}  // namespace raylet
