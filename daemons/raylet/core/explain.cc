// What the node tells about itself: report() for status and metrics, explain() for one thing.
#include <algorithm>

#include "daemons/raylet/core/node_state.h"
#include "protocol/words/size_text.h"

namespace raylet {

namespace {

std::string state_of(const Worker& worker) {
  if (worker.actor != nullptr) return "actor";
  switch (worker.state) {
    case Worker::State::kStarting: return "starting";
    case Worker::State::kIdle: return "idle";
    case Worker::State::kBusy: return "busy";
    case Worker::State::kBlocked: return "blocked";
  }
  return "";
}

std::string state_of(const Graph& graph) {
  if (graph.cancelled) return "cancelled";
  if (graph.failure) return "failed";
  if (graph.is_over()) return "ended";
  return graph.last ? "running" : "arriving";
}

std::string state_of(const Actor& actor) {
  switch (actor.state) {
    case Actor::State::kNaming:
    case Actor::State::kWaiting: return "waiting";
    case Actor::State::kStarting: return "starting";
    case Actor::State::kAlive: return "alive";
    case Actor::State::kDead: return "dead";
  }
  return "";
}

std::string state_of(const Object& object) {
  switch (object.state) {
    case ObjectState::kPending: return "pending";
    case ObjectState::kInline: return "inline";
    case ObjectState::kSealed: return "sealed";
    case ObjectState::kFailed: return "failed";
    case ObjectState::kLost: return "lost";
  }
  return "";
}

uint64_t size_of(const Object& object) {
  return object.state == ObjectState::kInline ? size_bytes(object.value) : object.at.size_bytes;
}

const BatchEntry* running_entry(const Worker& worker) {
  for (const Batch& batch : worker.batches) {
    for (const BatchEntry& entry : batch.entries) {
      if (entry.graph != nullptr) return &entry;
    }
  }
  return nullptr;
}

}  // namespace

NodeReport Node::State::report(Instant at) const {
  NodeReport report;
  report.total = options_.resources;
  report.available = available_;
  for (const auto& [number, worker] : workers_) {
    WorkerReport one;
    one.worker = worker->id;
    one.pid = worker->pid;
    one.state = state_of(*worker);
    if (const BatchEntry* entry = running_entry(*worker)) {
      one.running = name_of(*entry->graph, entry->graph->row(entry->task));
      one.running_for = at - worker->batches.front().heard_at;
    }
    one.tasks_in_flight = worker->in_flight;
    if (worker->job != nullptr) one.job = worker->job->id;
    report.workers.push_back(std::move(one));
  }
  uint64_t waiting = 0, ready = 0, running = 0, finished = 0, failed = 0;
  for (const Graph* graph : graphs_.all()) {
    GraphReport one;
    one.graph = graph->id;
    one.job = graph->job->id;
    one.name = graph->name;
    one.state = state_of(*graph);
    one.task_total = graph->arrived;
    one.finished = graph->finished;
    one.failed = graph->failed;
    one.running = std::min(graph->in_flight, graph->unfinished);
    for (const auto& lane : graph->lanes) one.ready += lane->queue.size();
    one.ready = std::min<uint64_t>(one.ready, graph->unfinished - one.running);
    one.waiting = graph->unfinished - one.running - one.ready;
    one.age = at - graph->arrived_at;
    one.durable = graph->durable;
    waiting += one.waiting;
    ready += one.ready;
    running += one.running;
    finished += one.finished;
    failed += one.failed;
    report.graphs.push_back(std::move(one));
  }
  report.tasks_by_state = {{"waiting", waiting}, {"ready", ready}, {"running", running},
                           {"finished", finished}, {"failed", failed}};
  sessions_.each([&](const Session& session) {
    if (!session.is_driver || session.closed || session.job == nullptr) return;
    report.drivers.push_back(
        {session.job->id, session.pid, session.job->setup.script, session.held_count, session.local});
  });
  for (const auto& [id, actor] : actors_) {
    if (!actor->stands_for.is_nil()) continue;
    report.actors.push_back({id, actor->name, actor->class_name, state_of(*actor),
                             actor->worker != nullptr ? actor->worker->pid : 0, actor->calls_waiting});
  }
  std::sort(report.actors.begin(), report.actors.end(), [](auto& a, auto& b) { return a.actor < b.actor; });
  report.inline_value_bytes = inline_value_bytes_;
  report.graph_bytes = graph_bytes_;
  report.object_count = objects_.live();
  report.held_object_count = held_objects_;
  report.pending_get_count = pending_gets_;
  report.tasks_finished_total = tasks_finished_total_;
  report.tasks_failed_total = tasks_failed_total_;
  report.tasks_retried_total = tasks_retried_total_;
  report.batches_sent_total = batches_sent_total_;
  report.workers_died_total = workers_died_total_;
  return report;
}

// ---------------------------------------------------------------- explain

void Node::State::explain_task(Instant at, const Graph& graph, uint32_t task, Explanation& out) const {
  const TaskRow& row = graph.row(task);
  const std::string& name = name_of(graph, row);
  out.details.push_back("task " + std::to_string(task) + " of graph " + graph.id.hex() + ": " + name +
                        ", attempt " + std::to_string(row.attempt));
  switch (row.state) {
    case TaskState::kWaiting: {
      out.state = "waiting";
      out.since = at - graph.arrived_at;
      if (!graph.opened) {
        out.reason = "Its graph has not arrived as a whole: " + std::to_string(graph.arrived) + " tasks so far.";
      } else if (row.pending > 0) {
        out.reason = "It waits for " + std::to_string(row.pending) + " of its inputs.";
        uint32_t named = 0;
        const Block& block = graph.block_of(task);
        for (uint32_t e = row.first_edge; e < block.edge_end(task & (Block::kTasks - 1)) && named < 5; ++e) {
          const Edge& edge = block.edges[e];
          if (edge.is_borrow()) continue;
          if (edge.is_external()) {
            const ExternalRef& ref = block.externals[edge.dep & Edge::kIndexMask];
            if (ref.object != 0 && objects_[ref.object].is_there()) continue;
            out.details.push_back("waits for " + ref.id.hex());
          } else {
            if (!graph.has_row(edge.dep) || graph.row(edge.dep).state == TaskState::kDone) continue;
            out.details.push_back("waits for " + ObjectId{graph.id, edge.dep, block.return_of(e)}.hex() + " of " +
                                  name_of(graph, graph.row(edge.dep)));
          }
          ++named;
        }
      } else if (is_call(graph, row)) {
        auto actor = actors_.find(graph.option_of(row).options.actor);
        out.reason = actor != actors_.end() && actor->second->state != Actor::State::kAlive
                         ? "Its actor is " + state_of(*actor->second) + "."
                         : "Calls of its actor that were submitted before it come first.";
      } else {
        out.reason = "The name of its actor is being written down by the head.";
      }
      return;
    }
    case TaskState::kReady: {
      out.state = "ready";
      out.since = at - graph.arrived_at;
      const Shape& shape = shapes_[graph.option_of(row).shape];
      if (!shape.feasible) {
        out.reason = "It wants " + shape.resources.to_string() + ", and this node has " +
                     options_.resources.to_string() + ": no node can run it.";
      } else if (!available_.fits(shape.resources) || !owed_.empty()) {
        out.reason = "It wants " + shape.resources.to_string() + ", and " + available_.to_string() + " is free.";
      } else if (lack_of(graph, row) == Job::ShapeLanes::Lack::kWorker) {
        out.reason = "It could run at once, and waits for a worker of its job.";
      } else {
        out.reason = "It could run at once; others of lower rank come first.";
      }
      return;
    }
    case TaskState::kHeldBack:
      out.state = "held back";
      out.since = at - graph.arrived_at;
      out.reason = "Memory is short: " + format_size(store_used_) + " of " + format_size(store_capacity_) +
                   " of the object store are used, and it makes more data.";
      return;
    case TaskState::kRunning:
      out.state = "running";
      for (const auto& [number, worker] : workers_) {
        for (const Batch& batch : worker->batches) {
          for (const BatchEntry& entry : batch.entries) {
            if (entry.graph != &graph || entry.task != task) continue;
            out.since = at - batch.heard_at;
            out.reason = "It is in batch " + std::to_string(batch.number) + " of worker " +
                         std::to_string(number) + " (pid " + std::to_string(worker->pid) + ").";
          }
        }
      }
      return;
    case TaskState::kDone:
      out.state = "finished";
      out.reason = "It has run.";
      return;
    case TaskState::kFailed:
      out.state = "failed";
      out.reason = graph.failure ? graph.failure->message : "It failed, or one that it depends on did.";
      return;
  }
}

Job::ShapeLanes::Lack Node::State::lack_of(const Graph& graph, const TaskRow& row) const {
  uint32_t shape = graph.option_of(row).shape;
  const auto& shapes = graph.job->shapes;
  auto lanes = std::find_if(shapes.begin(), shapes.end(), [&](const auto& one) { return one.shape == shape; });
  return lanes == shapes.end() ? Job::ShapeLanes::Lack::kNothing : lanes->lack;
}

// `asked` is an id, in hex or a worker's number, maybe with what it is before it: "worker:3".
Explanation Node::State::explain(Instant at, const std::string& asked) const {
  Explanation out;
  const std::string text = asked.substr(asked.find(':') + 1);
  if (std::optional<ObjectId> id = ObjectId::from_hex(text)) {
    if (auto actor = actors_.find(*id); actor != actors_.end()) {
      const Actor& one = *actor->second;
      out.found = true;
      out.kind = "actor";
      out.state = state_of(one);
      out.since = at - one.since;
      out.reason = one.death                              ? one.death->message
                   : one.state == Actor::State::kNaming   ? "Its name is being written down by the head."
                   : one.state == Actor::State::kStarting ? "Its constructor runs."
                   : one.state == Actor::State::kAlive
                       ? "It takes calls; " + std::to_string(one.calls_waiting) + " wait."
                       : "It waits for its inputs or a place.";
      return out;
    }
    uint32_t number = find_object(*id);
    const Graph* graph = graphs_.find(id->graph);
    bool has_task = graph != nullptr && graph->has_row(id->task);
    if (number == 0 && !has_task) return out;
    out.found = true;
    out.kind = number != 0 ? "object" : "task";
    if (has_task) explain_task(at, *graph, static_cast<uint32_t>(id->task), out);
    if (number == 0) return out;
    const Object& object = objects_[number];
    std::string of_task = std::move(out.reason);
    out.state = state_of(object);
    out.since = at - object.since;
    out.reason = object.state == ObjectState::kFailed ? object.failure->message
                 : object.is_there()                  ? "It is there, " + format_size(size_of(object)) + "."
                 : of_task.empty() ? "It has not arrived."
                                   : "Its task has not made it: " + of_task;
    out.details.push_back(std::to_string(object.holders) + " processes hold it, " + std::to_string(object.uses) +
                          " tasks, objects and gets need it, " + std::to_string(object.pins) + " pins");
    return out;
  }
  if (auto binary = from_hex(text); binary && binary->size() == GraphId::kSizeBytes) {
    if (const Graph* graph = graphs_.find(*GraphId::from_binary(*binary))) {
      out.found = true;
      out.kind = "graph";
      out.state = state_of(*graph);
      out.since = at - graph->arrived_at;
      uint64_t ready = 0;
      for (const auto& lane : graph->lanes) ready += lane->queue.size();
      out.reason = std::to_string(graph->finished) + " of " + std::to_string(graph->arrived) +
                   " tasks are done, " + std::to_string(graph->in_flight) + " run, " + std::to_string(ready) +
                   " are ready.";
      if (graph->failure) out.reason = graph->failure->message;
      if (graph->is_over() && !graph->failure) out.reason = "It is over; its results are still held.";
      out.details.push_back(std::to_string(graph->live_objects) + " of its objects are alive");
      // The first task that is not through says most.
      for (uint32_t task = 0, shown = 0; task < graph->arrived && shown < 1; ++task) {
        if (!graph->has_row(task) || graph->row(task).state >= TaskState::kDone) continue;
        Explanation first;
        explain_task(at, *graph, task, first);
        out.details.push_back("task " + std::to_string(task) + " is " + first.state + ": " + first.reason);
        ++shown;
      }
      return out;
    }
    if (auto job = jobs_.find(*JobId::from_binary(*binary)); job != jobs_.end()) {
      out.found = true;
      out.kind = "job";
      out.state = job->second->ended ? "ended" : job->second->driver.is_nil() ? "away" : "connected";
      out.since = at - job->second->since;
      out.reason = std::to_string(job->second->graphs) + " graphs of " + job->second->setup.script + " are known.";
      return out;
    }
  }
  if (!text.empty() && text.size() < 19 && text.find_first_not_of("0123456789") == std::string::npos) {
    if (const Worker* worker = workers_.find(WorkerId{std::stoull(text)})) {
      out.found = true;
      out.kind = "worker";
      out.state = state_of(*worker);
      out.since = at - worker->since;
      const BatchEntry* entry = running_entry(*worker);
      out.reason = entry != nullptr ? "It runs " + name_of(*entry->graph, entry->graph->row(entry->task)) + "."
                   : worker->session == nullptr ? "It has not said hello."
                                                : "Nothing is there for it to run.";
      out.details.push_back("pid " + std::to_string(worker->pid) + ", " + std::to_string(worker->in_flight) +
                            " tasks in flight");
    }
  }
  return out;
}

}  // namespace raylet
