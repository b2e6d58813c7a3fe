// Worker processes and the batches that are under way to them.
//
// What always holds: a worker with resources taken has tasks in flight or is an actor's; batches are answered
// in their order, so the first entry of the first batch that was not reported is the task that runs.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "daemons/raylet/core/graph_table.h"
#include "daemons/raylet/core/session_table.h"
#include "protocol/words/resources.h"

namespace raylet {

struct BatchEntry {
  Graph* graph = nullptr;  // null: reported, or taken back
  uint32_t task = 0;
};

struct Batch {
  uint64_t number = 0;
  std::vector<BatchEntry> entries;
  std::vector<uint32_t> located;  // objects pinned by its delivery
  uint32_t left = 0;              // entries that were not reported
  double work_us = 0;             // estimated, of what is left
  bool guessed = false;           // holds a task of unknown length
  Instant heard_at;               // sent, or last reported of

  // What came along with it and has to be sent again if the worker never reads it.
  bool brought_setup = false;
  std::vector<uint64_t> groups;
  std::vector<uint32_t> functions;
  std::vector<uint64_t> dropped_groups;
};

struct Worker {
  enum class State : uint8_t { kStarting, kIdle, kBusy, kBlocked };

  WorkerId id;
  State state = State::kStarting;
  Job* job = nullptr;      // bound to it from the first batch on
  JobId started_for;
  Session* session = nullptr;
  uint64_t pid = 0;
  Actor* actor = nullptr;  // it lives for this one only
  bool stopping = false;   // StopWorker was asked
  bool killed = false;     // hard
  bool cut_off = false;    // killed because its connection was lost: as good as a crash
  FailurePtr crash_failure;  // killed on purpose: what becomes of the task that it ran
  bool retracting = false;
  bool holds_resources = false;
  bool owes = false;       // took them although there were none left
  bool blocked_with_resources = false;
  bool setup_sent = false;
  uint32_t shape = 0;  // whose resources it holds, or held when it blocked
  Instant since;

  std::deque<Batch> batches;
  uint64_t next_batch = 1;
  uint32_t in_flight = 0;
  double work_us = 0;

  std::vector<bool> functions;  // sent, by the node's number
  std::unordered_set<uint64_t> groups;
  uint64_t last_group = 0;  // that was sent a task of
  struct SentGroup {
    uint64_t number = 0;
    TaskRef graph;
    uint32_t group = 0;
  };
  std::deque<SentGroup> sent_groups;
  std::vector<uint64_t> groups_to_drop;

  bool is_actor() const { return actor != nullptr; }
};

class WorkerTable {
 public:
  Worker& add() {
    WorkerId id{next_++};
    auto& worker = workers_[id.number];
    worker = std::make_unique<Worker>();
    worker->id = id;
    return *worker;
  }
  void remove(const WorkerId& id) { workers_.erase(id.number); }
  Worker* find(const WorkerId& id) {
    auto found = workers_.find(id.number);
    return found == workers_.end() ? nullptr : found->second.get();
  }
  const Worker* find(const WorkerId& id) const { return const_cast<WorkerTable*>(this)->find(id); }
  size_t size() const { return workers_.size(); }
  auto begin() { return workers_.begin(); }
  auto end() { return workers_.end(); }
  auto begin() const { return workers_.begin(); }
  auto end() const { return workers_.end(); }

 private:
  uint64_t next_ = 1;
  std::map<uint64_t, std::unique_ptr<Worker>> workers_;  // in order of age, so that every run is the same
};

}  // namespace raylet
