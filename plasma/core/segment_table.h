// SegmentTable: the memfds of a store, what is free in each, and what they cost.
//
// Shared segments, all of segment_bytes, hold many slabs; a slab larger than that has a segment of its own.
// Segments are sparse and are never taken away, because every process that was told of one may keep it mapped.
// What a segment costs is its touched bytes: everything below was used since it was last cooled and may be
// resident; everything above is free and holds no page. Cooling gives pages back from the last taken byte on.
//
// What always holds: touched bytes add up to at most the capacity; nothing taken lies beyond what is touched;
// an own segment holds nothing but what came from one slab.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "plasma/core/arena.h"
#include "plasma/core/extent.h"
#include "protocol/words/time.h"

namespace raylet::plasma {

struct Segment {
  explicit Segment(uint64_t size_bytes) : arena(size_bytes) {}

  Arena arena;
  bool made = false;           // false: asked for and not there yet
  bool own = false;            // for one slab
  uint64_t touched_bytes = 0;  // whole pages
  Instant empty_since;         // meaningful while it is empty
};

class SegmentTable {
 public:
  static constexpr size_t kSegmentsMax = 4096;
  static constexpr uint64_t kSegmentNumberMax = uint64_t{1} << 40;

  // Both whole pages, segment_bytes at most the capacity.
  SegmentTable(uint64_t capacity_bytes, uint64_t segment_bytes);

  bool is_own_size(uint64_t size_bytes) const { return size_bytes > segment_bytes_; }

  // The first place that a slab of this size may take without costing more than the capacity.
  std::optional<Extent> allocate(uint64_t size_bytes);
  // Takes these very bytes; false, and nothing happens, unless all of them are there, free and affordable.
  bool take(const Extent& at);
  // REQUIRES: taken.
  void release(Instant now, const Extent& at);

  // The size of the segment to be made so that a slab of this size fits, if it may be made.
  std::optional<uint64_t> size_to_make(uint64_t size_bytes) const;
  SegmentId add(uint64_t size_bytes);  // usable when confirmed
  bool confirm(SegmentId segment);     // false: nobody waits for it
  bool forget(SegmentId segment);      // it could not be made; false: nobody waits for it
  // False: known already, or not a size that a segment can have.
  bool adopt(SegmentId segment, uint64_t size_bytes);

  // A segment with touched pages beyond its last taken byte, and where they begin: own ones first, then the
  // last of the shared ones. cool() says that they are given back.
  struct Spare {
    SegmentId segment;
    uint64_t from = 0;
  };
  std::optional<Spare> spare() const;
  void cool(const Spare& spare);
  // The own segment that has been empty and touched for the longest.
  struct Idle {
    SegmentId segment;
    Instant since;
  };
  std::optional<Idle> idle_own() const;

  // Free bytes of shared segments that were touched.
  uint64_t warm_free_bytes() const;
  // The lowest untouched bytes of a shared segment, at most step_bytes and what is affordable; they count as
  // touched from here on.
  std::optional<Extent> touch_ahead(uint64_t step_bytes);
  bool has_untouched_shared() const;

  uint64_t capacity_bytes() const { return capacity_bytes_; }
  uint64_t touched_bytes() const { return touched_bytes_; }
  const std::map<SegmentId, Segment>& segments() const { return segments_; }
  void validate() const;

 private:
  uint64_t affordable_bytes() const { return capacity_bytes_ - touched_bytes_; }
  bool can_touch(const Segment& segment, uint64_t end) const;
  void touch(Segment& segment, uint64_t end);

  uint64_t capacity_bytes_;
  uint64_t segment_bytes_;
  uint64_t touched_bytes_ = 0;
  uint64_t last_number_ = 0;
  std::map<SegmentId, Segment> segments_;
};

}  // namespace raylet::plasma
