// Objects: their values, who holds them, who waits for them, and when they go.
#include <algorithm>

#include "daemons/raylet/core/node_state.h"
#include "protocol/words/check.h"

namespace raylet {

uint32_t Node::State::object_of(const Graph& graph, uint32_t task, uint32_t index) const {
  const TaskRow& row = graph.row(task);
  if (row.return_count == 1) return index == 0 ? row.object : 0;
  if (index >= row.return_count) return 0;
  return graph.multi.at(task)[index];
}

uint32_t Node::State::need_object(Graph& graph, uint32_t task, uint32_t index) {
  if (uint32_t number = object_of(graph, task, index); number != 0) return number;
  TaskRow& row = graph.row(task);
  MUST(index < row.return_count);
  uint32_t number = objects_.add({graph.id, task, index});
  Object& object = objects_[number];
  object.graph = graph.slot;
  object.since = now_;
  ++graph.live_objects;
  if (row.return_count == 1) {
    object.uses = row.uses;
    row.uses = 0;
    row.object = number;
  } else {
    graph.multi.at(task)[index] = number;
  }
  return number;
}

uint32_t Node::State::find_object(const ObjectId& id) const {
  const Graph* graph = graphs_.find(id.graph);
  if (graph != nullptr && graph->has_row(id.task)) return object_of(*graph, static_cast<uint32_t>(id.task), id.index);
  return objects_.find_loose(id);
}

uint32_t Node::State::object_for_session(const Session* session, const ObjectId& id) {
  if (uint32_t known = find_object(id); known != 0) return known;
  Graph* graph = graphs_.find(id.graph);
  if (graph == nullptr) return 0;
  if (graph->has_row(id.task)) {
    const TaskRow& row = graph->row(static_cast<uint32_t>(id.task));
    if (id.index >= row.return_count) return 0;
    if (row.state == TaskState::kDone) return 0;  // freed
    if (row.state == TaskState::kFailed && !graph->failure) return 0;
    uint32_t number = need_object(*graph, static_cast<uint32_t>(id.task), id.index);
    if (row.state == TaskState::kFailed) set_failed(number, graph->failure);
    return number;
  }
  bool to_come = session != nullptr && graph->session == session->id && id.task >= graph->arrived;
  if (!to_come || (graph->last && !graph->failure)) return 0;
  uint32_t number = objects_.add(id);
  objects_[number].since = now_;
  objects_.loosen(number);
  if (graph->failure) {
    set_failed(number, graph->failure);
  } else {
    objects_[number].future = true;
    ++graph->future_objects;
  }
  return number;
}

// ---------------------------------------------------------------- holders

void Node::State::hold(Session& session, uint32_t number) {
  uint32_t share = objects_.find_share(number, session.slot);
  if (share == 0) share = objects_.add_share(number, session.slot, session.first_share);
  if (objects_.share(share).held) return;
  objects_.share(share).held = true;
  if (objects_[number].holders++ == 0) ++held_objects_;
  ++session.held_count;
}

void Node::State::unhold(Session& session, uint32_t number) {
  uint32_t share = objects_.find_share(number, session.slot);
  if (share == 0 || !objects_.share(share).held) return;
  objects_.share(share).held = false;
  if (objects_.share(share).pins == 0) objects_.remove_share(share, session.first_share);
  --session.held_count;
  if (--objects_[number].holders == 0) {
    --held_objects_;
    may_be_free(number);
  }
}

void Node::State::pin(Session& session, uint32_t number) {
  uint32_t share = objects_.find_share(number, session.slot);
  if (share == 0) share = objects_.add_share(number, session.slot, session.first_share);
  ++objects_.share(share).pins;
  if (objects_[number].pins++ == 0) emit(StorePin{objects_[number].id});
}

void Node::State::unpin(Session& session, uint32_t number, uint32_t count) {
  uint32_t share = objects_.find_share(number, session.slot);
  if (share == 0) return;
  count = std::min(count, objects_.share(share).pins);
  if (count == 0) return;
  objects_.share(share).pins -= count;
  if (objects_.share(share).pins == 0 && !objects_.share(share).held) {
    objects_.remove_share(share, session.first_share);
  }
  Object& object = objects_[number];
  object.pins -= count;
  if (object.pins > 0) return;
  if (object.state == ObjectState::kSealed) emit(StoreUnpin{object.id});
  may_be_free(number);
}

void Node::State::drop_shares(Session& session) {
  while (session.first_share != 0) {
    const Share share = objects_.share(session.first_share);
    if (share.pins > 0) {
      unpin(session, share.object, share.pins);
    }
    if (share.held) unhold(session, share.object);
  }
}

void Node::State::unuse(uint32_t number) {
  MUST(objects_[number].uses > 0, "an object is used less than never");
  if (--objects_[number].uses == 0) may_be_free(number);
}

void Node::State::unuse_result(Graph& graph, uint32_t task, uint32_t index) {
  uint32_t number = object_of(graph, task, index);
  if (number != 0) return unuse(number);
  TaskRow& row = graph.row(task);
  MUST(row.uses > 0, "a result is used less than never");
  --row.uses;
}

void Node::State::may_be_free(uint32_t number) {
  const Object& object = objects_[number];
  if (object.uses == 0 && object.holders == 0 && object.pins == 0) doomed_.push_back(number);
}

// Called from settle() only. A pending object without users is forgotten too: its task still runs.
void Node::State::free_object(uint32_t number) {
  Object& object = objects_[number];
  if (!object.live || object.uses > 0 || object.holders > 0 || object.pins > 0) return;
  Graph* graph = object.graph != 0 ? &graphs_.at(object.graph) : nullptr;
  if (graph != nullptr) {
    uint32_t task = static_cast<uint32_t>(object.id.task);
    TaskRow& row = graph->row(task);
    // What is still to be made keeps its record: who calls for it later finds it.
    if (row.return_count == 1) {
      row.object = 0;
    } else {
      graph->multi.at(task)[object.id.index] = 0;
    }
    --graph->live_objects;
    mark_ending(*graph);
    if (is_creation(row) && object.id.index == 0) actor_unheld(object.id);
  } else {
    if (object.future) {
      if (Graph* to_come = graphs_.find(object.id.graph)) --to_come->future_objects;
    }
    if (object.outlives) {
      if (Graph* maker = graphs_.find(object.id.graph)) {
        --maker->outliving;
      } else if (auto ended = ended_.find(object.id.graph); ended != ended_.end()) {
        if (--ended->second.outliving == 0 && !ended->second.recent) ended_.erase(ended);
      }
    }
    objects_.unloosen(number);
    if (!actors_.empty()) actor_unheld(object.id);
  }
  if (object.state == ObjectState::kSealed) emit(StoreFree{object.id});
  forget_unsealed(number);
  if (object.state == ObjectState::kInline) inline_value_bytes_ -= size_bytes(object.value);
  if (object.extra) {
    for (uint32_t inner : object.extra->contained) unuse(inner);
  }
  objects_.remove(number);
}

// Keeps the counts of what lineage must be kept for. To be called while the state still says kSealed or kLost.
void Node::State::forget_unsealed(uint32_t number) {
  Object& object = objects_[number];
  if ((object.state != ObjectState::kSealed && object.state != ObjectState::kLost) || object.graph == 0) return;
  if (!object.remakable) return;
  Graph& graph = graphs_.at(object.graph);
  --graph.live_sealed;
  --graph.block_of(static_cast<uint32_t>(object.id.task)).live_sealed;
}

// ---------------------------------------------------------------- values

void Node::State::set_value(uint32_t number, Bytes value) {
  Object& object = objects_[number];
  forget_unsealed(number);
  object.state = ObjectState::kInline;
  object.since = now_;
  object.value = value ? std::move(value) : make_bytes({});
  inline_value_bytes_ += size_bytes(object.value);
  resolve(number);
}

void Node::State::set_sealed(uint32_t number, const SlabId& slab, const SealedBytes& sealed,
                             const LeasedSlab& leased, bool remakable) {
  Object& object = objects_[number];
  forget_unsealed(number);
  if (remakable && object.graph != 0) {
    Graph& graph = graphs_.at(object.graph);
    ++graph.live_sealed;
    ++graph.block_of(static_cast<uint32_t>(object.id.task)).live_sealed;
  }
  object.state = ObjectState::kSealed;
  object.since = now_;
  object.remakable = remakable;
  object.at = {leased.segment, leased.offset + sealed.offset, sealed.size_bytes};
  emit(StoreSeal{object.id, slab, sealed.offset, sealed.size_bytes, remakable});
  // Views of the lost copy are still counted, and their unpins will come.
  if (object.pins > 0) emit(StorePin{object.id});
  resolve(number);
}

void Node::State::set_failed(uint32_t number, const FailurePtr& failure) {
  Object& object = objects_[number];
  if (object.state == ObjectState::kSealed) emit(StoreFree{object.id});
  if (object.state == ObjectState::kInline) inline_value_bytes_ -= size_bytes(object.value);
  forget_unsealed(number);
  object.value = nullptr;
  object.state = ObjectState::kFailed;
  object.since = now_;
  object.failure = failure;
  resolve(number);
}

void Node::State::set_contained(uint32_t number, const std::vector<ObjectId>& contained) {
  for (const ObjectId& id : contained) {
    uint32_t inner = object_for_session(nullptr, id);
    if (inner == 0 || inner == number) continue;
    ++objects_[inner].uses;
    objects_[number].more().contained.push_back(inner);
  }
}

// Tells everybody who waits that the object is over.
void Node::State::resolve(uint32_t number) {
  Object& object = objects_[number];
  if (object.first_wait != 0) {
    std::vector<uint32_t> waiting;
    objects_.take_waits(number, waiting);
    for (uint32_t get : waiting) {
      answer(get, number);
      unuse(number);
    }
  }
  if (object.extra && !object.extra->readers.empty()) {
    std::vector<TaskRef> readers = std::move(object.extra->readers);
    object.extra->readers.clear();
    for (const TaskRef& ref : readers) {
      Graph* graph = graphs_.find(ref);
      if (graph == nullptr || !graph->has_row(ref.task)) continue;
      if (object.state == ObjectState::kFailed) {
        failing_.push_back({graph, ref.task, object.failure});
      } else {
        input_came(*graph, ref.task);
      }
    }
  }
  if (objects_[number].uses == 0) may_be_free(number);
}

void Node::State::on(PutArrived& event) {
  Session* session = sessions_.find(event.session);
  if (session == nullptr || session->closed) return;
  auto refuse = [&](FailureCode code, std::string message) {
    emit(Refuse{session->id, "put", event.id.graph, {}, *make_failure(code, std::move(message))});
  };
  if (event.id.is_nil()) return refuse(FailureCode::kRequestInvalid, "the object has no id");
  Graph* graph = graphs_.find(event.id.graph);
  if ((graph != nullptr && event.id.task < graph->arrived) || objects_.find_loose(event.id) != 0) {
    return refuse(FailureCode::kRequestInvalid,
                  "object " + event.id.hex() + " is there already; each put needs an id of its own");
  }
  const SealedBytes* sealed = std::get_if<SealedBytes>(&event.payload);
  const LeasedSlab* slab = sealed != nullptr ? slab_of(*session, *sealed) : nullptr;
  if (sealed != nullptr && slab == nullptr) {
    return close_session(session->id, "it put an object into slab " + std::to_string(sealed->slab.number) +
                                          ", which it does not lease, or outside of it");
  }
  uint32_t number = objects_.add(event.id);
  Object& object = objects_[number];
  object.put_by = session->id;
  object.since = now_;
  objects_.loosen(number);
  hold(*session, number);
  set_contained(number, event.contained);
  if (sealed == nullptr) {
    set_value(number, std::move(std::get<Bytes>(event.payload)));
  } else if (slab->lost) {
    set_failed(number, make_failure(FailureCode::kObjectLost,
                                    "the object store died while the object was being put; put it again"));
  } else {
    set_sealed(number, sealed->slab, *sealed, *slab, false);
  }
}

// ---------------------------------------------------------------- questions

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

void Node::State::on(ReferencesChanged& event) {
  Session* session = sessions_.find(event.session);
  if (session == nullptr || session->closed) return;
  for (const ObjectId& id : event.held) {
    if (uint32_t number = object_for_session(session, id); number != 0) hold(*session, number);
  }
  for (const ObjectId& id : event.released) {
    if (uint32_t number = find_object(id); number != 0) unhold(*session, number);
  }
  for (const auto& [id, count] : event.unpinned) {
    if (uint32_t number = find_object(id); number != 0) unpin(*session, number, count);
  }
}

}  // namespace raylet
