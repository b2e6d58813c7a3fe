// StoreBatch: many small commands to the store in one frame, in an order that means the same.
//
// The store applies a frame field by field (all seals, then all pins, ...). So a command on an object may join
// the frame only if no command of a later field on the same object is in it; otherwise the frame so far must
// go first. Pure.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "daemons/raylet/core/effects.h"
#include "protocol/wire/store.pb.h"

namespace raylet {

class StoreBatch {
 public:
  static constexpr size_t kCommandsMax = 16'384;

  // False: take() the frame so far, send it, and add again.
  bool add(const StoreSeal& effect);
  bool add(const StorePin& effect);
  bool add(const StoreUnpin& effect);
  bool add(const StoreFree& effect);
  bool add(const StoreReturnSlab& effect);
  bool add(const StoreEndSession& effect);

  bool empty() const { return command_count_ == 0; }
  // The command, and nothing is left. REQUIRES: !empty().
  v1::StoreCommand take();

 private:
  enum Field : uint8_t { kSealed, kPinned, kUnpinned, kFreed };
  bool admit(const ObjectId& id, Field field);

  v1::StoreCommand command_;
  std::unordered_map<ObjectId, Field> latest_;
  size_t command_count_ = 0;
  bool slabs_ended_ = false;  // nothing may be sealed any more
};

}  // namespace raylet
