#include "daemons/raylet/core/object_table.h"

#include <algorithm>

#include "protocol/words/check.h"

namespace raylet {

uint32_t ObjectTable::add(const ObjectId& id) {
  uint32_t number = objects_.add();
  Object& object = objects_[number];
  object.id = id;
  object.live = true;
  return number;
}

void ObjectTable::remove(uint32_t number) {
  Object& object = objects_[number];
  MUST(object.live && object.first_share == 0, "an object that sessions hold is removed");
  while (object.first_wait != 0) {
    uint32_t wait = object.first_wait;
    object.first_wait = waits_[wait].next;
    waits_.remove(wait);
  }
  objects_.remove(number);
}

uint32_t ObjectTable::find_loose(const ObjectId& id) const {
  auto found = loose_.find(id);
  return found == loose_.end() ? 0 : found->second;
}

void ObjectTable::loosen(uint32_t number) {
  objects_[number].graph = 0;
  MUST(loose_.emplace(objects_[number].id, number).second, "two loose objects of one id");
}

void ObjectTable::unloosen(uint32_t number) {
  auto found = loose_.find(objects_[number].id);
  if (found != loose_.end() && found->second == number) loose_.erase(found);
}

uint32_t ObjectTable::find_share(uint32_t object, uint32_t session) const {
  for (uint32_t at = objects_[object].first_share; at != 0; at = shares_[at].next_of_object) {
    if (shares_[at].session == session) return at;
  }
  return 0;
}

uint32_t ObjectTable::add_share(uint32_t object, uint32_t session, uint32_t& first_of_session) {
  uint32_t number = shares_.add();
  Share& share = shares_[number];
  share.object = object;
  share.session = session;
  share.next_of_object = objects_[object].first_share;
  objects_[object].first_share = number;
  share.next_of_session = first_of_session;
  if (first_of_session != 0) shares_[first_of_session].prev_of_session = number;
  first_of_session = number;
  return number;
}

void ObjectTable::remove_share(uint32_t number, uint32_t& first_of_session) {
  Share& share = shares_[number];
  uint32_t* link = &objects_[share.object].first_share;
  while (*link != number) link = &shares_[*link].next_of_object;
  *link = share.next_of_object;
  if (share.prev_of_session != 0) {
    shares_[share.prev_of_session].next_of_session = share.next_of_session;
  } else {
    first_of_session = share.next_of_session;
  }
  if (share.next_of_session != 0) shares_[share.next_of_session].prev_of_session = share.prev_of_session;
  shares_.remove(number);
}

void ObjectTable::add_wait(uint32_t object, uint32_t get) {
  uint32_t number = waits_.add();
  waits_[number].get = get;
  waits_[number].next = objects_[object].first_wait;
  objects_[object].first_wait = number;
}

void ObjectTable::take_waits(uint32_t object, std::vector<uint32_t>& gets) {
  uint32_t at = objects_[object].first_wait;
  objects_[object].first_wait = 0;
  size_t start = gets.size();
  while (at != 0) {
    gets.push_back(waits_[at].get);
    uint32_t next = waits_[at].next;
    waits_.remove(at);
    at = next;
  }
  std::reverse(gets.begin() + static_cast<ptrdiff_t>(start), gets.end());
}

bool ObjectTable::remove_wait(uint32_t object, uint32_t get) {
  for (uint32_t* link = &objects_[object].first_wait; *link != 0; link = &waits_[*link].next) {
    if (waits_[*link].get != get) continue;
    uint32_t gone = *link;
    *link = waits_[gone].next;
    waits_.remove(gone);
    return true;
  }
  return false;
}

uint64_t ObjectTable::wait_count(uint32_t object) const {
  uint64_t count = 0;
  for (uint32_t at = objects_[object].first_wait; at != 0; at = waits_[at].next) ++count;
  return count;
}

}  // namespace raylet
