#include "daemons/raylet/stored_table.h"

namespace raylet {

void StoredTable::add_slab(SlabId slab, SessionId session, StoredAt at) { slabs_[slab] = {session, at, 0}; }

bool StoredTable::seal(const StoreSeal& seal) {
  auto slab = slabs_.find(seal.slab);
  if (slab == slabs_.end()) return false;
  StoredAt whole = slab->second.at;
  if (seal.offset > whole.size_bytes || seal.size_bytes > whole.size_bytes - seal.offset) return false;
  StoredAt at{whole.segment, whole.offset + seal.offset, seal.size_bytes};
  if (!objects_.try_emplace(seal.id, Object{at, seal.remakable, false}).second) return false;
  slab->second.sealed_bytes += (seal.size_bytes + kGranuleBytes - 1) / kGranuleBytes * kGranuleBytes;
  if (slab->second.sealed_bytes >= whole.size_bytes) slabs_.erase(slab);
  return true;
}

void StoredTable::pin(const ObjectId& id) {
  if (auto found = objects_.find(id); found != objects_.end()) found->second.pinned = true;
}

void StoredTable::unpin(const ObjectId& id) {
  if (auto found = objects_.find(id); found != objects_.end()) found->second.pinned = false;
}

void StoredTable::free(const ObjectId& id) { objects_.erase(id); }

void StoredTable::end_session(SessionId session) {
  std::erase_if(slabs_, [&](const auto& entry) { return entry.second.session == session; });
}

void StoredTable::clear() {
  objects_.clear();
  slabs_.clear();
}

}  // namespace raylet
