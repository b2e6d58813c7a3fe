#include "daemons/raylet/output_policy.h"

#include <utility>

namespace raylet {

size_t OutputPolicy::admit(Instant now, const std::vector<std::string>& lines, bool congested) {
  if (now - second_ >= std::chrono::seconds(1)) {
    second_ = now;
    used_bytes_ = 0;
  }
  size_t count = 0;
  while (!congested && count < lines.size() && used_bytes_ < kBytesPerSecondMax) {
    used_bytes_ += lines[count].size() + kLineCostBytes;
    ++count;
  }
  dropped_ += lines.size() - count;
  dropping_ = count < lines.size();
  return count;
}

uint64_t OutputPolicy::take_dropped() { return dropping_ ? 0 : std::exchange(dropped_, 0); }

}  // namespace raylet
