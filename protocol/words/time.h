// Instants and durations of a process's monotonic clock, in nanoseconds. Nothing here can ask for "now":
// cores are told the time with each batch of events.
#pragma once

#include <chrono>
#include <cstdint>

namespace raylet {

using Duration = std::chrono::nanoseconds;

struct Instant {
  int64_t since_start_ns = 0;

  auto operator<=>(const Instant&) const = default;
  friend Instant operator+(Instant at, Duration by) { return {at.since_start_ns + by.count()}; }
  friend Duration operator-(Instant late, Instant early) {
    return Duration(late.since_start_ns - early.since_start_ns);
  }
};

}  // namespace raylet
