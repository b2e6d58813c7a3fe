// `raylet stop`: asks a node's supervisor to end everything and waits until it has.
#include <fmt/core.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>

#include "daemons/cli/commands.h"
#include "daemons/cli/session_directory.h"

namespace raylet {
namespace {

constexpr int kStopWaitMs = 8'000;  // more than all of the supervisor's own limits together
constexpr int kKillWaitMs = 3'000;

bool wait_for_end(int process, int wait_ms) {
  pollfd wait{process, POLLIN, 0};
  return poll(&wait, 1, wait_ms) > 0;
}

void kill_what_is_left(const nlohmann::json& node, pid_t supervisor) {
  kill(supervisor, SIGKILL);
  if (!node.contains("pids") || !node["pids"].is_object()) return;
  for (const auto& [component, pid] : node["pids"].items()) {
    if (component != "supervisor" && pid.is_number_integer()) kill(pid.get<pid_t>(), SIGKILL);
  }
}

}  // namespace

int stop_command(const StopOptions& options) {
  const auto fail = [](const std::string& message) {
    std::cerr << "raylet stop: " << message << std::endl;
    return 1;
  };
  auto found = find_session(options.session_directory);
  if (!found.ok()) return fail(found.error().message);
  const auto supervisor = live_supervisor(*found);
  if (!supervisor) {
    // A supervisor that was killed left its files behind; its daemons ended themselves.
    if (!read_node_json(*found).ok()) return fail(fmt::format("no node is running in {}", *found));
    auto session = SessionDirectory::create(*found);
    if (!session.ok()) return fail(session.error().message);
    session->remove_all();
    std::cout << "no node was running in " << *found << "; removed what it had left" << std::endl;
    return 0;
  }
  const int process = static_cast<int>(syscall(SYS_pidfd_open, *supervisor, 0));
  if (process < 0) {
    if (errno == ESRCH) return 0;
    return fail(fmt::format("can't watch the supervisor (pid {}): {}", *supervisor, std::strerror(errno)));
  }
  if (kill(*supervisor, SIGTERM) != 0)
    return fail(fmt::format("can't stop pid {}: {}", *supervisor, std::strerror(errno)));
  bool ended = wait_for_end(process, kStopWaitMs);
  if (!ended && options.force) {
    if (auto node = read_node_json(*found); node.ok()) {
      kill_what_is_left(*node, *supervisor);
    } else {
      kill(*supervisor, SIGKILL);
    }
    ended = wait_for_end(process, kKillWaitMs);
    if (ended) {
      if (auto session = SessionDirectory::create(*found); session.ok()) session->remove_all();
    }
  }
  close(process);
  if (!ended) {
    return fail(fmt::format("the node in {} has not stopped within {} s; see {}, or kill it: raylet stop --force",
                            *found, kStopWaitMs / 1000, SessionPaths(*found).log("supervisor")));
  }
  std::cout << "stopped the node in " << *found << std::endl;
  return 0;
}

}  // namespace raylet
