// What the head tells about itself: the values behind GetHeadStatus and the metrics.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace raylet {

struct ClusterReport {
  uint64_t epoch = 0;
  uint64_t view_version = 0;
  uint64_t node_count = 0;
  uint64_t suspect_count = 0;
  uint64_t job_count = 0;
  uint64_t graph_count = 0;
  uint64_t graph_part_count = 0;
  uint64_t graph_bytes = 0;
  uint64_t name_count = 0;
  uint64_t watch_count = 0;
  uint64_t unwritten_count = 0;  // writes that the disk has not acknowledged
  uint64_t unwritten_bytes = 0;
  uint64_t held_reply_count = 0; // that wait for them
  // Ever since the start.
  uint64_t writes_total = 0;
  uint64_t persists_total = 0;
  uint64_t refusals_total = 0;
  uint64_t nodes_died_total = 0;
  uint64_t jobs_expired_total = 0;
};

// What came of reading the disk. A refused record is left where it is.
struct LoadReport {
  uint64_t loaded_count = 0;
  std::vector<std::string> refused;  // why, each with its table and key
};

}  // namespace raylet
