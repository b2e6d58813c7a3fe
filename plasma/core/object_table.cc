#include "plasma/core/object_table.h"

#include <utility>

#include "protocol/words/check.h"

namespace raylet::plasma {

const Object* ObjectTable::find(const ObjectId& id) const {
  auto found = objects_.find(id);
  return found == objects_.end() ? nullptr : &found->second;
}

void ObjectTable::add(const ObjectId& id, Object object) {
  MUST(!object.freed && !object.asked_back);
  auto [added, is_new] = objects_.emplace(id, std::move(object));
  MUST(is_new, "an object is sealed once");
  sealed_bytes_ += added->second.at.size_bytes;
  if (added->second.pinned) pinned_bytes_ += added->second.at.size_bytes;
  enter_order(id, added->second);
}

void ObjectTable::pin(const ObjectId& id) {
  Object& object = objects_.at(id);
  if (object.pinned) return;
  leave_order(object);
  if (object.asked_back) asked_back_bytes_ -= object.at.size_bytes;
  object.asked_back = false;
  object.pinned = true;
  pinned_bytes_ += object.at.size_bytes;
}

void ObjectTable::unpin(const ObjectId& id) {
  Object& object = objects_.at(id);
  if (!object.pinned) return;
  object.pinned = false;
  pinned_bytes_ -= object.at.size_bytes;
  enter_order(id, object);
}

void ObjectTable::mark_freed(const ObjectId& id) {
  Object& object = objects_.at(id);
  leave_order(object);
  if (object.asked_back) asked_back_bytes_ -= object.at.size_bytes;
  object.asked_back = false;
  object.freed = true;
}

void ObjectTable::touch(const ObjectId& id) {
  Object& object = objects_.at(id);
  if (object.evictable()) order_.splice(order_.end(), order_, object.order);
}

void ObjectTable::remove(const ObjectId& id) {
  auto found = objects_.find(id);
  MUST(found != objects_.end());
  Object& object = found->second;
  leave_order(object);
  sealed_bytes_ -= object.at.size_bytes;
  if (object.pinned) pinned_bytes_ -= object.at.size_bytes;
  if (object.asked_back) asked_back_bytes_ -= object.at.size_bytes;
  objects_.erase(found);
}

std::vector<ObjectId> ObjectTable::ask_back(uint64_t bytes) {
  std::vector<ObjectId> ids;
  uint64_t sum = 0;
  while (sum < bytes && !order_.empty()) {
    ids.push_back(order_.front());
    Object& object = objects_.at(ids.back());
    leave_order(object);
    object.asked_back = true;
    sum += object.at.size_bytes;
  }
  asked_back_bytes_ += sum;
  return ids;
}

void ObjectTable::enter_order(const ObjectId& id, Object& object) {
  if (object.evictable()) object.order = order_.insert(order_.end(), id);
}

void ObjectTable::leave_order(Object& object) {
  if (object.evictable()) order_.erase(object.order);
}

void ObjectTable::validate() const {
  uint64_t sealed = 0;
  uint64_t asked_back = 0;
  uint64_t pinned = 0;
  size_t evictable = 0;
  for (const auto& [id, object] : objects_) {
    MUST(object.size_bytes > 0 && object.size_bytes <= object.at.size_bytes);
    MUST(!object.freed || object.pinned, "only a pin keeps a freed object");
    MUST(!object.asked_back || (object.remakable && !object.pinned && !object.freed));
    if (object.evictable()) {
      MUST(*object.order == id);
      ++evictable;
    }
    sealed += object.at.size_bytes;
    if (object.asked_back) asked_back += object.at.size_bytes;
    if (object.pinned) pinned += object.at.size_bytes;
  }
  MUST(evictable == order_.size());
  MUST(sealed == sealed_bytes_ && asked_back == asked_back_bytes_ && pinned == pinned_bytes_);
}

}  // namespace raylet::plasma
