// OutputPolicy: how much of the workers' output reaches a driver: at most kBytesPerSecondMax, the rest is
// dropped and counted, and the count is said when output flows again. Pure: told the time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "protocol/words/time.h"

namespace raylet {

class OutputPolicy {
 public:
  static constexpr uint64_t kBytesPerSecondMax = 4 << 20;
  static constexpr uint64_t kLineCostBytes = 16;

  // How many of `lines`, from the first, may go now. `congested`: the driver does not keep up.
  size_t admit(Instant now, const std::vector<std::string>& lines, bool congested);
  // Lines dropped since the last call that returned some; 0 while they are still being dropped.
  uint64_t take_dropped();

 private:
  Instant second_;
  uint64_t used_bytes_ = 0;
  uint64_t dropped_ = 0;
  bool dropping_ = false;
};

}  // namespace raylet
