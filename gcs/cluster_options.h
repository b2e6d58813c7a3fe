// What the head is told once, at its start. Every limit has its name here.
#pragma once

#include <cstdint>

#include "protocol/words/time.h"

namespace raylet {

struct ClusterOptions {
  uint64_t epoch = 1;  // which life of the head this is; larger than that of every earlier one

  Duration heartbeat = std::chrono::seconds(1);
  Duration suspect_after = std::chrono::seconds(3);  // of silence
  Duration node_lease = std::chrono::seconds(10);    // of silence, then the node is dead
  Duration job_lease = std::chrono::seconds(30);     // without a word from its driver's node

  uint64_t node_count_max = 10'000;
  uint64_t job_count_max = 10'000;
  uint64_t graph_part_count_max = 1'000'000;
  uint64_t graph_bytes_max = uint64_t{512} << 20;   // all records of graphs together
  uint64_t record_bytes_max = uint64_t{60} << 20;   // one record of a graph
  uint64_t name_count_max = 100'000;
  uint64_t name_bytes_max = 1 << 10;                // a name, or a namespace
  uint64_t handle_bytes_max = 1 << 20;
  uint64_t handles_bytes_max = 256 << 20;           // all handles together
  uint64_t text_bytes_max = 4 << 10;                // an address, a script, a label
  uint64_t label_count_max = 64;
  uint64_t watch_count_max = 20'000;
  uint64_t view_history_max = 4'096;                // changes kept for deltas

  // Writes that the disk has not acknowledged. Beyond either, what would add more is told to come later.
  uint64_t unwritten_bytes_max = 128 << 20;
  uint64_t unwritten_count_max = 200'000;
};

}  // namespace raylet
