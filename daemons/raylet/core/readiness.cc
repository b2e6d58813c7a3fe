// Tasks from waiting to ready to over, and graphs from their last task to nothing.
#include <algorithm>

#include "daemons/raylet/core/node_state.h"
#include "protocol/words/check.h"

namespace raylet {

namespace {
constexpr size_t kProgressTasksMax = 1024;
constexpr size_t kEndedRemembered = 4096;  // graphs
constexpr Duration kProgressEvery = std::chrono::milliseconds(20);
}  // namespace

const std::string& Node::State::name_of(const Graph& graph, const TaskRow& row) const {
  return row.name != 0 ? graph.names[row.name - 1] : functions_[row.function].def.name;
}

// ---------------------------------------------------------------- ready

Lane& Node::State::lane_of(Graph& graph, uint32_t shape) {
  for (auto& lane : graph.lanes) {
    if (lane->shape == shape) return *lane;
  }
  graph.lanes.push_back(std::make_unique<Lane>());
  graph.lanes.back()->graph = &graph;
  graph.lanes.back()->shape = shape;
  return *graph.lanes.back();
}

void Node::State::list_lane(Lane& lane) {
  if (lane.listed) return;
  lane.listed = true;
  Job& job = *lane.graph->job;
  auto& shapes = job.shapes;
  auto of_shape = std::find_if(shapes.begin(), shapes.end(), [&](auto& s) { return s.shape == lane.shape; });
  if (of_shape == shapes.end()) {
    int32_t priority = shapes_[lane.shape].priority;
    auto behind = std::find_if(shapes.begin(), shapes.end(), [&](auto& s) { return s.priority < priority; });
    of_shape = shapes.emplace(behind);
    of_shape->shape = lane.shape;
    of_shape->priority = priority;
  }
  of_shape->lanes.insert(&lane);
}

void Node::State::unlist_lane(Lane& lane) {
  if (!lane.listed) return;
  lane.listed = false;
  for (auto& of_shape : lane.graph->job->shapes) {
    if (of_shape.shape != lane.shape) continue;
    of_shape.lanes.erase(&lane);
    if (of_shape.lanes.empty()) of_shape.lacks_nothing();
  }
}

void Node::State::make_ready(Graph& graph, uint32_t task) {
  TaskRow& row = graph.row(task);
  MUST(row.state == TaskState::kWaiting && row.pending == 0);
  if (!graph.opened) return;
  if (is_call(graph, row)) {
    calls_to_send_.push_back(graph.option_of(row).options.actor);
    return;
  }
  if (is_creation(row) && !creation_may_run(graph, task)) return;
  push_ready(graph, task);
}

void Node::State::push_ready(Graph& graph, uint32_t task) {
  TaskRow& row = graph.row(task);
  row.state = TaskState::kReady;
  uint32_t shape = graph.option_of(row).shape;
  Lane& lane = lane_of(graph, shape);
  lane.queue.push({row.rank, task});
  list_lane(lane);
  if (!shapes_[shape].feasible && !graph.job->driver.is_nil() && graph.job->warned_shapes.insert(shape).second) {
    emit(TellDriver{graph.job->driver, TellDriver::Severity::kWarning,
                    "task " + name_of(graph, row) + " wants " + shapes_[shape].resources.to_string() +
                        ", and this node has " + options_.resources.to_string() +
                        ": it waits until a node has as much"});
  }
}

void Node::State::input_came(Graph& graph, uint32_t task) {
  TaskRow& row = graph.row(task);
  if (row.pending == 0 || row.state >= TaskState::kDone) return;
  if (--row.pending == 0 && row.state == TaskState::kWaiting) make_ready(graph, task);
}

// Counts anew what the task lacks; what was lost and is lacked is made again.
void Node::State::recount_inputs(Graph& graph, uint32_t task) {
  TaskRow& row = graph.row(task);
  row.pending = 0;
  std::vector<uint32_t> lost;
  FailurePtr failure;
  graph.each_edge(task, [&](Block& block, uint32_t e) {
    const Edge& edge = block.edges[e];
    if (edge.is_borrow()) return;
    uint32_t number;
    if (edge.is_external()) {
      number = block.externals[edge.dep & Edge::kIndexMask].object;
    } else {
      number = object_of(graph, edge.dep, block.return_of(e));
    }
    if (number != 0 && objects_[number].is_there()) return;
    ++row.pending;
    if (number == 0) return;
    Object& object = objects_[number];
    if (object.state == ObjectState::kFailed && !failure) failure = object.failure;
    if (object.state == ObjectState::kLost) lost.push_back(number);
    if (edge.is_external() && !object.is_over())
      object.more().readers.push_back({graph.slot, task, graph.sequence});
  });
  if (failure) {
    failing_.push_back({&graph, task, failure});
    return;
  }
  for (uint32_t number : lost) remake(number);
  if (row.pending == 0 && row.state == TaskState::kWaiting) make_ready(graph, task);
}

// ---------------------------------------------------------------- over

// What ending has in common, done or failed. The row's objects are the caller's to set.
void Node::State::end_task(Graph& graph, uint32_t task, TaskState state) {
  Block& block = graph.block_of(task);
  TaskRow& row = graph.row(task);
  MUST(row.state < TaskState::kDone, "a task ends twice");
  row.state = state;
  for (uint32_t e = row.first_edge, end = block.edge_end(task & (Block::kTasks - 1)); e < end; ++e) {
    const Edge& edge = block.edges[e];
    if (edge.is_external()) {
      uint32_t number = block.externals[edge.dep & Edge::kIndexMask].object;
      if (number != 0) unuse(number);
    } else if (edge.dep < graph.arrived) {
      unuse_result(graph, edge.dep, block.return_of(e));
    }
  }
  TaskGroup& group = graph.group(row.group);
  --group.unfinished;
  --block.unfinished;
  --graph.unfinished;
  if (state == TaskState::kDone) {
    ++graph.finished;
    ++tasks_finished_total_;
  } else {
    ++graph.failed;
    ++tasks_failed_total_;
  }
  if (graph.report_progress && !row.runs_again()) {
    graph.progress.push_back(task);
    if (!graph.progress_listed) {
      graph.progress_listed = true;
      progressing_.push_back({graph.slot, task, graph.sequence});
    }
  }
  if (graph.unfinished == 0 || (!graph.fail_fast && block.unfinished == 0)) mark_ending(graph);
}

// A task can be run again as long as everything that it is made of can be: its graph is kept whole for that,
// but not what comes from outside of it, nor the blocks of a graph that grows for days.
void Node::State::note_lineage(Graph& graph, uint32_t task) {
  TaskRow& row = graph.row(task);
  if (!row.has_lineage()) return;
  graph.each_edge(task, [&](Block& block, uint32_t e) {
    const Edge& edge = block.edges[e];
    bool kept = graph.fail_fast && !edge.is_external() && graph.row(edge.dep).has_lineage();
    if (!kept) row.charged |= TaskRow::kNoLineage;
  });
}

void Node::State::finish_task(Graph& graph, uint32_t task, const Session& by, TaskResult& result) {
  TaskRow& row = graph.row(task);
  const GraphOption& option = graph.option_of(row);
  bool remakable = option.options.actor.is_nil() && !is_creation(row) &&
                   option.options.retries_max.value_or(options_.retries_default) != 0;
  note_lineage(graph, task);
  remakable = remakable && row.has_lineage();
  bool again = row.runs_again();
  double output_bytes = 0;
  for (uint32_t r = 0; r < row.return_count; ++r) {
    TaskResult::Return& one = result.returns[r];
    const SealedBytes* sealed = std::get_if<SealedBytes>(&one.payload);
    output_bytes += sealed != nullptr ? static_cast<double>(sealed->size_bytes)
                                      : static_cast<double>(size_bytes(std::get<Bytes>(one.payload)));
    uint32_t number = object_of(graph, task, r);
    if (number == 0) {
      if (row.return_count != 1 || row.uses == 0) continue;  // nobody wants it
      number = need_object(graph, task, r);
    } else if (objects_[number].is_over()) {
      continue;  // run again for another of its results
    }
    if (!one.contained.empty()) set_contained(number, one.contained);
    if (sealed == nullptr) {
      set_value(number, std::move(std::get<Bytes>(one.payload)));
    } else {
      set_sealed(number, sealed->slab, *sealed, *slab_of(by, *sealed), remakable);
    }
  }
  Function& function = functions_[row.function];
  function.output_bytes = function.known ? function.output_bytes * 0.8 + output_bytes * 0.2 : output_bytes;
  end_task(graph, task, TaskState::kDone);
  if (again) {
    scratch_again_.clear();
    graph.each_reader(task, [&](uint32_t reader, uint32_t) {
      if (graph.row(reader).state == TaskState::kWaiting) scratch_again_.push_back(reader);
      return true;
    });
    for (uint32_t reader : scratch_again_) {
      if (graph.row(reader).state == TaskState::kWaiting) recount_inputs(graph, reader);
    }
  } else {
    graph.each_reader(task, [&](uint32_t reader, uint32_t) {
      input_came(graph, reader);
      return true;
    });
  }
  detach_readers(graph, task);
  if (is_creation(row)) creation_done(graph, task);
}

// A graph without fail_fast lets go of its blocks one by one, so no row of it may be named by a block that can
// outlive it: lists of readers are for tasks that have not ended, and what a task made is an object to its
// readers.
void Node::State::detach_readers(Graph& graph, uint32_t task) {
  if (graph.fail_fast) return;
  TaskRow& producer = graph.row(task);
  bool done = producer.state == TaskState::kDone;
  graph.each_reader(task, [&](uint32_t reader, uint32_t e) {
    Block& block = graph.block_of(reader);
    if (done) {
      uint32_t index = block.return_of(e);
      block.externals.push_back({{graph.id, task, index}, object_of(graph, task, index)});
      block.edges[e].dep = Edge::kExternal | static_cast<uint32_t>(block.externals.size() - 1);
    }
    if (--block.linked == 0 && block.unfinished == 0) mark_ending(graph);
    return true;
  });
  producer.last_reader_task = TaskRow::kNoReader;
}

// Queued: dependents fail with it, however long the chain.
void Node::State::fail_task(Graph& graph, uint32_t task, const FailurePtr& failure) {
  failing_.push_back({&graph, task, failure});
}

void Node::State::fail_graph(Graph& graph, const FailurePtr& failure) {
  if (!graph.failure) graph.failure = failure;
  for (uint32_t task = 0; task < graph.arrived; ++task) {
    if (graph.has_row(task) && graph.row(task).state < TaskState::kDone)
      failing_.push_back({&graph, task, failure});
  }
}

void Node::State::drain_failing() {
  if (draining_failing_) return;
  draining_failing_ = true;
  for (size_t at = 0; at < failing_.size(); ++at) {
    auto [graph_ptr, task, failure] = failing_[at];
    Graph& graph = *graph_ptr;
    if (!graph.has_row(task)) continue;
    TaskRow& row = graph.row(task);
    if (row.state >= TaskState::kDone) continue;
    bool was_running = row.state == TaskState::kRunning;
    if (was_running) stop_running(graph, task, false);
    end_task(graph, task, TaskState::kFailed);
    for (uint32_t r = 0; r < row.return_count; ++r) {
      uint32_t number = object_of(graph, task, r);
      if (number != 0 && !objects_[number].is_there()) set_failed(number, failure);
    }
    graph.each_reader(task, [&](uint32_t reader, uint32_t) {
      if (graph.row(reader).state < TaskState::kDone) failing_.push_back({&graph, reader, failure});
      return true;
    });
    detach_readers(graph, task);
    if (is_creation(row)) creation_over(graph, task, failure);
    if (is_call(graph, row)) calls_to_send_.push_back(graph.option_of(row).options.actor);
    if (graph.fail_fast && !graph.failure) fail_graph(graph, failure);
  }
  failing_.clear();
  draining_failing_ = false;
}

// ---------------------------------------------------------------- graphs

void Node::State::mark_ending(Graph& graph) {
  if (graph.ending_listed) return;
  graph.ending_listed = true;
  ending_.push_back({graph.slot, 0, graph.sequence});
}

void Node::State::report_progress(Graph& graph, bool whole) {
  if (graph.progress.empty()) return;
  if (!whole && graph.progress.size() < kProgressTasksMax && now_ - graph.progress_at < kProgressEvery) {
    wake_by(graph.progress_at + kProgressEvery);
    return;
  }
  ReportProgress report;
  report.session = graph.session;
  report.graph = graph.id;
  report.finished = std::move(graph.progress);
  report.finished_total = graph.finished + graph.failed;
  report.task_total = graph.arrived;
  report.durable = graph.durable;
  graph.progress.clear();
  graph.progress_at = now_;
  graph.progress_listed = false;
  if (sessions_.find(graph.session) != nullptr) emit(std::move(report));
}

void Node::State::report_end(Graph& graph) {
  if (graph.end_reported) return;
  graph.end_reported = true;
  report_progress(graph, true);
  if (sessions_.find(graph.session) != nullptr) {
    emit(ReportGraphEnd{graph.session, graph.id, graph.failure ? *graph.failure : Failure{}});
  }
  graph.chunks.clear();
  forget_record(graph);
}

// Called from settle(): the graph may be over, or a block of it, or its last object went.
void Node::State::consider_release(Graph& graph) {
  graph.ending_listed = false;
  if (!graph.is_over()) {
    if (graph.fail_fast) return;
    for (uint32_t b = graph.first_block; b + 1 < graph.blocks.size(); ++b) {
      Block* block = graph.blocks[b].get();
      if (block == nullptr || block->unfinished > 0 || block->in_flight > 0 || block->live_sealed > 0 ||
          block->linked > 0) {
        continue;
      }
      release_block(graph, b);
    }
    return;
  }
  report_end(graph);
  if (graph.in_flight == 0 && graph.live_sealed == 0) release_graph(graph);
}

// Its objects live on without it. REQUIRES: none of them would have to be made again.
void Node::State::release_block(Graph& graph, uint32_t b) {
  Block& block = *graph.blocks[b];
  for (uint32_t i = 0; i < block.rows.size(); ++i) {
    TaskRow& row = block.rows[i];
    uint32_t task = b << Block::kShift | i;
    auto loosen = [&](uint32_t number) {
      if (number == 0) return;
      objects_.loosen(number);
      objects_[number].outlives = true;
      ++graph.outliving;
      --graph.live_objects;
    };
    if (row.return_count == 1) {
      loosen(row.object);
    } else if (auto numbers = graph.multi.find(task); numbers != graph.multi.end()) {
      for (uint32_t number : numbers->second) loosen(number);
      graph.multi.erase(numbers);
    }
    TaskGroup& group = graph.group(row.group);
    if (group.unfinished == 0) {
      graph.bytes -= size_bytes(group.blob);
      graph_bytes_ -= size_bytes(group.blob);
      group.blob = nullptr;
    }
  }
  uint64_t bytes = block.rows.size() * sizeof(TaskRow) + block.edges.size() * sizeof(Edge);
  graph.bytes -= std::min(bytes, graph.bytes);
  graph_bytes_ -= std::min(bytes, graph_bytes_);
  task_count_ -= block.rows.size();
  graph.blocks[b].reset();
  while (graph.first_block < graph.blocks.size() && !graph.blocks[graph.first_block]) ++graph.first_block;
  if (graph.first_block == graph.blocks.size()) return;
  uint32_t keep_from = graph.blocks[graph.first_block]->rows.front().group;
  while (graph.group_base < keep_from) {
    graph.groups.pop_front();
    ++graph.group_base;
  }
}

// Sent again, a graph that is over must not run again: not while its results are held, and not soon after.
void Node::State::remember_ended(const Graph& graph) {
  ended_[graph.id] = {graph.job->id, graph.failure, graph.outliving, true};
  ended_order_.push_back(graph.id);
  while (ended_order_.size() > kEndedRemembered) {
    auto oldest = ended_.find(ended_order_.front());
    ended_order_.pop_front();
    if (oldest == ended_.end()) continue;
    oldest->second.recent = false;
    if (oldest->second.outliving == 0) ended_.erase(oldest);
  }
}

void Node::State::release_graph(Graph& graph) {
  for (uint32_t b = 0; b < graph.blocks.size(); ++b) {
    if (graph.blocks[b]) release_block(graph, b);
  }
  graph_bytes_ -= std::min(graph.bytes, graph_bytes_);
  for (auto& lane : graph.lanes) {
    unlist_lane(*lane);
    held_back_count_ -= static_cast<uint32_t>(lane->held_back.size());
  }
  unrecorded_.erase(graph.sequence);
  --graph.job->graphs;
  remember_ended(graph);
  graphs_.remove(graph);
}

}  // namespace raylet
