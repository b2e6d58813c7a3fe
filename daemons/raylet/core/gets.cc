// Gets: who asked for objects, and what they are told when those are over.
#include <algorithm>

#include "daemons/raylet/core/node_state.h"
#include "protocol/words/check.h"

namespace raylet {

void Node::State::on(GetAsked& event) {
  Session* session = sessions_.find(event.session);
  if (session == nullptr || session->closed) return;
  if (session->gets.contains(event.request.number)) {
    emit(Refuse{session->id, "get", {}, event.request,
                *make_failure(FailureCode::kRequestInvalid,
                              "request " + std::to_string(event.request.number) + " is still being answered")});
    return;
  }
  uint32_t get_number = gets_.add();
  Get& get = gets_[get_number];
  get.live = true;
  get.session = session->id;
  get.request = event.request;
  get.values = event.values;
  get.left = event.ids.size();
  if (!event.values && event.wanted_count > 0) get.left = std::min<uint64_t>(get.left, event.wanted_count);
  session->gets[event.request.number] = get_number;
  ++pending_gets_;
  if (event.ids.empty()) {
    answering_.push_back(get_number);
    get.answering = true;
    get.over = true;
    return;
  }
  for (const ObjectId& id : event.ids) {
    if (get.over) break;
    uint32_t number = object_for_session(session, id);
    if (number == 0) {
      Failure unknown;
      unknown.code = FailureCode::kObjectUnknown;
      unknown.message = "object " + id.hex() + " is not known to this node: it was freed, or never made here";
      answer_failure(get_number, id, std::move(unknown));
    } else if (objects_[number].is_over()) {
      answer(get_number, number);
    } else {
      ++objects_[number].uses;
      objects_.add_wait(number, get_number);
      get.objects.push_back(number);
      if (objects_[number].state == ObjectState::kLost) remake(number);
    }
  }
}

void Node::State::answer(uint32_t get_number, uint32_t number) {
  Get& get = gets_[get_number];
  if (!get.live || get.over) return;
  Object& object = objects_[number];
  ObjectAnswer reply;
  reply.id = object.id;
  if (object.state == ObjectState::kFailed && get.values) {
    reply.kind = ObjectAnswer::Kind::kFailed;
    reply.failure = *object.failure;
  } else if (!get.values) {
    reply.kind = ObjectAnswer::Kind::kReady;
  } else if (object.state == ObjectState::kInline) {
    reply.kind = ObjectAnswer::Kind::kInline;
    reply.value = object.value;
  } else {
    reply.kind = ObjectAnswer::Kind::kLocated;
    reply.at = object.at;
    pin(*sessions_.find(get.session), number);
  }
  get.answers.push_back(std::move(reply));
  if (--get.left == 0) get.over = true;
  if (!get.answering) {
    get.answering = true;
    answering_.push_back(get_number);
  }
}

void Node::State::answer_failure(uint32_t get_number, const ObjectId& id, Failure failure) {
  Get& get = gets_[get_number];
  ObjectAnswer reply;
  reply.id = id;
  reply.kind = get.values ? ObjectAnswer::Kind::kFailed : ObjectAnswer::Kind::kReady;
  if (get.values) reply.failure = std::move(failure);
  get.answers.push_back(std::move(reply));
  if (--get.left == 0) get.over = true;
  if (!get.answering) {
    get.answering = true;
    answering_.push_back(get_number);
  }
}

// Forgets the get; objects that it still waits for are used by it no more.
void Node::State::end_get(uint32_t get_number) {
  Get& get = gets_[get_number];
  if (!get.live) return;
  for (uint32_t number : get.objects) {
    // One that was answered is waited for no more; its number may be another object's by now.
    if (objects_[number].live && objects_.remove_wait(number, get_number)) unuse(number);
  }
  if (Session* session = sessions_.find(get.session)) session->gets.erase(get.request.number);
  --pending_gets_;
  gets_.remove(get_number);
}

void Node::State::on(GetCancelled& event) {
  Session* session = sessions_.find(event.session);
  if (session == nullptr) return;
  auto found = session->gets.find(event.request.number);
  if (found == session->gets.end()) return;
  gets_[found->second].over = true;
  if (!gets_[found->second].answering) end_get(found->second);
}

}  // namespace raylet
