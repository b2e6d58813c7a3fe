#include "daemons/raylet/store_batch.h"

#include <utility>

#include "protocol/codec/id_codec.h"

namespace raylet {

bool StoreBatch::admit(const ObjectId& id, Field field) {
  if (command_count_ >= kCommandsMax) return false;
  auto [found, fresh] = latest_.try_emplace(id, field);
  if (!fresh && found->second >= field) return false;
  found->second = field;
  ++command_count_;
  return true;
}

bool StoreBatch::add(const StoreSeal& effect) {
  if (slabs_ended_ || !admit(effect.id, kSealed)) return false;
  v1::SealObject* seal = command_.mutable_batch()->add_seals();
  seal->set_id(effect.id.binary());
  seal->set_slab(effect.slab.number);
  seal->set_offset(effect.offset);
  seal->set_size_bytes(effect.size_bytes);
  seal->set_remakable(effect.remakable);
  return true;
}

bool StoreBatch::add(const StorePin& effect) {
  if (!admit(effect.id, kPinned)) return false;
  append_object_id(effect.id, command_.mutable_batch()->mutable_pinned());
  return true;
}

bool StoreBatch::add(const StoreUnpin& effect) {
  if (!admit(effect.id, kUnpinned)) return false;
  append_object_id(effect.id, command_.mutable_batch()->mutable_unpinned());
  return true;
}

bool StoreBatch::add(const StoreFree& effect) {
  if (!admit(effect.id, kFreed)) return false;
  append_object_id(effect.id, command_.mutable_batch()->mutable_freed());
  return true;
}

bool StoreBatch::add(const StoreReturnSlab& effect) {
  command_.mutable_batch()->add_returned_slabs(effect.slab.number);
  ++command_count_;
  slabs_ended_ = true;
  return true;
}

bool StoreBatch::add(const StoreEndSession& effect) {
  command_.mutable_batch()->add_ended_sessions(effect.session.number);
  ++command_count_;
  slabs_ended_ = true;
  return true;
}

v1::StoreCommand StoreBatch::take() {
  MUST(!empty(), "an empty frame for the store");
  latest_.clear();
  command_count_ = 0;
  slabs_ended_ = false;
  return std::exchange(command_, {});
}

}  // namespace raylet
