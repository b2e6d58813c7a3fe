// Oracle: what every task was meant to do, so what every value must be and which failures can be explained.
//
// A value is a hash of its task's salt and of the values of its inputs, so a mixed, stale or torn value is
// seen wherever it is read. It does not depend on attempts: running again gives the same.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "protocol/words/failure.h"
#include "protocol/words/ids.h"
#include "protocol/words/rng.h"
#include "protocol/words/time.h"
#include "tests/sim/memory.h"

namespace raylet::sim {

struct TaskPlan {
  enum class Kind {
    kPlain,
    kRaises,
    kRaisesOnce,   // asks for a retry at its first run
    kPoison,       // its worker dies of it, each time
    kNests,        // submits a graph and waits for its result
    kNestsLater,   // submits a graph and returns a reference to its result
    kCreates,      // an actor
    kCalls,
  };
  Kind kind = Kind::kPlain;
  uint64_t salt = 0;
  std::vector<ObjectId> inputs;
  std::vector<uint64_t> return_bytes{64};
  Duration duration{};
  int32_t retries_max = 3;
  double cpus = 1;
  bool producer = false;
  std::vector<ObjectId> borrows;  // the task asks for the first one's value, and makes nothing of it
  ObjectId actor;            // kCalls
  std::string actor_name;    // kCreates
  bool get_if_exists = false;
  uint64_t call_number = 0;  // kCalls: grows with each call of one actor

  uint32_t runs = 0;       // how often it was begun
  uint32_t deaths = 0;     // of workers that had it
  uint64_t first_result = 0;
};

struct GraphPlan {
  GraphId id;
  bool fail_fast = true;
  std::deque<TaskPlan> tasks;  // those that run are pointed to while an open graph grows
  bool nested = false;
};

class Oracle {
 public:
  // Why a task may fail, by its own nature or that of what it reads.
  enum Taint : uint32_t { kRaise = 1, kCrash = 2, kActor = 4, kNested = 8 };

  GraphPlan& add(GraphPlan plan);
  GraphPlan* find(const GraphId& id);
  TaskPlan* find(const TaskId& id);
  void add_put(const ObjectId& id, uint64_t hash) { values_[id] = hash; }

  // REQUIRES: the object's task, or put, was added, and what it reads.
  uint64_t expected(const ObjectId& id);
  // The creation of an actor that stands for another one of its name makes no value.
  bool may_be_empty(const ObjectId& id);
  bool knows(const ObjectId& id) { return values_.count(id) != 0 || find(id.task_id()) != nullptr; }
  uint32_t taint(const ObjectId& id);
  // The graph that a task of kind kNests or kNestsLater submits in its attempt.
  GraphPlan nested_plan(const TaskId& parent, uint32_t attempt, const TaskPlan& plan) const;

  // Nothing if a failure of this kind is explained; else why it isn't.
  std::optional<std::string> unexplained(const ObjectId& id, const Failure& failure);

  // What happened that explains failures.
  uint32_t cancels = 0;
  uint32_t actor_kills = 0;
  uint32_t worker_deaths = 0;
  uint32_t store_losses = 0;
  uint32_t exhausted_tasks = 0;  // that lost more workers than they have retries
  bool store_tight = false;

 private:
  uint64_t nested_value(uint64_t salt) const;

  std::map<GraphId, GraphPlan> graphs_;
  std::map<ObjectId, uint64_t> values_;
  std::map<ObjectId, uint32_t> taints_;
  std::map<GraphId, uint32_t> graph_taints_;
};

// How a value travels inline, `size_bytes` long if it can be so short.
std::string encode(const Content& content, uint64_t size_bytes);
std::optional<Content> decode(const std::string& bytes);

// What a group's blob says of its k-th task.
std::string encode_group(const GraphId& graph, uint64_t first_task, uint32_t count);
bool group_names(const std::string& blob, uint32_t position, const TaskId& task);

}  // namespace raylet::sim
