// SlabTable: the leases: whose they are and which of their bytes are not sealed yet.
//
// What always holds: a slab has unsealed bytes (one that was sealed to its last byte is gone); unsealed
// extents are in order, don't touch and lie within the slab.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

#include "plasma/core/extent.h"
#include "protocol/words/ids.h"

namespace raylet::plasma {

struct Slab {
  SessionId session;
  Extent at;
  std::vector<Extent> unsealed;
};

class SlabTable {
 public:
  const Slab* find(SlabId slab) const;
  // True iff a slab with this number was ever added.
  bool was_leased(SlabId slab) const { return slab.number <= last_number_; }

  // REQUIRES: no slab with this number is here, `unsealed` not empty.
  void add(SlabId slab, Slab lease);
  // Takes whole granules out of the slab. Nothing: they are not all unsealed bytes of this slab.
  std::optional<Extent> seal(SlabId slab, uint64_t offset, uint64_t size_bytes);
  // Ends the slab; the extents that nobody sealed. REQUIRES: it is here.
  std::vector<Extent> remove(SlabId slab);
  std::vector<SlabId> of_session(SessionId session) const;

  uint64_t unsealed_bytes() const { return unsealed_bytes_; }
  const std::unordered_map<SlabId, Slab>& slabs() const { return slabs_; }
  void validate() const;

 private:
  void erase(std::unordered_map<SlabId, Slab>::iterator found);

  std::unordered_map<SlabId, Slab> slabs_;
  std::set<std::pair<SessionId, SlabId>> by_session_;
  uint64_t unsealed_bytes_ = 0;
  uint64_t last_number_ = 0;
};

}  // namespace raylet::plasma
