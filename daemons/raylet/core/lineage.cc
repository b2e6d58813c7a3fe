// What was lost from the store is made again by the tasks that made it, and their inputs before them.
#include "daemons/raylet/core/node_state.h"
#include "protocol/words/check.h"

namespace raylet {

namespace {
constexpr uint16_t kRemadeInVainMax = 3;
}  // namespace

// The store asks for these bytes; they stay until they are freed. One that is pinned stays: its pin is on its
// way to the store, which then asks for another.
void Node::State::on(ObjectsEvicted& event) {
  for (const ObjectId& id : event.ids) {
    uint32_t number = find_object(id);
    if (number == 0) continue;
    const Object& object = objects_[number];
    if (object.state != ObjectState::kSealed || object.pins > 0 || !object.remakable || object.graph == 0)
      continue;
    // What is needed next and was made again and again is kept, or readers and makers would chase each other.
    const TaskRow& row = graphs_.at(object.graph).row(static_cast<uint32_t>(object.id.task));
    if (object.uses > 0 && row.attempt >= kRemadeInVainMax) continue;
    emit(StoreFree{id});
    lose(number);
  }
}

// The bytes are gone. What can't be made again has failed from here on.
void Node::State::lose(uint32_t number) {
  Object& object = objects_[number];
  if (object.remakable && object.graph != 0) {
    object.state = ObjectState::kLost;
    object.since = now_;
    return;
  }
  forget_unsealed(number);
  object.state = ObjectState::kFailed;
  object.since = now_;
  object.failure = make_failure(FailureCode::kObjectLost,
                                "object " + object.id.hex() +
                                    (object.put_by.is_nil()
                                         ? " was lost from the object store, and its task can't run again"
                                         : " was put, and its only copy was lost with the object store"));
}

// Runs the task again whose result is lost, with those whose results it needs. Does nothing if it is under way.
void Node::State::remake(uint32_t number) {
  std::vector<uint32_t> missing{number};
  while (!missing.empty()) {
    uint32_t at = missing.back();
    missing.pop_back();
    Object& object = objects_[at];
    if (object.graph == 0) continue;
    Graph& graph = graphs_.at(object.graph);
    uint32_t task = static_cast<uint32_t>(object.id.task);
    TaskRow& row = graph.row(task);
    if (row.state != TaskState::kDone) continue;
    row.state = TaskState::kWaiting;
    row.charged |= TaskRow::kRunAgain;
    if (row.attempt < UINT16_MAX) ++row.attempt;
    row.pending = 0;
    ++graph.group(row.group).unfinished;
    ++graph.block_of(task).unfinished;
    ++graph.unfinished;
    --graph.finished;
    ++tasks_retried_total_;
    FailurePtr gone;
    graph.each_edge(task, [&](Block& block, uint32_t e) {
      const Edge& edge = block.edges[e];
      uint32_t input;
      if (edge.is_external()) {
        ExternalRef& ref = block.externals[edge.dep & Edge::kIndexMask];
        input = ref.object = object_for_session(nullptr, ref.id);
        if (input == 0) {
          if (edge.is_borrow()) return;
          gone = make_failure(FailureCode::kObjectLost,
                              "object " + ref.id.hex() + " was freed, and is needed to make another again",
                              name_of(graph, row));
          return;
        }
      } else {
        uint32_t index = block.return_of(e);
        input = object_of(graph, edge.dep, index);
        if (input == 0) {
          // It was freed when its readers were through: as good as lost.
          input = need_object(graph, edge.dep, index);
          Object& freed = objects_[input];
          if (graph.row(edge.dep).state == TaskState::kDone) {
            freed.state = ObjectState::kLost;
            freed.remakable = true;
            ++graph.live_sealed;
            ++graph.block_of(edge.dep).live_sealed;
          } else if (graph.row(edge.dep).state == TaskState::kFailed) {
            // It ran again before, and in vain.
            set_failed(input, graph.failure
                                  ? graph.failure
                                  : make_failure(FailureCode::kObjectLost,
                                                 "its input " + freed.id.hex() + " could not be made again",
                                                 name_of(graph, row)));
          }
        }
      }
      ++objects_[input].uses;
      if (edge.is_borrow() || objects_[input].is_there()) return;
      ++row.pending;
      if (objects_[input].state == ObjectState::kFailed) gone = objects_[input].failure;
      if (edge.is_external() && !objects_[input].is_over()) {
        objects_[input].more().readers.push_back({graph.slot, task, graph.sequence});
      }
      if (objects_[input].state == ObjectState::kLost) missing.push_back(input);
    });
    if (gone) {
      fail_task(graph, task, gone);
    } else if (row.pending == 0) {
      make_ready(graph, task);
    }
  }
}

void Node::State::on(StoreDied&) { store_up_ = false; }

void Node::State::on(StoreReturned& event) {
  store_up_ = true;
  if (!event.kept) {
    sessions_.each([&](Session& session) {
      for (auto& [id, slab] : session.slabs) slab.lost = true;
    });
    for (uint32_t number = 1; number < objects_.end(); ++number) {
      if (!objects_[number].live || objects_[number].state != ObjectState::kSealed) continue;
      lose(number);
      // Somebody may wait for it in a batch that was not sent; those that were sent have it mapped.
    }
  }
  for (auto& [ticket, lease] : pending_leases_) {
    emit(StoreLeaseSlab{ticket, lease.slab, lease.session, lease.size_bytes, options_.slab_wait_max});
  }
}

}  // namespace raylet
