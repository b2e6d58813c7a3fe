// One batch for one worker: ready tasks in the order of their ranks, and those that become ready by them.
//
// A task whose missing inputs are all made earlier in the same batch may come along (its inputs are then of
// kind kEarlier), as long as everything is known to be short: a chain goes to one worker at one go. Its
// `pending` counts as before; the reports of the batch bring it down, or bring the task back.
#include <algorithm>
#include <functional>

#include "daemons/raylet/core/node_state.h"
#include "protocol/words/check.h"

namespace raylet {

namespace {
constexpr uint32_t kReadersLookedAtMax = 64;  // of one task, when successors are sought
constexpr size_t kGroupsKeptMax = 4096;       // by one worker
constexpr size_t kCallBatchesMax = 2;         // under way to one actor

uint64_t position_key(const Graph& graph, uint32_t task) { return uint64_t{graph.slot} << 32 | task; }

bool later(const ReadyQueue::Entry& a, const ReadyQueue::Entry& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.task > b.task;
}
}  // namespace

struct Node::State::BatchDraft {
  SendBatch send;
  Batch batch;
  Graph* last_graph = nullptr;
  uint32_t last_graph_index = 0;
  uint64_t bytes = 0;
};

bool Node::State::send_batch(Worker& worker, Job& job, Job::ShapeLanes& lanes, uint32_t count_max) {
  BatchDraft draft;
  draft.send.worker = worker.id;
  draft.send.batch = worker.next_batch;
  draft.batch.number = worker.next_batch;
  const bool creation = shapes_[lanes.shape].creation;
  const double work_max = static_cast<double>(options_.batch_work_target.count()) / 1e3;
  if (creation) count_max = 1;
  ++batch_mark_;
  scratch_positions_.clear();
  scratch_pending_.clear();
  scratch_local_.clear();
  Graph* local_graph = nullptr;
  const uint32_t shape = lanes.shape;

  auto& entries = draft.batch.entries;
  uint32_t from_queue = 0;  // what comes along is not counted against this worker's share
  while (entries.size() < options_.batch_tasks_max && draft.bytes < options_.batch_bytes_max) {
    while (!lanes.lanes.empty() && (*lanes.lanes.begin())->queue.empty()) unlist_lane(**lanes.lanes.begin());
    Lane* lane = lanes.lanes.empty() ? nullptr : *lanes.lanes.begin();
    if (lane == nullptr && scratch_local_.empty()) break;
    if (from_queue >= count_max && scratch_local_.empty()) break;
    bool local =
        !scratch_local_.empty() && (lane == nullptr || from_queue >= count_max || lane->graph != local_graph ||
                                    !later(scratch_local_.front(), lane->queue.top()));
    Graph& graph = local ? *local_graph : *lane->graph;
    uint32_t task = local ? scratch_local_.front().task : lane->queue.top().task;
    const TaskRow& row = graph.row(task);
    const Function& function = functions_[row.function];
    bool stale = row.state != (local ? TaskState::kWaiting : TaskState::kReady);
    if (!stale) {
      bool fits = draft.batch.work_us + work_of(function) <= work_max;
      if (!entries.empty() && (!function.known || !fits)) {
        if (!local) break;
        // It is for later, when its inputs are reported.
        std::pop_heap(scratch_local_.begin(), scratch_local_.end(), later);
        scratch_local_.pop_back();
        continue;
      }
    }
    if (local) {
      std::pop_heap(scratch_local_.begin(), scratch_local_.end(), later);
      scratch_local_.pop_back();
    } else {
      lane->queue.pop();
      if (!stale && is_held_back(graph, task)) {
        graph.row(task).state = TaskState::kHeldBack;
        lane->held_back.push_back(task);
        ++held_back_count_;
        stale = true;
      }
    }
    if (stale) continue;
    if (!add_to_draft(draft, worker, graph, task)) continue;
    if (!local) ++from_queue;
    if (!function.known) {
      draft.batch.guessed = true;
      break;
    }
    draft.batch.work_us += work_of(function);
    if (creation) break;
    if (draft.batch.work_us >= work_max) break;
    if (local_graph != &graph) {
      local_graph = &graph;
      scratch_local_.clear();
    }
    uint32_t looked_at = 0;
    graph.each_reader(task, [&](uint32_t reader, uint32_t e) {
      const TaskRow& next = graph.row(reader);
      if (next.state == TaskState::kWaiting && graph.option_of(next).shape == shape && !is_call(graph, next) &&
          graph.block_of(reader).return_of(e) < 256 && functions_[next.function].known) {
        uint32_t& missing = scratch_pending_.at(position_key(graph, reader), next.pending);
        if (missing > 0 && --missing == 0) {
          scratch_local_.push_back({next.rank, reader});
          std::push_heap(scratch_local_.begin(), scratch_local_.end(), later);
        }
      }
      return ++looked_at < kReadersLookedAtMax;
    });
  }
  while (!lanes.lanes.empty() && (*lanes.lanes.begin())->queue.empty()) unlist_lane(**lanes.lanes.begin());
  if (entries.empty()) return false;
  if (worker.state == Worker::State::kIdle && !worker.holds_resources) take_resources(worker, shape);
  commit_draft(draft, worker, job);
  return true;
}

// The calls that are next in order, at most as much as a batch may hold.
void Node::State::send_calls(Actor& actor) {
  if (actor.state != Actor::State::kAlive || actor.worker == nullptr) return;
  Worker& worker = *actor.worker;
  if (worker.session == nullptr || worker.stopping || worker.batches.size() >= kCallBatchesMax) return;
  BatchDraft draft;
  draft.send.worker = worker.id;
  draft.send.batch = draft.batch.number = worker.next_batch;
  ++batch_mark_;
  scratch_positions_.clear();
  const double work_max = static_cast<double>(options_.batch_work_target.count()) / 1e3;
  bool full = false;
  for (auto queue = actor.calls.begin(); queue != actor.calls.end() && !full;) {
    auto& calls = queue->second;
    while (!calls.empty()) {
      TaskRef ref = calls.front();
      Graph* graph = graphs_.find(ref);
      bool stale = graph == nullptr || !graph->has_row(ref.task) || graph->row(ref.task).state >= TaskState::kDone;
      if (!stale) {
        const TaskRow& row = graph->row(ref.task);
        if (row.state != TaskState::kWaiting || row.pending > 0 || !graph->opened) break;
        const Function& function = functions_[row.function];
        bool first = draft.batch.entries.empty();
        bool fits = function.known && draft.batch.work_us + work_of(function) <= work_max;
        full = (!first && !fits) || draft.batch.entries.size() >= options_.batch_tasks_max ||
               draft.bytes >= options_.batch_bytes_max;
        if (full || !add_to_draft(draft, worker, *graph, ref.task)) break;
        draft.batch.work_us += work_of(function);
        full = !function.known;
        ++actor.calls_in_flight;
      }
      calls.pop_front();
      --actor.calls_waiting;
      if (full) break;
    }
    queue = calls.empty() ? actor.calls.erase(queue) : std::next(queue);
  }
  if (!draft.batch.entries.empty()) {
    commit_draft(draft, worker, *worker.job);
    calls_to_send_.push_back(actor.id);
  } else {
    end_idle_actor(actor);
  }
}

// False: an input is not there after all; the task waits again.
bool Node::State::add_to_draft(BatchDraft& draft, Worker& worker, Graph& graph, uint32_t task) {
  SendBatch& send = draft.send;
  TaskRow& row = graph.row(task);
  Block& block = graph.block_of(task);
  const size_t inputs_before = send.inputs.size();
  uint32_t end = block.edge_end(task & (Block::kTasks - 1));
  for (uint32_t e = row.first_edge; e < end; ++e) {
    const Edge& edge = block.edges[e];
    if (edge.is_borrow()) continue;
    uint32_t number;
    if (edge.is_external()) {
      number = block.externals[edge.dep & Edge::kIndexMask].object;
    } else {
      const TaskRow& producer = graph.row(edge.dep);
      number = object_of(graph, edge.dep, block.return_of(e));
      if (producer.state == TaskState::kRunning && (number == 0 || !objects_[number].is_there())) {
        const uint32_t* position = scratch_positions_.find(position_key(graph, edge.dep));
        if (position != nullptr) {
          send.inputs.push_back({BatchInput::Kind::kEarlier, uint64_t{*position} << 8 | block.return_of(e)});
          continue;
        }
      }
    }
    if (number == 0 || !objects_[number].is_there()) {
      send.inputs.resize(inputs_before);
      row.state = TaskState::kWaiting;
      recount_inputs(graph, task);
      return false;
    }
    Object& object = objects_[number];
    bool is_inline = object.state == ObjectState::kInline;
    if (object.batch_mark != batch_mark_) {
      object.batch_mark = batch_mark_;
      if (is_inline) {
        object.batch_index = static_cast<uint32_t>(send.inline_inputs.size());
        send.inline_inputs.push_back(object.value);
        draft.bytes += size_bytes(object.value) + 8;
      } else {
        object.batch_index = static_cast<uint32_t>(send.located_inputs.size());
        send.located_inputs.push_back({object.id, object.at});
        draft.batch.located.push_back(number);
        draft.bytes += 64;
      }
    }
    send.inputs.push_back(
        {is_inline ? BatchInput::Kind::kInline : BatchInput::Kind::kLocated, object.batch_index});
  }

  SendBatch::Task out;
  if (draft.last_graph != &graph) {
    auto at = std::find(send.graphs.begin(), send.graphs.end(), graph.id);
    draft.last_graph_index = static_cast<uint32_t>(at - send.graphs.begin());
    if (at == send.graphs.end()) send.graphs.push_back(graph.id);
    draft.last_graph = &graph;
  }
  TaskGroup& group = graph.group(row.group);
  const GraphOption& option = graph.option_of(row);
  out.graph = draft.last_graph_index;
  out.index = task;
  out.attempt = row.attempt;
  out.function = row.function;
  out.group = group.number;
  out.group_position = task - group.first_task;
  out.return_count = row.return_count;
  out.input_count = static_cast<uint32_t>(send.inputs.size() - inputs_before);
  draft.bytes += 24 + 4 * out.input_count;
  if (row.name != 0) {
    const std::string& name = graph.names[row.name - 1];
    if (send.names.empty() || send.names.back() != name) send.names.push_back(name);
    out.name = static_cast<uint32_t>(send.names.size());
  }
  if (option.options.retry_on_exception) {
    out.retry = 1;
    if (option.options.retry_exceptions) {
      auto& filters = send.retry_exceptions;
      auto at = std::find(filters.begin(), filters.end(), option.options.retry_exceptions);
      out.retry = 2 + static_cast<uint32_t>(at - filters.begin());
      if (at == filters.end()) filters.push_back(option.options.retry_exceptions);
    }
  }
  if (row.function >= worker.functions.size()) worker.functions.resize(functions_.size(), false);
  if (!worker.functions[row.function]) {
    worker.functions[row.function] = true;
    send.functions.push_back(functions_[row.function].def);
    draft.batch.functions.push_back(row.function);
    draft.bytes += size_bytes(functions_[row.function].def.pickled);
  }
  add_group(draft, worker, graph, row);
  send.tasks.push_back(out);

  scratch_positions_.at(position_key(graph, task), static_cast<uint32_t>(draft.batch.entries.size()));
  draft.batch.entries.push_back({&graph, task});
  row.state = TaskState::kRunning;
  ++graph.in_flight;
  ++block.in_flight;
  return true;
}

void Node::State::add_group(BatchDraft& draft, Worker& worker, Graph& graph, const TaskRow& row) {
  TaskGroup& group = graph.group(row.group);
  if (group.number == worker.last_group) return;
  worker.last_group = group.number;
  group.last_worker = worker.id.number;
  if (!worker.groups.insert(group.number).second) return;
  worker.sent_groups.push_back({group.number, {graph.slot, 0, graph.sequence}, row.group});
  draft.send.groups.push_back({group.number, group.blob});
  draft.batch.groups.push_back(group.number);
  draft.bytes += size_bytes(group.blob);
}

// Looks at as many groups as it sends, so that the cost stays with those who caused it.
void Node::State::drop_ended_groups(SendBatch& send, Worker& worker) {
  send.dropped_groups = std::move(worker.groups_to_drop);
  worker.groups_to_drop.clear();
  size_t looks = send.groups.size() * 2 + 2;
  bool crowded = worker.sent_groups.size() > kGroupsKeptMax && worker.batches.empty();
  size_t own = send.groups.size();
  for (; looks > 0 && worker.sent_groups.size() > own; --looks) {
    Worker::SentGroup sent = worker.sent_groups.front();
    worker.sent_groups.pop_front();
    Graph* graph = graphs_.find(sent.graph);
    bool needed = graph != nullptr && sent.group >= graph->group_base && graph->group(sent.group).unfinished > 0 &&
                  worker.groups.contains(sent.number);
    if (needed && !crowded) {
      worker.sent_groups.push_back(sent);
      continue;
    }
    auto in_batch = [&] {
      return std::any_of(send.tasks.begin(), send.tasks.end(),
                         [&](const auto& task) { return task.group == sent.number; });
    };
    if (needed && in_batch()) {
      worker.sent_groups.push_back(sent);
      continue;
    }
    if (worker.groups.erase(sent.number) == 0) continue;
    if (worker.last_group == sent.number) worker.last_group = 0;
    send.dropped_groups.push_back(sent.number);
  }
}

void Node::State::commit_draft(BatchDraft& draft, Worker& worker, Job& job) {
  SendBatch& send = draft.send;
  Batch& batch = draft.batch;
  drop_ended_groups(send, worker);
  batch.dropped_groups = send.dropped_groups;
  if (worker.job == nullptr) worker.job = &job;
  if (!worker.setup_sent) {
    worker.setup_sent = true;
    send.first_of_job = true;
    batch.brought_setup = true;
  }
  send.job = job.id;
  for (uint32_t number : batch.located) pin(*worker.session, number);
  batch.left = static_cast<uint32_t>(batch.entries.size());
  batch.heard_at = now_;
  worker.work_us += batch.work_us;
  worker.in_flight += batch.left;
  tasks_in_flight_ += batch.left;
  ++worker.next_batch;
  ++batches_sent_total_;
  if (worker.state == Worker::State::kIdle) {
    worker.state = Worker::State::kBusy;
    worker.since = now_;
  }
  if (shapes_[worker.shape].creation && worker.holds_resources && batch.entries.size() == 1) {
    const BatchEntry& only = batch.entries.front();
    if (is_creation(only.graph->row(only.task))) creation_sent(*only.graph, only.task, worker);
  }
  worker.batches.push_back(std::move(batch));
  emit(std::move(send));
}

}  // namespace raylet
