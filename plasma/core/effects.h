// Everything that a store can ask of the world; Store::step appends these and the shell performs them in order.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "plasma/core/extent.h"
#include "protocol/words/failure.h"
#include "protocol/words/ids.h"
#include "protocol/words/time.h"

namespace raylet::plasma {

// ---------------------------------------------------------------- to the raylet

struct Ready {
  uint64_t capacity_bytes = 0;
  uint64_t incarnation = 0;
};

struct Leased {
  Ticket ticket;
  SlabId slab;
  Extent at;
};

struct Refused {
  Ticket ticket;
  Failure failure;
};

// The store would like these bytes back. They stay where they are until the raylet frees the objects; one
// that it pins instead stays for good.
struct Evict {
  std::vector<ObjectId> ids;
};

struct Usage {
  uint64_t capacity_bytes = 0;
  uint64_t sealed_bytes = 0;
  uint64_t slab_bytes = 0;     // leased and not sealed
  uint64_t segment_bytes = 0;  // of pages that were touched and not given back
  uint64_t object_count = 0;
  uint64_t waiting_count = 0;
  bool operator==(const Usage&) const = default;
};

struct Complain {
  std::string text;
};

// ---------------------------------------------------------------- to the machine

// Answered by SegmentMade, after its descriptor went to the raylet, or SegmentFailed. Costs no memory yet.
struct MakeSegment {
  SegmentId segment;
  uint64_t size_bytes = 0;
};

// Touch these bytes without changing them, when there is nothing better to do. Answered by SegmentWarmed.
struct WarmSegment {
  SegmentId segment;
  uint64_t from = 0;
  uint64_t until = 0;
};

// Nothing lies beyond `from`: give those pages back to the machine. Mappings stay valid.
struct CoolSegment {
  SegmentId segment;
  uint64_t from = 0;
};

// Step again at this instant at the latest; replaces the one before.
struct WakeAt {
  Instant at;
};

using Effect =
    std::variant<Ready, Leased, Refused, Evict, Usage, Complain, MakeSegment, WarmSegment, CoolSegment, WakeAt>;

}  // namespace raylet::plasma
