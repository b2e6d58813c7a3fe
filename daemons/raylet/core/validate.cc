// Do the tables agree with each other? docs/invariants.md names these rules.
#include <unordered_map>
#include <utility>

#include "daemons/raylet/core/node_state.h"
#include "protocol/words/check.h"

namespace raylet {

void Node::State::validate() const {
  std::vector<uint64_t> uses(objects_.end(), 0), pins(objects_.end(), 0), holders(objects_.end(), 0);
  std::unordered_map<const Graph*, uint64_t> in_flight;
  uint32_t tasks_in_flight = 0;

  // Workers and batches.
  Resources taken;
  for (const auto& [number, worker] : workers_) {
    uint32_t of_worker = 0;
    for (const Batch& batch : worker->batches) {
      uint32_t left = 0;
      for (const BatchEntry& entry : batch.entries) {
        if (entry.graph == nullptr) continue;
        ++left;
        ++in_flight[entry.graph];
      }
      MUST(left == batch.left, "a batch counts its entries wrong");
      of_worker += left;
    }
    MUST(of_worker == worker->in_flight, "a worker counts its tasks wrong");
    tasks_in_flight += of_worker;
    if (worker->holds_resources) {
      taken.add(shapes_[worker->shape].resources);
      MUST(worker->is_actor() || !worker->batches.empty(), "an idle worker holds resources");
    }
    MUST(worker->state != Worker::State::kIdle || worker->batches.empty(), "an idle worker has batches");
  }
  MUST(tasks_in_flight == tasks_in_flight_, "tasks in flight are counted wrong");
  Resources all = available_;
  all.add(taken);
  Resources expected = options_.resources;
  expected.add(owed_);
  MUST(all == expected, "resources got lost or were made");

  // Graphs and tasks.
  uint64_t rows = 0;
  for (const Graph* graph : graphs_.all()) {
    uint32_t unfinished = 0, running = 0, live_objects = 0, live_sealed = 0;
    auto count_object = [&](uint32_t object, uint32_t task) {
      if (object == 0) return;
      ++live_objects;
      const Object& one = objects_[object];
      MUST(one.live && one.graph == graph->slot && one.id.task == task, "a row names another's object");
      if ((one.state == ObjectState::kSealed || one.state == ObjectState::kLost) && one.remakable) ++live_sealed;
    };
    std::unordered_map<uint64_t, uint64_t> row_uses;  // by task, of results without an object
    for (uint32_t task = 0; task < graph->arrived; ++task) {
      if (!graph->has_row(task)) continue;
      ++rows;
      const TaskRow& row = graph->row(task);
      if (row.return_count == 1) {
        count_object(row.object, task);
      } else if (auto numbers = graph->multi.find(task); numbers != graph->multi.end()) {
        for (uint32_t number : numbers->second) count_object(number, task);
      }
      if (row.state == TaskState::kRunning) ++running;
      if (row.state >= TaskState::kDone) continue;
      ++unfinished;
      const Block& block = graph->block_of(task);
      for (uint32_t e = row.first_edge; e < block.edge_end(task & (Block::kTasks - 1)); ++e) {
        const Edge& edge = block.edges[e];
        if (edge.is_external()) {
          uint32_t number = block.externals[edge.dep & Edge::kIndexMask].object;
          if (number != 0) ++uses[number];
        } else if (graph->has_row(edge.dep)) {
          uint32_t number = object_of(*graph, edge.dep, block.return_of(e));
          if (number != 0) {
            ++uses[number];
          } else {
            ++row_uses[edge.dep];
          }
        }
      }
    }
    for (uint32_t task = 0; task < graph->kept_tasks; ++task) {
      for (uint32_t r = 0; r < graph->row(task).return_count; ++r) {
        uint32_t number = object_of(*graph, task, r);
        if (number != 0) {
          ++uses[number];
        } else {
          ++row_uses[task];
        }
      }
    }
    for (auto [task, count] : row_uses) {
      MUST(graph->row(static_cast<uint32_t>(task)).uses == count, "a row counts its readers wrong");
    }
    MUST(unfinished == graph->unfinished, "a graph counts its unfinished tasks wrong");
    MUST(live_objects == graph->live_objects, "a graph counts its objects wrong");
    MUST(live_sealed == graph->live_sealed, "a graph counts its stored objects wrong");
    auto flying = in_flight.find(graph);
    MUST(graph->in_flight == (flying == in_flight.end() ? 0 : flying->second), "a graph counts its batches wrong");
    MUST(running <= graph->in_flight, "a task runs in no batch");
    MUST(!graph->is_over() || graph->in_flight > 0 || graph->live_sealed > 0, "a graph outlives its use");
    for (const auto& lane : graph->lanes) {
      MUST(lane->listed || lane->queue.empty(), "ready tasks that nobody looks for");
    }
  }
  MUST(rows == task_count_, "tasks are counted wrong");
  for (const auto& [id, job] : jobs_) {
    for (const Job::ShapeLanes& of_shape : job->shapes) {
      bool lacks = of_shape.lack != Job::ShapeLanes::Lack::kNothing;
      MUST(lacks == (of_shape.lacks_since < Instant{INT64_MAX}), "a lane lacks something since no time");
      MUST(!lacks || !of_shape.lanes.empty(), "a lane without tasks lacks something");
    }
  }

  // Objects, holders and pins.
  sessions_.each([&](const Session& session) {
    uint64_t held = 0;
    for (uint32_t at = session.first_share; at != 0; at = objects_.share(at).next_of_session) {
      const Share& share = objects_.share(at);
      MUST(share.session == session.slot, "a share is in another's list");
      MUST(share.held || share.pins > 0, "an empty share");
      pins[share.object] += share.pins;
      if (share.held) {
        ++holders[share.object];
        ++held;
      }
    }
    MUST(held == session.held_count, "a session counts what it holds wrong");
  });
  for (uint32_t number = 1; number < gets_.end(); ++number) {
    const Get& get = gets_[number];
    if (!get.live) continue;
    MUST(sessions_.find(get.session) != nullptr, "a get outlives its session");
  }
  uint64_t inline_bytes = 0;
  for (uint32_t number = 1; number < objects_.end(); ++number) {
    const Object& object = objects_[number];
    if (!object.live || !object.extra) continue;
    for (uint32_t inner : object.extra->contained) ++uses[inner];
  }
  for (const auto& [id, actor] : actors_) {
    if (!actor->detached) continue;
    uint32_t number = find_object(id);
    if (number != 0) ++uses[number];
  }
  for (uint32_t number = 1; number < objects_.end(); ++number) {
    const Object& object = objects_[number];
    if (!object.live) continue;
    uint64_t waits = objects_.wait_count(number);
    MUST(object.uses == uses[number] + waits, "an object counts its uses wrong");
    MUST(object.pins == pins[number], "an object counts its pins wrong");
    MUST(object.holders == holders[number], "an object counts its holders wrong");
    MUST(object.uses > 0 || object.holders > 0 || object.pins > 0, "an object that nobody needs");
    if (object.state == ObjectState::kInline) inline_bytes += size_bytes(object.value);
    MUST(object.pins == 0 || object.state == ObjectState::kSealed || object.state == ObjectState::kLost ||
             object.state == ObjectState::kFailed,
         "a pin on what was never stored");
  }
  MUST(inline_bytes == inline_value_bytes_, "bytes held here are counted wrong");
}

}  // namespace raylet
