// WorkerFleet: all workers of the node: started, fed, interrupted, stopped, and their deaths told to the core.
//
// What always holds:
//   * Each StartWorker is answered once: WorkerArrived, or WorkerStartFailed (also when it dies, or stays
//     silent, before its hello).
//   * A worker that arrived ends in one WorkerExited, after every frame it sent; then comes its SessionClosed.
//   * Processes that a dead worker left behind are killed.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "daemons/raylet/core/effects.h"
#include "daemons/raylet/session_host.h"
#include "daemons/raylet/timeline_table.h"
#include "daemons/raylet/worker_process.h"
#include "daemons/raylet/zygote_link.h"

namespace raylet {

class WorkerFleet {
 public:
  // From the wish to start it to its hello.
  static constexpr Duration kStartWaitMax = std::chrono::seconds(60);
  // A fork that fails is asked for again, so that a zygote's death is no worker's.
  static constexpr int kForkTriesMax = 3;
  // Between "leave" and SIGKILL.
  static constexpr Duration kLeaveWaitMax = std::chrono::seconds(1);
  static constexpr size_t kLastWordsBytesMax = 2'000;

  struct Options {
    ZygoteLink::Options zygote;
    std::string log_directory;
  };
  struct Handlers {
    std::function<void(const JobId& job, v1::OutputLines lines)> on_output;
    std::function<void(const WorkerVersions& versions, const std::string& trouble)> on_versions;
  };

  WorkerFleet(Loop& loop, SessionHost& host, ChildTable& children, TimelineTable& timeline, Options options,
              Handlers handlers);

  void start() { zygote_.start(); }
  // The job's JobSetup as it came; sent with the first batch of the job to each worker.
  void set_setup(const JobId& job, const JobSetup& setup);
  void forget_job(const JobId& job) { setups_.erase(job); }

  void perform(const StartWorker& effect);
  void perform(const StopWorker& effect);
  void perform(SendBatch& effect);
  void perform(const RetractBatches& effect);
  void perform(const InterruptTask& effect);

  // A worker's session, or nothing.
  WorkerProcess* find(SessionId session);
  void answer(WorkerProcess& worker, const AnswerGet& effect);
  void grant(WorkerProcess& worker, const GrantSlab& effect);
  void forget_segments();

  size_t process_count() const { return workers_.size(); }
  size_t queued_packets() const;
  // Tells every worker to leave and the zygote to go; kill_all() ends those that have not.
  void leave_all();
  void kill_all();

 private:
  void receive(WorkerProcess& worker, v1::ClientFrame frame, size_t wire_bytes);
  void greet(WorkerProcess& worker, const v1::ClientFrame& frame);
  void start(WorkerId worker, int tries);
  void forked(WorkerId worker, pid_t pid);
  void fork_failed(WorkerId worker, const std::string& reason);
  void exited(WorkerId worker, int status);
  void start_failed(WorkerId worker, const std::string& reason);
  void remove(WorkerProcess& worker);

  Loop& loop_;
  SessionHost& host_;
  ChildTable& children_;
  TimelineTable& timeline_;
  Options options_;
  Handlers handlers_;
  ZygoteLink zygote_;
  std::unordered_map<WorkerId, std::unique_ptr<WorkerProcess>> workers_;
  std::unordered_map<SessionId, WorkerProcess*> by_session_;
  std::unordered_map<JobId, Bytes> setups_;
  uint64_t oom_kills_seen_ = 0;
  bool leaving_ = false;
};

}  // namespace raylet
