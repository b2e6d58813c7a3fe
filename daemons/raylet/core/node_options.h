// What a node is told once, at its start. Every limit has its name here.
#pragma once

#include <cstdint>

#include "protocol/words/resources.h"
#include "protocol/words/time.h"

namespace raylet {

struct NodeOptions {
  Resources resources;               // what tasks may take: CPU, GPU, memory, custom
  uint64_t seed = 1;                 // of the few random choices
  uint32_t worker_slots = 0;         // processes kept for tasks; 0: the whole CPUs, at least 1
  uint32_t workers_max = 1'000;      // with blocked ones and actors
  uint32_t blocked_workers_per_slot_max = 4;

  uint64_t inline_bytes_max = 64 << 10;        // larger values live in the store
  uint64_t graph_credit_bytes = 64 << 20;      // chunks under way from one driver
  uint64_t task_count_max = 20'000'000;        // known to the node; beyond it credit is held back
  uint64_t task_bytes_max = uint64_t{4} << 30; // records and blobs; likewise
  uint64_t inline_value_bytes_max = uint64_t{2} << 30;  // small values held here; roots wait beyond it

  Duration batch_work_target = std::chrono::milliseconds(2);  // estimated work in flight to one worker
  uint32_t batch_tasks_max = 256;
  uint64_t batch_bytes_max = 1 << 20;
  int32_t retries_default = 3;

  Duration record_after = std::chrono::milliseconds(50);      // a graph that ends sooner is never recorded
  Duration slab_wait_max = std::chrono::seconds(30);
  double store_pressure = 0.8;                 // used share of the store beyond which roots are held back
  Duration driver_grace = std::chrono::seconds(0);  // how long a job outlives its lost driver
  uint32_t open_early_tasks = 65'536;          // a fail_fast graph with more tasks starts before it is whole
};

}  // namespace raylet
