// Objects: what they are called, and their values.
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
  if (graph != nullptr && graph->has_row(id.task))
    return object_of(*graph, static_cast<uint32_t>(id.task), id.index);
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

}  // namespace raylet
