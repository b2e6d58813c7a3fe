// NullWorkers: workers that exist in name only and answer every task at once with None, so that a benchmark
// sees the scheduler and the driver's connection alone.
#pragma once

#include <unordered_map>

#include "daemons/raylet/core/effects.h"
#include "daemons/raylet/core/events.h"
#include "daemons/raylet/session_host.h"

namespace raylet {

class NullWorkers {
 public:
  explicit NullWorkers(SessionHost& host);

  void perform(const StartWorker& effect);
  void perform(const StopWorker& effect);
  void perform(const SendBatch& effect);
  void perform(const RetractBatches& effect);

  bool has(SessionId session) const { return workers_.contains(session); }

 private:
  SessionHost& host_;
  Bytes none_;
  std::unordered_map<WorkerId, SessionId> sessions_;
  std::unordered_map<SessionId, WorkerId> workers_;
};

}  // namespace raylet
