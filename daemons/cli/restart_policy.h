// Whether and when a child that died is started again: at once the first time, then after waits that double
// up to kWaitMsMax; not at all after kDeathsMax deaths within kWindowMs. Times are milliseconds of any one
// monotonic clock.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

namespace raylet {

class RestartPolicy {
 public:
  static constexpr size_t kDeathsMax = 10;
  static constexpr uint64_t kWindowMs = 60'000;
  static constexpr uint64_t kWaitMsFirst = 10;
  static constexpr uint64_t kWaitMsMax = 2'000;

  // The child died at `now_ms`. How long to wait before it is started again; nothing: give up.
  std::optional<uint64_t> on_death(uint64_t now_ms);

 private:
  std::deque<uint64_t> deaths_ms_;  // within the window, oldest first
};

}  // namespace raylet
