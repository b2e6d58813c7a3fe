#include "plasma/core/segment_table.h"

#include <algorithm>
#include <bit>

#include "protocol/words/check.h"

namespace raylet::plasma {
namespace {

constexpr uint64_t kSegmentBytesMax = uint64_t{1} << 48;

uint64_t alignment_of(uint64_t size_bytes) { return size_bytes >= kPageAlignedFrom ? kPageBytes : kGranuleBytes; }

}  // namespace

SegmentTable::SegmentTable(uint64_t capacity_bytes, uint64_t segment_bytes)
    : capacity_bytes_(capacity_bytes), segment_bytes_(segment_bytes) {
  MUST(segment_bytes > 0 && segment_bytes <= capacity_bytes);
  MUST(segment_bytes % kPageBytes == 0 && capacity_bytes % kPageBytes == 0);
}

bool SegmentTable::can_touch(const Segment& segment, uint64_t end) const {
  uint64_t touched = round_up(end, kPageBytes);
  return touched <= segment.touched_bytes || touched - segment.touched_bytes <= affordable_bytes();
}

void SegmentTable::touch(Segment& segment, uint64_t end) {
  uint64_t touched = std::max(segment.touched_bytes, round_up(end, kPageBytes));
  touched_bytes_ += touched - segment.touched_bytes;
  segment.touched_bytes = touched;
}

std::optional<Extent> SegmentTable::allocate(uint64_t size_bytes) {
  bool own = is_own_size(size_bytes);
  SegmentId warmest_id;
  Segment* warmest = nullptr;
  for (auto& [id, segment] : segments_) {
    if (!segment.made || segment.own != own) continue;
    if (own) {
      if (!segment.arena.empty() || segment.arena.size_bytes() < size_bytes || !can_touch(segment, size_bytes))
        continue;
      if (warmest == nullptr || segment.touched_bytes > warmest->touched_bytes) {
        warmest_id = id;
        warmest = &segment;
      }
      continue;
    }
    std::optional<uint64_t> offset = segment.arena.allocate(size_bytes, alignment_of(size_bytes));
    if (!offset) continue;
    if (can_touch(segment, *offset + size_bytes)) {
      touch(segment, *offset + size_bytes);
      return Extent{id, *offset, size_bytes};
    }
    segment.arena.release(*offset, size_bytes);
  }
  if (warmest == nullptr) return std::nullopt;
  MUST(warmest->arena.take(0, size_bytes));
  touch(*warmest, size_bytes);
  return Extent{warmest_id, 0, size_bytes};
}

bool SegmentTable::take(const Extent& at) {
  auto found = segments_.find(at.segment);
  if (found == segments_.end() || !found->second.made) return false;
  Segment& segment = found->second;
  if (at.size_bytes == 0 || at.offset % kGranuleBytes != 0 || at.size_bytes % kGranuleBytes != 0) return false;
  if (at.offset >= segment.arena.size_bytes() || at.size_bytes > segment.arena.size_bytes() - at.offset)
    return false;
  if (!can_touch(segment, at.end()) || !segment.arena.take(at.offset, at.size_bytes)) return false;
  touch(segment, at.end());
  return true;
}

void SegmentTable::release(Instant now, const Extent& at) {
  Segment& segment = segments_.at(at.segment);
  segment.arena.release(at.offset, at.size_bytes);
  if (segment.arena.empty()) segment.empty_since = now;
}

std::optional<uint64_t> SegmentTable::size_to_make(uint64_t size_bytes) const {
  if (segments_.size() >= kSegmentsMax || round_up(size_bytes, kPageBytes) > affordable_bytes())
    return std::nullopt;
  if (!is_own_size(size_bytes)) return segment_bytes_;
  // A power of two, so that few segments serve slabs of many sizes one after the other.
  return std::bit_ceil(size_bytes);
}

SegmentId SegmentTable::add(uint64_t size_bytes) {
  SegmentId id{++last_number_};
  segments_.emplace(id, Segment(size_bytes)).first->second.own = is_own_size(size_bytes);
  return id;
}

bool SegmentTable::confirm(SegmentId id) {
  auto found = segments_.find(id);
  if (found == segments_.end() || found->second.made) return false;
  found->second.made = true;
  return true;
}

bool SegmentTable::forget(SegmentId id) {
  auto found = segments_.find(id);
  if (found == segments_.end() || found->second.made) return false;
  segments_.erase(found);
  return true;
}

bool SegmentTable::adopt(SegmentId id, uint64_t size_bytes) {
  if (id.is_nil() || id.number > kSegmentNumberMax || segments_.size() >= kSegmentsMax) return false;
  if (size_bytes == 0 || size_bytes > kSegmentBytesMax || size_bytes % kPageBytes != 0) return false;
  auto [added, is_new] = segments_.emplace(id, Segment(size_bytes));
  if (!is_new) return false;
  added->second.own = is_own_size(size_bytes);
  added->second.made = true;
  last_number_ = std::max(last_number_, id.number);
  return true;
}

std::optional<SegmentTable::Spare> SegmentTable::spare() const {
  std::optional<Spare> shared;
  for (const auto& [id, segment] : segments_) {
    uint64_t from = round_up(segment.arena.taken_end(), kPageBytes);
    if (from >= segment.touched_bytes) continue;
    if (segment.own) return Spare{id, from};
    shared = Spare{id, from};
  }
  return shared;
}

void SegmentTable::cool(const Spare& spare) {
  Segment& segment = segments_.at(spare.segment);
  MUST(segment.arena.taken_end() <= spare.from && spare.from <= segment.touched_bytes);
  touched_bytes_ -= segment.touched_bytes - spare.from;
  segment.touched_bytes = spare.from;
}

std::optional<SegmentTable::Idle> SegmentTable::idle_own() const {
  std::optional<Idle> idle;
  for (const auto& [id, segment] : segments_) {
    if (!segment.own || segment.touched_bytes == 0 || !segment.arena.empty()) continue;
    if (!idle || segment.empty_since < idle->since) idle = Idle{id, segment.empty_since};
  }
  return idle;
}

uint64_t SegmentTable::warm_free_bytes() const {
  uint64_t sum = 0;
  for (const auto& [id, segment] : segments_) {
    if (segment.own) continue;
    // Everything beyond touched_bytes is free.
    sum += segment.arena.free_bytes() - (segment.arena.size_bytes() - segment.touched_bytes);
  }
  return sum;
}

bool SegmentTable::has_untouched_shared() const {
  return std::any_of(segments_.begin(), segments_.end(), [](const auto& entry) {
    return !entry.second.own && entry.second.touched_bytes < entry.second.arena.size_bytes();
  });
}

std::optional<Extent> SegmentTable::touch_ahead(uint64_t step_bytes) {
  for (auto& [id, segment] : segments_) {
    if (segment.own || !segment.made) continue;
    uint64_t from = segment.touched_bytes;
    uint64_t size = std::min({step_bytes, segment.arena.size_bytes() - from, affordable_bytes()});
    if (size == 0) continue;
    touch(segment, from + size);
    return Extent{id, from, size};
  }
  return std::nullopt;
}

void SegmentTable::validate() const {
  uint64_t sum = 0;
  for (const auto& [id, segment] : segments_) {
    segment.arena.validate();
    sum += segment.touched_bytes;
    MUST(id.number <= last_number_);
    MUST(segment.touched_bytes % kPageBytes == 0 &&
         segment.touched_bytes <= segment.arena.size_bytes() + kPageBytes);
    MUST(segment.arena.taken_end() <= segment.touched_bytes, "something lies where no page is");
    MUST(segment.made || segment.touched_bytes == 0);
    MUST(segment.own == is_own_size(segment.arena.size_bytes()));
  }
  MUST(sum == touched_bytes_);
  MUST(touched_bytes_ <= capacity_bytes_, "segments cost more than the store has");
}

}  // namespace raylet::plasma
