// ZygoteLink: one warm Python process that forks workers on demand, started again when it dies.
//
// What always holds: a fork() is answered exactly once, by on_forked or on_fork_failed, unless stop() came
// first. A zygote that dies fails the forks it was asked for; their sockets close and a worker that was born
// all the same sees that and leaves. Forks wait for a zygote to be ready, unless kFailuresMax in a row were not.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "daemons/kit/packet_link.h"
#include "daemons/raylet/child_table.h"
#include "daemons/raylet/hello_policy.h"
#include "protocol/words/ids.h"

namespace raylet {

class ZygoteLink {
 public:
  static constexpr Duration kBackoffMin = std::chrono::milliseconds(50);
  static constexpr Duration kBackoffMax = std::chrono::seconds(5);
  static constexpr int kFailuresMax = 3;
  // A zygote that has not said that it is ready by then is killed.
  static constexpr Duration kReadyWaitMax = std::chrono::seconds(60);

  struct Options {
    std::string python;
    std::string log_path;
    std::vector<std::string> environment;
  };
  struct Handlers {
    std::function<void(const WorkerVersions& versions)> on_ready;
    // It died; the next try follows by itself. `trouble` is for people.
    std::function<void(const std::string& trouble)> on_trouble;
    std::function<void(WorkerId worker, pid_t pid)> on_forked;
    std::function<void(WorkerId worker, const std::string& reason)> on_fork_failed;
  };

  ZygoteLink(Loop& loop, ChildTable& children, Options options, Handlers handlers);
  void start();
  // `socket` is the worker's end of its session.
  void fork(WorkerId worker, const std::string& stdout_path, const std::string& stderr_path,
            FileDescriptor socket);
  void preload(const std::vector<std::string>& modules);
  // Kills it; no handler is called any more.
  void stop();

  bool is_ready() const { return ready_; }
  pid_t pid() const { return pid_; }

 private:
  void receive(Packet packet);
  void exited(int status);
  void fail(const std::string& trouble);
  void send(const std::string& frame, FileDescriptor descriptor = {});

  Loop& loop_;
  ChildTable& children_;
  Options options_;
  Handlers handlers_;
  std::unique_ptr<PacketLink> link_;
  Alarm restart_alarm_;
  Alarm ready_alarm_;
  Duration backoff_ = kBackoffMin;
  pid_t pid_ = 0;
  int failures_ = 0;  // in a row, without one that was ready
  bool ready_ = false;
  bool stopped_ = false;
  std::unordered_set<WorkerId> asked_;  // of the zygote that runs
  // Asked for while none was ready: the frames, each with its socket.
  struct Waiting {
    WorkerId worker;
    std::string frame;
    FileDescriptor socket;
  };
  std::vector<Waiting> waiting_;
};

}  // namespace raylet
