// Jobs, the functions they call and the shapes of what their tasks want.
#pragma once

#include <algorithm>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemons/raylet/core/events.h"
#include "daemons/raylet/core/graph_table.h"
#include "protocol/words/resources.h"

namespace raylet {

// What a task takes and how urgent it is, interned: tasks of one shape can share a batch.
struct Shape {
  Resources resources;
  int32_t priority = 0;
  bool creation = false;   // makes an actor: needs a worker of its own
  bool feasible = true;
  bool only_cpu = false;   // exactly CPU 1
};

class ShapeTable {
 public:
  uint32_t intern(const Resources& resources, int32_t priority, bool creation, const Resources& total);
  const Shape& operator[](uint32_t number) const { return shapes_[number]; }
  uint32_t size() const { return static_cast<uint32_t>(shapes_.size()); }

 private:
  std::vector<Shape> shapes_;
};

struct Function {
  FunctionDef def;  // def.number is the node's
  JobId job;
  bool known = false;      // it has been seen to run
  double duration_us = 0;  // of one call, smoothed
  double output_bytes = 0;
  bool live = false;
};

// Functions by number. Two sessions of a job that send the same function get the same number.
class FunctionTable {
 public:
  uint32_t intern(const JobId& job, const FunctionDef& def);
  void forget_job(const JobId& job);
  Function& operator[](uint32_t number) { return *functions_[number]; }
  const Function& operator[](uint32_t number) const { return *functions_[number]; }
  uint32_t size() const { return static_cast<uint32_t>(functions_.size()); }

 private:
  struct Key {
    JobId job;
    uint64_t content = 0;
    auto operator<=>(const Key&) const = default;
  };
  std::vector<std::unique_ptr<Function>> functions_{1};
  std::multimap<Key, uint32_t> by_key_;
};

struct LaneOrder {
  bool operator()(const Lane* a, const Lane* b) const {
    if (a->graph->nested != b->graph->nested) return a->graph->nested;
    return a->graph->sequence < b->graph->sequence;
  }
};

struct Job {
  JobId id;
  JobSetup setup;
  uint64_t pid = 0;
  bool local = true;
  SessionId driver;  // nil while the driver is away
  Instant driver_lost_at;
  SessionId away_session;  // closed; its holds wait for the driver
  bool ended = false;
  bool recorded = false;
  Instant since;

  // Lanes with ready tasks, by shape; larger priority first.
  struct ShapeLanes {
    // What its tasks lacked when they were last looked at.
    enum class Lack { kNothing, kResources, kWorker };

    uint32_t shape = 0;
    int32_t priority = 0;
    std::set<Lane*, LaneOrder> lanes;
    Lack lack = Lack::kNothing;
    bool needs_worker = false;  // it has lacked a worker: though others take its room, it needs one to be served
    Instant lacks_since{INT64_MAX};

    void lacks(Lack what, Instant now) {
      lack = what;
      needs_worker = needs_worker || what == Lack::kWorker;
      lacks_since = std::min(lacks_since, now);
    }
    void lacks_nothing() {
      lack = Lack::kNothing;
      needs_worker = false;
      lacks_since = Instant{INT64_MAX};
    }
  };
  std::list<ShapeLanes> shapes;  // their places last: a dispatch under way may add one
  uint64_t ready = 0;  // at least the tasks that are kReady in its lanes
  uint32_t graphs = 0;
  uint64_t last_served = 0;
  uint32_t starts_failed = 0;      // in a row
  std::set<uint32_t> warned_shapes;  // that no node can run
};

}  // namespace raylet
