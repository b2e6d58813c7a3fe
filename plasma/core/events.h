// Everything that can happen to a store: commands of its raylet (StoreCommand in protocol/wire/store.proto)
// and what became of its wishes. Told to Store::step in batches, in the order in which they happened.
//
// Commands may make no sense; that is complained about and changes nothing.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "plasma/core/extent.h"
#include "protocol/words/ids.h"
#include "protocol/words/time.h"

namespace raylet::plasma {

// ---------------------------------------------------------------- the raylet's commands

// The first word. With `segment_count` > 0 the store waits for that many SegmentAdopted and an AdoptionDone
// before it leases anything.
struct Started {
  uint64_t incarnation = 0;
  uint64_t segment_count = 0;
};

struct SegmentAdopted {
  SegmentId segment;
  uint64_t size_bytes = 0;
};

// Everything that was allotted in the adopted segments. Slabs come whole, with what was sealed in them; where
// two slabs overlap, the one with the larger number was leased later and has the bytes.
struct AdoptionDone {
  struct Object {
    ObjectId id;
    Extent at;
    bool remakable = false;
    bool pinned = false;
  };
  struct Slab {
    SlabId slab;
    SessionId session;
    Extent at;
  };
  std::vector<Object> objects;
  std::vector<Slab> slabs;
};

struct LeaseAsked {
  Ticket ticket;
  SlabId slab;  // the number it will have; numbers grow
  SessionId session;
  uint64_t size_bytes = 0;
  Duration wait_max{};
};

struct ObjectSealed {
  ObjectId id;
  SlabId slab;
  uint64_t offset = 0;  // within the slab, whole granules
  uint64_t size_bytes = 0;
  bool remakable = false;
};

struct ObjectPinned {
  ObjectId id;
};
struct ObjectUnpinned {
  ObjectId id;
};
// Nobody needs it any more, or the raylet agrees to its eviction. Bytes of a pinned object stay until it is
// unpinned.
struct ObjectFreed {
  ObjectId id;
};
// Used just now; for the order of eviction.
struct ObjectTouched {
  ObjectId id;
};
// What was not sealed is free again. A slab that was sealed to its last byte has ended by itself, and
// returning one that has ended says nothing new.
struct SlabReturned {
  SlabId slab;
};
struct SessionEnded {
  SessionId session;
};

// ---------------------------------------------------------------- what became of effects

struct SegmentMade {
  SegmentId segment;
};
struct SegmentFailed {
  SegmentId segment;
  std::string reason;
};
// The bytes that WarmSegment named have been touched.
struct SegmentWarmed {
  SegmentId segment;
};

// Nothing but the passing of time; WakeAt asked for it.
struct Tick {};

using Event = std::variant<Started, SegmentAdopted, AdoptionDone, LeaseAsked, ObjectSealed, ObjectPinned,
                           ObjectUnpinned, ObjectFreed, ObjectTouched, SlabReturned, SessionEnded, SegmentMade,
                           SegmentFailed, SegmentWarmed, Tick>;

}  // namespace raylet::plasma
