// ChildTable: every child of this process and who is told of its death.
//
// The process is the subreaper of all that it starts, so it also inherits the workers (the zygote forks twice)
// and whatever a dead worker left behind. Pids are reaped here alone, on the loop's thread, so that a pid held
// here is never another process's. A worker's death can be seen before the zygote has told its pid: while a
// fork is expected, unknown deaths are kept for whoever comes to watch.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <unordered_map>

#include "daemons/kit/loop.h"

namespace raylet {

class ChildTable {
 public:
  // What waitpid said.
  using OnExit = std::function<void(int status)>;

  // Makes the process a subreaper.
  explicit ChildTable(Loop& loop);
  ~ChildTable();

  // `on_exit` is called once, from the loop, never from within watch().
  void watch(pid_t pid, OnExit on_exit);
  // The watcher is told no more; the child is still reaped.
  void forget(pid_t pid);

  // A fork whose pid will come (or not): settle() once for each.
  void expect_fork() { ++expected_forks_; }
  void settle_fork();

  // SIGKILL to every child that nobody watches: what dead workers left behind. Waits for expected forks.
  void kill_strays();

  size_t watched_count() const { return watched_.size(); }
  // Reaps what has died, without waiting for the signal.
  void reap();

 private:
  struct Signal;
  void wait_for_signal();
  void kill_strays_now();

  Loop& loop_;
  std::unique_ptr<Signal> signal_;
  std::unordered_map<pid_t, OnExit> watched_;
  std::unordered_map<pid_t, int> early_exits_;
  int expected_forks_ = 0;
  bool strays_due_ = false;
};

}  // namespace raylet
