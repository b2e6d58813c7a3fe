// ExtentLedger: who has which bytes of the store, as far as the raylet knows: leased slabs and sealed objects.
// Nobody may be given bytes that another has.
#pragma once

#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "daemons/raylet/core/effects.h"

namespace raylet::sim {

class ExtentLedger {
 public:
  // Why the slab may not be had, if so.
  std::optional<std::string> lease(SlabId slab, SessionId session, const StoredAt& at) {
    if (auto other = taken(at)) return "slab " + std::to_string(slab.number) + " overlaps " + *other;
    slabs_[slab] = {session, at};
    add(at, slab, {});
    return std::nullopt;
  }
  std::optional<std::string> seal(const StoreSeal& seal) {
    auto slab = slabs_.find(seal.slab);
    if (slab == slabs_.end()) return "object " + seal.id.hex() + " is sealed in a slab that nobody leases";
    if (objects_.count(seal.id) != 0) return "object " + seal.id.hex() + " is sealed twice";
    const uint64_t room = (seal.size_bytes + 63) / 64 * 64;
    StoredAt at{slab->second.at.segment, slab->second.at.offset + seal.offset, room};
    if (!cut(at, seal.slab)) return "object " + seal.id.hex() + " is sealed over bytes that are not its slab's";
    add(at, {}, seal.id);
    objects_[seal.id] = {at, 0, false};
    return std::nullopt;
  }
  void pin(const ObjectId& id) {
    if (auto object = objects_.find(id); object != objects_.end()) object->second.pinned = true;
  }
  void unpin(const ObjectId& id) {
    auto object = objects_.find(id);
    if (object == objects_.end()) return;
    object->second.pinned = false;
  }
  std::optional<std::string> free(const ObjectId& id) {
    auto object = objects_.find(id);
    if (object == objects_.end()) return std::nullopt;
    if (object->second.pinned) return "object " + id.hex() + " is freed while it is pinned";
    remove_at(object->second.at);
    objects_.erase(object);
    return std::nullopt;
  }
  void return_slab(SlabId slab) {
    auto found = slabs_.find(slab);
    if (found == slabs_.end()) return;
    for (auto extent = extents_.begin(); extent != extents_.end();) {
      extent = extent->second.slab == slab ? extents_.erase(extent) : std::next(extent);
    }
    slabs_.erase(found);
  }
  void end_session(SessionId session) {
    for (auto slab = slabs_.begin(); slab != slabs_.end();) {
      SlabId id = slab->first;
      bool its = slab->second.session == session;
      ++slab;
      if (its) return_slab(id);
    }
  }
  void clear() { *this = {}; }
  size_t object_count() const { return objects_.size(); }
  size_t slab_count() const { return slabs_.size(); }
  const auto& slabs() const { return slabs_; }
  bool is_leased(SlabId slab) const { return slabs_.count(slab) != 0; }

 private:
  struct Slab {
    SessionId session;
    StoredAt at;
  };
  struct Object {
    StoredAt at;
    uint32_t pins = 0;
    bool pinned = false;
  };
  struct Extent {
    uint64_t end = 0;
    SlabId slab;  // or
    ObjectId object;
  };
  using Place = std::pair<uint64_t, uint64_t>;  // segment, offset

  std::optional<std::string> taken(const StoredAt& at) const {
    auto next = extents_.lower_bound({at.segment.number, at.offset + at.size_bytes});
    if (next == extents_.begin()) return std::nullopt;
    auto last = std::prev(next);
    if (last->first.first != at.segment.number || last->second.end <= at.offset) return std::nullopt;
    return last->second.slab.is_nil() ? "object " + last->second.object.hex()
                                      : "slab " + std::to_string(last->second.slab.number);
  }
  void add(const StoredAt& at, SlabId slab, ObjectId object) {
    extents_[{at.segment.number, at.offset}] = {at.offset + at.size_bytes, slab, object};
  }
  void remove_at(const StoredAt& at) { extents_.erase({at.segment.number, at.offset}); }
  // Takes the bytes out of the slab's own.
  bool cut(const StoredAt& at, SlabId slab) {
    auto extent = extents_.upper_bound({at.segment.number, at.offset});
    if (extent == extents_.begin()) return false;
    --extent;
    if (extent->first.first != at.segment.number || extent->second.slab != slab) return false;
    const uint64_t from = extent->first.second;
    const uint64_t end = extent->second.end;
    if (from > at.offset || end < at.offset + at.size_bytes) return false;
    extents_.erase(extent);
    if (from < at.offset) extents_[{at.segment.number, from}] = {at.offset, slab, {}};
    if (at.offset + at.size_bytes < end)
      extents_[{at.segment.number, at.offset + at.size_bytes}] = {end, slab, {}};
    return true;
  }

  std::map<SlabId, Slab> slabs_;
  std::map<ObjectId, Object> objects_;
  std::map<Place, Extent> extents_;
};

}  // namespace raylet::sim
