// What a node tells about itself: the values behind `raylet status`, `raylet explain` and the metrics.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "protocol/words/ids.h"
#include "protocol/words/resources.h"
#include "protocol/words/time.h"

namespace raylet {

struct WorkerReport {
  WorkerId worker;
  uint64_t pid = 0;
  std::string state;    // starting, idle, busy, blocked, actor
  std::string running;  // name of the task it runs, as far as is known
  Duration running_for{};
  uint32_t tasks_in_flight = 0;
  JobId job;
};

struct GraphReport {
  GraphId graph;
  JobId job;
  std::string name;
  std::string state;  // arriving, running, ended, failed, cancelled
  uint64_t task_total = 0;
  uint64_t waiting = 0;
  uint64_t ready = 0;
  uint64_t running = 0;
  uint64_t finished = 0;
  uint64_t failed = 0;
  Duration age{};
  bool durable = false;
};

struct DriverReport {
  JobId job;
  uint64_t pid = 0;
  std::string script;
  uint64_t held_objects = 0;
  bool local = true;
};

struct ActorReport {
  ObjectId actor;
  std::string name;
  std::string class_name;
  std::string state;  // waiting, starting, alive, dead
  uint64_t pid = 0;
  uint64_t calls_waiting = 0;
};

struct NodeReport {
  Resources total;
  Resources available;
  std::vector<WorkerReport> workers;
  std::vector<GraphReport> graphs;
  std::vector<DriverReport> drivers;
  std::vector<ActorReport> actors;
  std::map<std::string, uint64_t> tasks_by_state;
  uint64_t inline_value_bytes = 0;
  uint64_t graph_bytes = 0;
  uint64_t object_count = 0;
  uint64_t held_object_count = 0;
  uint64_t pending_get_count = 0;
  // Ever since the start.
  uint64_t tasks_finished_total = 0;
  uint64_t tasks_failed_total = 0;
  uint64_t tasks_retried_total = 0;
  uint64_t batches_sent_total = 0;
  uint64_t workers_died_total = 0;
};

// Why something is where it is.
struct Explanation {
  bool found = false;
  std::string kind;    // task, object, graph, actor, worker, job
  std::string state;
  std::string reason;  // one sentence
  Duration since{};
  std::vector<std::string> details;
};

}  // namespace raylet
