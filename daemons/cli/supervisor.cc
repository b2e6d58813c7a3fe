#include "daemons/cli/supervisor.h"

#include <fmt/core.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "daemons/kit/log.h"
#include "daemons/kit/log_tail.h"
#include "daemons/kit/version.h"

namespace raylet {
namespace {

uint64_t now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1'000'000;
}

// True iff somebody listens there.
bool answers(const std::string& path, int type) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return false;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int probe = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return false;
  const bool connected = connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  close(probe);
  return connected;
}

std::vector<pid_t> processes_of_parent(pid_t parent) {
  std::vector<pid_t> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    if (name.empty() || name[0] < '0' || name[0] > '9') continue;
    std::ifstream file(entry.path() / "stat");
    std::string text;
    std::getline(file, text);
    // The command, in parentheses, may hold anything; state and parent follow the last one.
    const size_t at = text.rfind(')');
    if (at == std::string::npos || at + 4 > text.size()) continue;
    if (std::strtol(text.c_str() + at + 4, nullptr, 10) == parent)
      found.push_back(static_cast<pid_t>(std::stol(name)));
  }
  return found;
}

}  // namespace

Supervisor::Supervisor(NodePlan plan, SessionDirectory& session, Options options)
    : plan_(std::move(plan)), session_(session), options_(options) {
  redis_ = {.command = plan_.redis, .stop_ms = kRedisStopMs};
  gcs_ = {.command = plan_.gcs, .stop_ms = kHeadStopMs};
  rayletd_ = {.command = plan_.rayletd, .stop_ms = kRayletStopMs};
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGHUP);
  if (options_.ignore_interrupt) {
    signal(SIGINT, SIG_IGN);
  } else {
    sigaddset(&set, SIGINT);
  }
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signals_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
}

Supervisor::~Supervisor() {
  if (signals_ >= 0) close(signals_);
}

Status Supervisor::start_program(Program& program) {
  std::vector<std::string> environment;
  if (!plan_.python_path.empty()) environment.push_back("PYTHONPATH=" + plan_.python_path);
  auto started =
      ChildProcess::start(program.command.arguments, environment, plan_.paths.log(program.command.component));
  if (!started.ok()) return started.error();
  program.process = std::move(*started);
  program.start_at_ms = 0;
  log::info("started component={} pid={}", program.command.component, program.process.pid());
  return Done{};
}

Status Supervisor::start() {
  const auto started = [&]() -> Status {
    // All at once: gcs waits for Redis by itself, and rayletd for gcs.
    if (plan_.own_redis) RETURN_IF_ERROR(start_program(redis_));
    RETURN_IF_ERROR(start_program(gcs_));
    RETURN_IF_ERROR(start_program(rayletd_));
    RETURN_IF_ERROR(wait_until_ready());
    ready_ = true;
    return write_node_json("ready", "");
  }();
  if (!started.ok()) {
    log::error("the node did not start: {}", started.error().message);
    stop_all();
  }
  return started;
}

Status Supervisor::wait_until_ready() {
  const uint64_t give_up_ms = now_ms() + kStartWaitMs;
  const SessionPaths& paths = plan_.paths;
  while (true) {
    const bool redis_answers = !plan_.own_redis || answers(paths.redis_socket, SOCK_STREAM);
    const bool gcs_answers = redis_answers && answers(paths.gcs_grpc, SOCK_STREAM);
    const bool raylet_answers =
        gcs_answers && answers(paths.raylet_grpc, SOCK_STREAM) && answers(paths.raylet_socket, SOCK_SEQPACKET);
    const bool store_answers =
        raylet_answers && (!options_.wait_for_store || answers(paths.store_grpc, SOCK_STREAM));
    if (store_answers) return Done{};
    const Turn turn = this->turn(kPollMs);
    if (!turn.broken.ok()) return turn.broken.error();
    if (turn.stop) return Error{Code::kCancelled, "was told to stop while the node was starting"};
    if (now_ms() < give_up_ms) continue;
    const Program& late = !redis_answers ? redis_ : !gcs_answers ? gcs_ : rayletd_;
    return Error{Code::kDeadlineExceeded, fmt::format("{} did not answer within {} s; {}",
                                                      raylet_answers ? "the plasma-store" : late.command.component,
                                                      kStartWaitMs / 1000, last_words(late))};
  }
}

Status Supervisor::run() {
  Turn last;
  do {
    last = turn(wait_ms());
  } while (!last.stop && last.broken.ok());
  if (!last.broken.ok()) {
    log::error("the node ends: {}", last.broken.error().message);
  } else {
    log::info("the node ends because it was told to");
  }
  stop_all();
  if (!last.broken.ok()) {
    if (auto written = write_node_json("failed", last.broken.error().message); !written.ok()) {
      log::error("{}", written.error().message);
    }
  }
  return last.broken;
}

int Supervisor::wait_ms() const {
  int wait = -1;
  for (const Program* program : {&redis_, &gcs_}) {
    if (program->start_at_ms == 0) continue;
    const uint64_t now = now_ms();
    const int left = program->start_at_ms > now ? static_cast<int>(program->start_at_ms - now) : 0;
    wait = wait < 0 ? left : std::min(wait, left);
  }
  return wait;
}

Supervisor::Turn Supervisor::turn(int wait_ms) {
  std::array<pollfd, 5> waits = {{{signals_, POLLIN, 0},
                                  {options_.lifeline, POLLIN, 0},
                                  {redis_.process.descriptor(), POLLIN, 0},
                                  {gcs_.process.descriptor(), POLLIN, 0},
                                  {rayletd_.process.descriptor(), POLLIN, 0}}};
  Turn turn;
  if (poll(waits.data(), waits.size(), wait_ms) < 0 && errno != EINTR) {
    turn.broken = Error{Code::kInternal, fmt::format("poll: {}", std::strerror(errno))};
    return turn;
  }
  turn.stop = take_signals();
  if (waits[1].revents != 0) {
    char ignored[16];
    const ssize_t size = read(options_.lifeline, ignored, sizeof(ignored));
    if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) {
      log::info("the lifeline ended");
      turn.stop = true;
    }
  }
  // A death that is part of stopping is no failure.
  if (turn.stop) return turn;
  turn.broken = take_deaths();
  if (turn.broken.ok()) turn.broken = start_what_is_due();
  return turn;
}

bool Supervisor::take_signals() {
  bool stop = false;
  signalfd_siginfo info;
  while (read(signals_, &info, sizeof(info)) == sizeof(info)) {
    log::info("got signal {} from pid {}", info.ssi_signo, info.ssi_pid);
    stop = true;
  }
  return stop;
}

Status Supervisor::take_deaths() {
  for (Program* program : {&rayletd_, &gcs_, &redis_}) {
    if (!program->process.running()) continue;
    const pid_t pid = program->process.pid();
    const std::string death = program->process.reap();
    if (death.empty()) continue;
    const std::string& component = program->command.component;
    if (program == &rayletd_ || !ready_) {
      return Error{Code::kUnavailable,
                   fmt::format("{} (pid {}) {}; {}", component, pid, death, last_words(*program))};
    }
    const auto wait = program->policy.on_death(now_ms());
    if (!wait) {
      return Error{
          Code::kUnavailable,
          fmt::format("{} {}, for the {}th time within {} s, and is not started again; {}", component, death,
                      RestartPolicy::kDeathsMax, RestartPolicy::kWindowMs / 1000, last_words(*program))};
    }
    log::warn("component={} pid={} {}; starting it again in {} ms", component, pid, death, *wait);
    program->start_at_ms = std::max<uint64_t>(1, now_ms() + *wait);
  }
  return Done{};
}

Status Supervisor::start_what_is_due() {
  for (Program* program : {&redis_, &gcs_}) {
    if (program->start_at_ms == 0 || now_ms() < program->start_at_ms) continue;
    RETURN_IF_ERROR(start_program(*program));
    RETURN_IF_ERROR(write_node_json("ready", ""));
  }
  return Done{};
}

void Supervisor::stop_all() {
  stop_program(rayletd_);
  end_orphans();
  stop_program(gcs_);
  stop_program(redis_);
}

void Supervisor::stop_program(Program& program) {
  program.start_at_ms = 0;
  if (!program.process.running()) return;
  program.process.signal(SIGTERM);
  pollfd wait{program.process.descriptor(), POLLIN, 0};
  const uint64_t give_up_ms = now_ms() + static_cast<uint64_t>(program.stop_ms);
  while (now_ms() < give_up_ms && poll(&wait, 1, static_cast<int>(give_up_ms - now_ms())) < 0 && errno == EINTR) {
  }
  std::string death = program.process.reap();
  if (death.empty()) {
    log::warn("component={} pid={} did not stop within {} ms and is killed", program.command.component,
              program.process.pid(), program.stop_ms);
    program.process.signal(SIGKILL);
    wait = {program.process.descriptor(), POLLIN, 0};
    poll(&wait, 1, program.stop_ms);
    death = program.process.reap();
  }
  log::info("stopped component={}: {}", program.command.component, death);
}

// Store, zygote and workers of a rayletd that is gone: they notice by themselves and get a moment for it.
void Supervisor::end_orphans() {
  const uint64_t give_up_ms = now_ms() + kOrphanStopMs;
  for (bool killed = false;;) {
    while (true) {
      const pid_t gone = waitpid(-1, nullptr, WNOHANG | __WNOTHREAD);
      if (gone <= 0) break;
      // gcs and Redis are ours to stop afterwards; one that died right here is done already.
      for (Program* program : {&gcs_, &redis_}) {
        if (program->process.pid() == gone) program->process = ChildProcess();
      }
    }
    std::vector<pid_t> orphans = processes_of_parent(getpid());
    std::erase_if(orphans, [&](pid_t pid) { return pid == gcs_.process.pid() || pid == redis_.process.pid(); });
    if (orphans.empty()) return;
    if (now_ms() >= give_up_ms) {
      if (killed && now_ms() >= give_up_ms + kRayletStopMs) return;
      for (const pid_t pid : orphans) kill(pid, SIGKILL);
      if (!killed) log::warn("killed {} processes that outlived rayletd", orphans.size());
      killed = true;
    }
    usleep(2'000);
  }
}

Status Supervisor::write_node_json(const std::string& state, const std::string& error) const {
  const SessionPaths& paths = plan_.paths;
  nlohmann::ordered_json node;
  node["state"] = state;
  if (!error.empty()) node["error"] = error;
  node["version"] = kVersion;
  node["session_directory"] = paths.directory;
  node["raylet_socket"] = paths.raylet_socket;
  node["raylet_address"] = "unix:" + paths.raylet_grpc;
  node["tcp_address"] = plan_.tcp_address;
  node["head_address"] = "unix:" + paths.gcs_grpc;
  node["store_address"] = "unix:" + paths.store_grpc;
  node["redis_socket"] = plan_.own_redis ? paths.redis_socket : "";
  node["redis_address"] = plan_.redis_address;
  node["token_path"] = plan_.tcp_address.empty() ? "" : paths.token;
  node["pids"] = {{"supervisor", getpid()}};
  for (const Program* program : {&gcs_, &rayletd_, &redis_}) {
    if (program->process.running()) node["pids"][program->command.component] = program->process.pid();
  }
  return session_.write_node_json(node);
}

std::string Supervisor::last_words(const Program& program) const {
  constexpr size_t kTailBytes = 1'500;
  const std::string path = plan_.paths.log(program.command.component);
  const std::string text = read_tail(path, kTailBytes);
  return text.empty() ? fmt::format("it said nothing in {}", path) : fmt::format("{} ends with:\n{}", path, text);
}

}  // namespace raylet
