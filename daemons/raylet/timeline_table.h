// TimelineTable: what ran where and when: the tasks under way in every worker and the last kFinishedMax that
// finished, by whole batches, so that recording costs nothing per task but a few stores.
//
// A batch is added when it is sent, results are noted as they come, and it moves to the finished ones when
// every task of it was reported or its worker is gone. A task that was taken back has no entry.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemons/raylet/core/effects.h"
#include "daemons/raylet/core/events.h"
#include "protocol/words/time.h"

namespace raylet {

class TimelineTable {
 public:
  static constexpr uint64_t kFinishedMax = 100'000;
  // Beyond it the names of older functions are forgotten.
  static constexpr size_t kFunctionNamesMax = 100'000;

  struct Entry {
    std::string name;
    GraphId graph;
    uint64_t task = 0;
    uint32_t attempt = 0;
    WorkerId worker;
    uint64_t pid = 0;
    Instant sent;
    Instant reported;
    uint32_t duration_us = 0;
    TaskResult::Status status = TaskResult::Status::kOk;
  };

  // Takes the tasks, graphs and names out of `batch`, which has been encoded and is needed no more.
  void sent(Instant now, SendBatch& batch, uint64_t pid);
  void reported(Instant now, WorkerId worker, uint64_t batch, const std::vector<TaskResult>& results);
  void retracted(WorkerId worker, uint64_t batch);
  void worker_gone(WorkerId worker);

  uint64_t finished_total() const { return finished_total_; }
  uint64_t dropped_total() const { return finished_total_ - finished_kept_; }
  // The newest `limit` finished ones (of `graph`, unless nil), oldest first.
  std::vector<Entry> newest(const GraphId& graph, size_t limit) const;

 private:
  struct Outcome {
    Instant reported;
    uint32_t duration_us = 0;
    TaskResult::Status status = TaskResult::Status::kHandedBack;  // until it is reported
  };
  struct Batch {
    WorkerId worker;
    uint64_t pid = 0;
    uint64_t number = 0;
    Instant sent;
    std::vector<GraphId> graphs;
    std::vector<SendBatch::Task> tasks;
    std::vector<std::string> names;
    std::vector<Outcome> outcomes;
    size_t open = 0;
    size_t finished = 0;
  };

  void retire(std::unique_ptr<Batch> batch);

  std::unordered_map<WorkerId, std::deque<std::unique_ptr<Batch>>> under_way_;
  std::deque<std::unique_ptr<Batch>> finished_;
  uint64_t finished_kept_ = 0;
  uint64_t finished_total_ = 0;
  std::unordered_map<uint32_t, std::string> function_names_;
};

}  // namespace raylet
