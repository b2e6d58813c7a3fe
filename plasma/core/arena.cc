#include "plasma/core/arena.h"

#include <algorithm>
#include <iterator>

#include "protocol/words/check.h"

namespace raylet::plasma {

Arena::Arena(uint64_t size_bytes) : size_bytes_(size_bytes), free_bytes_(size_bytes), hole_bytes_max_(size_bytes) {
  MUST(size_bytes > 0 && size_bytes % kGranuleBytes == 0);
  free_.emplace(0, size_bytes);
}

std::optional<uint64_t> Arena::allocate(uint64_t size_bytes, uint64_t alignment) {
  MUST(size_bytes > 0 && size_bytes % kGranuleBytes == 0);
  if (size_bytes > hole_bytes_max_) return std::nullopt;
  uint64_t largest = 0;
  for (auto hole = free_.begin(); hole != free_.end(); ++hole) {
    uint64_t offset = round_up(hole->first, alignment);
    if (offset + size_bytes <= hole->first + hole->second) {
      cut(hole, offset, size_bytes);
      return offset;
    }
    largest = std::max(largest, hole->second);
  }
  hole_bytes_max_ = largest;
  return std::nullopt;
}

bool Arena::take(uint64_t offset, uint64_t size_bytes) {
  MUST(size_bytes > 0 && size_bytes % kGranuleBytes == 0 && offset % kGranuleBytes == 0);
  auto hole = free_.upper_bound(offset);
  if (hole == free_.begin()) return false;
  --hole;
  if (offset + size_bytes > hole->first + hole->second) return false;
  cut(hole, offset, size_bytes);
  return true;
}

void Arena::cut(std::map<uint64_t, uint64_t>::iterator hole, uint64_t offset, uint64_t size_bytes) {
  uint64_t before = offset - hole->first;
  uint64_t after = hole->first + hole->second - (offset + size_bytes);
  if (before > 0) {
    hole->second = before;
  } else {
    free_.erase(hole);
  }
  if (after > 0) free_.emplace(offset + size_bytes, after);
  free_bytes_ -= size_bytes;
}

void Arena::release(uint64_t offset, uint64_t size_bytes) {
  MUST(size_bytes > 0 && offset + size_bytes <= size_bytes_);
  uint64_t end = offset + size_bytes;
  free_bytes_ += size_bytes;
  auto next = free_.lower_bound(offset);
  MUST(next == free_.end() || next->first >= end, "bytes released that were free");
  if (next != free_.end() && next->first == end) {
    end += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    auto before = std::prev(next);
    MUST(before->first + before->second <= offset, "bytes released that were free");
    if (before->first + before->second == offset) {
      before->second = end - before->first;
      hole_bytes_max_ = std::max(hole_bytes_max_, before->second);
      return;
    }
  }
  free_.emplace_hint(next, offset, end - offset);
  hole_bytes_max_ = std::max(hole_bytes_max_, end - offset);
}

uint64_t Arena::taken_end() const {
  if (free_.empty()) return size_bytes_;
  auto last = std::prev(free_.end());
  return last->first + last->second == size_bytes_ ? last->first : size_bytes_;
}

void Arena::validate() const {
  uint64_t sum = 0;
  std::optional<uint64_t> end_before;
  for (auto [offset, size] : free_) {
    MUST(size > 0 && offset % kGranuleBytes == 0 && size % kGranuleBytes == 0);
    MUST(!end_before || *end_before < offset, "free extents touch or overlap");
    MUST(size <= hole_bytes_max_);
    end_before = offset + size;
    sum += size;
  }
  MUST(!end_before || *end_before <= size_bytes_);
  MUST(sum == free_bytes_);
}

}  // namespace raylet::plasma
