// ScratchMap: a small hash map of numbers that is emptied in no time, for use while one batch is put together.
#pragma once

#include <cstdint>
#include <vector>

#include "protocol/words/ids.h"

namespace raylet {

class ScratchMap {
 public:
  void clear() {
    count_ = 0;
    if (++epoch_ != 0) return;
    slots_.assign(slots_.size(), Slot());
    epoch_ = 1;
  }

  // The value of `key`; made from `initial` if it is not there. Valid until the next call.
  uint32_t& at(uint64_t key, uint32_t initial) {
    if ((count_ + 1) * 2 > slots_.size()) grow();
    Slot& slot = slot_of(key);
    if (slot.epoch != epoch_) {
      slot = {key, initial, epoch_};
      ++count_;
    }
    return slot.value;
  }

  // Null if it is not there.
  const uint32_t* find(uint64_t key) const {
    if (slots_.empty()) return nullptr;
    const Slot& slot = const_cast<ScratchMap*>(this)->slot_of(key);
    return slot.epoch == epoch_ ? &slot.value : nullptr;
  }

 private:
  struct Slot {
    uint64_t key = 0;
    uint32_t value = 0;
    uint32_t epoch = 0;
  };

  Slot& slot_of(uint64_t key) {
    size_t mask = slots_.size() - 1;
    size_t at = mix_bits(key, 0) & mask;
    while (slots_[at].epoch == epoch_ && slots_[at].key != key) at = (at + 1) & mask;
    return slots_[at];
  }

  void grow() {
    std::vector<Slot> old(slots_.empty() ? 512 : slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.epoch == epoch_) slot_of(slot.key) = slot;
    }
  }

  std::vector<Slot> slots_;
  size_t count_ = 0;
  uint32_t epoch_ = 1;
};

}  // namespace raylet
