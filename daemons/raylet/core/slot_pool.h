// SlotPool<T>: things named by small numbers, in chunks, so that a million of them cost a few allocations and
// no address ever moves. Number 0 is never given out and means "none". A removed number is given out again.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "protocol/words/check.h"

namespace raylet {

template <typename T>
class SlotPool {
 public:
  uint32_t add() {
    ++live_;
    if (!free_.empty()) {
      uint32_t number = free_.back();
      free_.pop_back();
      return number;
    }
    if ((end_ & kMask) == 0) chunks_.push_back(std::make_unique<T[]>(kChunk));
    uint32_t number = end_++;
    if (number != 0) return number;
    return end_++;
  }

  // REQUIRES: `number` was given out and not removed since.
  void remove(uint32_t number) {
    (*this)[number] = T();
    free_.push_back(number);
    --live_;
  }

  T& operator[](uint32_t number) { return chunks_[number >> kShift][number & kMask]; }
  const T& operator[](uint32_t number) const { return chunks_[number >> kShift][number & kMask]; }

  uint32_t live() const { return live_; }
  uint32_t end() const { return end_; }  // every number given out is below

 private:
  static constexpr uint32_t kShift = 10;
  static constexpr uint32_t kChunk = 1u << kShift;
  static constexpr uint32_t kMask = kChunk - 1;

  std::vector<std::unique_ptr<T[]>> chunks_;
  std::vector<uint32_t> free_;
  uint32_t end_ = 0;
  uint32_t live_ = 0;
};

}  // namespace raylet
