// Extent: a run of bytes within one segment. The store deals in whole granules of 64 bytes, so that every
// object begins where a cache line does.
#pragma once

#include <cstdint>

#include "protocol/words/ids.h"

namespace raylet::plasma {

constexpr uint64_t kGranuleBytes = 64;
constexpr uint64_t kPageBytes = 4096;
// Slabs of at least this size begin on a page, so that the object in them can be mapped alone.
constexpr uint64_t kPageAlignedFrom = 64 << 10;

constexpr uint64_t round_up(uint64_t value, uint64_t step) { return (value + step - 1) / step * step; }
constexpr uint64_t round_down(uint64_t value, uint64_t step) { return value / step * step; }

struct Extent {
  SegmentId segment;
  uint64_t offset = 0;
  uint64_t size_bytes = 0;
  uint64_t end() const { return offset + size_bytes; }
  bool operator==(const Extent&) const = default;
};

}  // namespace raylet::plasma
