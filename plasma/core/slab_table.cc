#include "plasma/core/slab_table.h"

#include <algorithm>
#include <utility>

#include "protocol/words/check.h"

namespace raylet::plasma {

const Slab* SlabTable::find(SlabId slab) const {
  auto found = slabs_.find(slab);
  return found == slabs_.end() ? nullptr : &found->second;
}

void SlabTable::add(SlabId slab, Slab lease) {
  MUST(!lease.unsealed.empty());
  for (const Extent& extent : lease.unsealed) unsealed_bytes_ += extent.size_bytes;
  by_session_.emplace(lease.session, slab);
  bool added = slabs_.emplace(slab, std::move(lease)).second;
  MUST(added, "a slab's number is used once");
  last_number_ = std::max(last_number_, slab.number);
}

std::optional<Extent> SlabTable::seal(SlabId slab, uint64_t offset, uint64_t size_bytes) {
  auto found = slabs_.find(slab);
  if (found == slabs_.end()) return std::nullopt;
  const Extent& at = found->second.at;
  if (size_bytes == 0 || offset >= at.size_bytes || size_bytes > at.size_bytes - offset) return std::nullopt;
  Extent sealed{at.segment, at.offset + offset, size_bytes};
  std::vector<Extent>& unsealed = found->second.unsealed;
  auto around = std::find_if(unsealed.begin(), unsealed.end(), [&](const Extent& extent) {
    return extent.offset <= sealed.offset && sealed.end() <= extent.end();
  });
  if (around == unsealed.end()) return std::nullopt;
  Extent before{at.segment, around->offset, sealed.offset - around->offset};
  Extent after{at.segment, sealed.end(), around->end() - sealed.end()};
  if (before.size_bytes > 0 && after.size_bytes > 0) {
    *around = after;
    unsealed.insert(around, before);
  } else if (before.size_bytes > 0 || after.size_bytes > 0) {
    *around = before.size_bytes > 0 ? before : after;
  } else {
    unsealed.erase(around);
  }
  unsealed_bytes_ -= size_bytes;
  if (unsealed.empty()) erase(found);
  return sealed;
}

std::vector<Extent> SlabTable::remove(SlabId slab) {
  auto found = slabs_.find(slab);
  MUST(found != slabs_.end());
  std::vector<Extent> unsealed = std::move(found->second.unsealed);
  for (const Extent& extent : unsealed) unsealed_bytes_ -= extent.size_bytes;
  erase(found);
  return unsealed;
}

void SlabTable::erase(std::unordered_map<SlabId, Slab>::iterator found) {
  by_session_.erase({found->second.session, found->first});
  slabs_.erase(found);
}

std::vector<SlabId> SlabTable::of_session(SessionId session) const {
  std::vector<SlabId> slabs;
  for (auto at = by_session_.lower_bound({session, SlabId{}}); at != by_session_.end() && at->first == session;
       ++at) {
    slabs.push_back(at->second);
  }
  return slabs;
}

void SlabTable::validate() const {
  uint64_t sum = 0;
  for (const auto& [id, slab] : slabs_) {
    MUST(id.number <= last_number_);
    MUST(by_session_.contains({slab.session, id}));
    MUST(!slab.unsealed.empty(), "a slab without unsealed bytes has ended");
    uint64_t end = slab.at.offset;
    for (const Extent& extent : slab.unsealed) {
      MUST(extent.segment == slab.at.segment && extent.size_bytes > 0);
      MUST(extent.offset >= end && extent.end() <= slab.at.end());
      end = extent.end();
      sum += extent.size_bytes;
    }
  }
  MUST(sum == unsealed_bytes_ && by_session_.size() == slabs_.size());
}

}  // namespace raylet::plasma
