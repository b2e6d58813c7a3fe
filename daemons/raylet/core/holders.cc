// Who holds, pins and uses an object, and when it goes for want of them.
#include <algorithm>

#include "daemons/raylet/core/node_state.h"
#include "protocol/words/check.h"

namespace raylet {

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
