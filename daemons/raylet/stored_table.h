// StoredTable: what lies in the store, as its raylet knows it: sealed objects and leased slabs by place.
//
// It follows the same commands, in the same order, as the store does. A store that was started again is told
// this table and the segments, and goes on as if it had never been away. Pure: no descriptors, no sockets.
//
// What always holds: an object's place lies within a slab that was leased when it was sealed; an id is here
// at most once.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "daemons/raylet/core/effects.h"
#include "protocol/words/ids.h"

namespace raylet {

class StoredTable {
 public:
  struct Object {
    StoredAt at;
    bool remakable = false;
    bool pinned = false;
  };
  struct Slab {
    SessionId session;
    StoredAt at;
    uint64_t sealed_bytes = 0;  // in whole granules; a slab sealed to its last byte has ended
  };

  // The store allots memory in granules of this size.
  static constexpr uint64_t kGranuleBytes = 64;

  void add_slab(SlabId slab, SessionId session, StoredAt at);
  // False: no such slab, or the bytes lie outside of it, or the id is taken; nothing changed.
  bool seal(const StoreSeal& seal);
  void pin(const ObjectId& id);
  void unpin(const ObjectId& id);
  void free(const ObjectId& id);
  // False: the store has no such slab: it was sealed to its last byte, or lost with an earlier store.
  bool return_slab(SlabId slab) { return slabs_.erase(slab) > 0; }
  void end_session(SessionId session);
  void clear();

  const std::unordered_map<ObjectId, Object>& objects() const { return objects_; }
  const std::unordered_map<SlabId, Slab>& slabs() const { return slabs_; }

 private:
  std::unordered_map<ObjectId, Object> objects_;
  std::unordered_map<SlabId, Slab> slabs_;
};

}  // namespace raylet
