#include "daemons/raylet/child_table.h"

#include <dirent.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <fstream>
#include <string>

#include "daemons/kit/asio.h"
#include "daemons/kit/log.h"

namespace raylet {
namespace {

// Orphans are given to any of our threads, so every thread's children are read.
std::vector<pid_t> all_children() {
  std::vector<pid_t> children;
  DIR* directory = opendir("/proc/self/task");
  if (directory == nullptr) return children;
  while (dirent* entry = readdir(directory)) {
    if (entry->d_name[0] == '.') continue;
    std::ifstream list("/proc/self/task/" + std::string(entry->d_name) + "/children");
    for (pid_t pid; list >> pid;) children.push_back(pid);
  }
  closedir(directory);
  return children;
}

}  // namespace

struct ChildTable::Signal {
  explicit Signal(Loop& loop) : set(loop.io(), SIGCHLD) {}
  asio::signal_set set;
};

ChildTable::ChildTable(Loop& loop) : loop_(loop), signal_(std::make_unique<Signal>(loop)) {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  wait_for_signal();
}

ChildTable::~ChildTable() = default;

void ChildTable::wait_for_signal() {
  signal_->set.async_wait([this](boost::system::error_code error, int) {
    if (error) return;
    wait_for_signal();
    reap();
  });
}

void ChildTable::watch(pid_t pid, OnExit on_exit) {
  if (auto early = early_exits_.find(pid); early != early_exits_.end()) {
    loop_.post([status = early->second, on_exit = std::move(on_exit)] { on_exit(status); });
    early_exits_.erase(early);
    return;
  }
  watched_[pid] = std::move(on_exit);
}

void ChildTable::forget(pid_t pid) {
  if (auto found = watched_.find(pid); found != watched_.end()) found->second = [](int) {};
}

void ChildTable::settle_fork() {
  MUST(expected_forks_ > 0, "a fork was settled twice");
  if (--expected_forks_ > 0) return;
  early_exits_.clear();
  if (strays_due_) kill_strays_now();
}

void ChildTable::kill_strays() {
  strays_due_ = true;
  if (expected_forks_ == 0) kill_strays_now();
}

void ChildTable::kill_strays_now() {
  strays_due_ = false;
  for (pid_t pid : all_children()) {
    if (watched_.contains(pid)) continue;
    log::info("stray process killed pid={}", pid);
    kill(pid, SIGKILL);
  }
}

void ChildTable::reap() {
  int status = 0;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    auto found = watched_.find(pid);
    if (found == watched_.end()) {
      if (expected_forks_ > 0) early_exits_[pid] = status;
      continue;
    }
    OnExit on_exit = std::move(found->second);
    watched_.erase(found);
    on_exit(status);
  }
}

}  // namespace raylet
