// ObjectTable: the sealed objects and the order in which they may be evicted.
//
// An object may be evicted while it is remakable, not pinned, not freed and not already asked back; those are
// in the eviction order, the least recently used first. Asked back: the raylet was told that its bytes are
// wanted, and the object stays until the raylet frees it or pins it.
#pragma once

#include <cstdint>
#include <list>
#include <unordered_map>
#include <vector>

#include "plasma/core/extent.h"
#include "protocol/words/ids.h"

namespace raylet::plasma {

struct Object {
  Extent at;              // whole granules
  uint64_t size_bytes = 0;  // as sealed
  bool remakable = false;
  bool pinned = false;
  bool freed = false;       // while pinned: gone when unpinned
  bool asked_back = false;
  std::list<ObjectId>::iterator order;  // its place, iff evictable()
  bool evictable() const { return remakable && !pinned && !freed && !asked_back; }
};

class ObjectTable {
 public:
  // Null: unknown. Invalid after the next change.
  const Object* find(const ObjectId& id) const;

  // REQUIRES: unknown so far.
  void add(const ObjectId& id, Object object);
  // REQUIRES of all below: known.
  void pin(const ObjectId& id);      // takes it out of the order; no longer asked back
  void unpin(const ObjectId& id);    // the most recently used
  void mark_freed(const ObjectId& id);
  void touch(const ObjectId& id);    // the most recently used, if it is in the order
  void remove(const ObjectId& id);

  // Takes the least recently used objects out of the order, until they have `bytes` together or there are none
  // left, and notes that they were asked back.
  std::vector<ObjectId> ask_back(uint64_t bytes);

  uint64_t sealed_bytes() const { return sealed_bytes_; }          // of whole granules
  uint64_t asked_back_bytes() const { return asked_back_bytes_; }  // part of them
  uint64_t pinned_bytes() const { return pinned_bytes_; }          // part of them
  const std::unordered_map<ObjectId, Object>& objects() const { return objects_; }
  void validate() const;

 private:
  void enter_order(const ObjectId& id, Object& object);
  void leave_order(Object& object);

  std::unordered_map<ObjectId, Object> objects_;
  std::list<ObjectId> order_;
  uint64_t sealed_bytes_ = 0;
  uint64_t asked_back_bytes_ = 0;
  uint64_t pinned_bytes_ = 0;
};

}  // namespace raylet::plasma
