// Arena: which bytes of one segment are free. Address-ordered first fit: low bytes are used again and again,
// so the pages that are warm are the pages that are used.
//
// What always holds: free extents don't touch each other (neighbours are merged) and are whole granules.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "plasma/core/extent.h"

namespace raylet::plasma {

class Arena {
 public:
  // REQUIRES: whole granules.
  explicit Arena(uint64_t size_bytes);

  // The lowest free place for `size_bytes`, whole granules. `alignment` is a power of two, at least a granule.
  std::optional<uint64_t> allocate(uint64_t size_bytes, uint64_t alignment);
  // Takes these very bytes. False, and nothing happens, unless all of them are free.
  bool take(uint64_t offset, uint64_t size_bytes);
  // REQUIRES: all of them are taken.
  void release(uint64_t offset, uint64_t size_bytes);

  uint64_t size_bytes() const { return size_bytes_; }
  uint64_t free_bytes() const { return free_bytes_; }
  bool empty() const { return free_bytes_ == size_bytes_; }
  // Where the last taken byte ends.
  uint64_t taken_end() const;
  const std::map<uint64_t, uint64_t>& free_extents() const { return free_; }
  void validate() const;

 private:
  void cut(std::map<uint64_t, uint64_t>::iterator hole, uint64_t offset, uint64_t size_bytes);

  uint64_t size_bytes_;
  uint64_t free_bytes_;
  uint64_t hole_bytes_max_;  // no free extent is larger; may be too high
  std::map<uint64_t, uint64_t> free_;  // offset -> size
};

}  // namespace raylet::plasma
