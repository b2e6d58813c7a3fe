// A chunk that was checked becomes rows and edges of its graph.
#include <algorithm>

#include "daemons/raylet/core/node_state.h"
#include "protocol/words/check.h"

namespace raylet {

namespace {

constexpr size_t kSubmissionsTrimmed = 1024;

std::string option_key(const TaskOptions& options, bool creation) {
  std::string key;
  for (const auto& [name, units] : options.resources.units()) key += name + '\1' + std::to_string(units) + '\1';
  key += '\2' + (options.retries_max ? std::to_string(*options.retries_max) : "d") + '\2';
  key += std::to_string(options.priority) + '\2';
  key += char('0' + options.retry_on_exception + 2 * options.detached + 4 * options.get_if_exists +
              8 * options.data_producer + 16 * creation);
  key += options.actor.binary() + options.actor_namespace + '\2' + options.actor_name + '\2';
  if (options.retry_exceptions) key += *options.retry_exceptions;
  key += '\2';
  if (options.actor_handle) key += *options.actor_handle;
  return key;
}

}  // namespace

// A chunk on its way into its graph: what its numbers mean there, and how far it was read.
struct Node::State::ChunkReading {
  ChunkReading(Session& given_session, Graph& given_graph, const GraphChunk& given_chunk)
      : session(given_session),
        graph(given_graph),
        chunk(given_chunk),
        plain_options(chunk.options.size() + 1, UINT32_MAX),
        creation_options(chunk.options.size() + 1, UINT32_MAX),
        external_at(chunk.externals.size(), UINT32_MAX) {
    plain_options[0] = 0;
    external_object.reserve(chunk.externals.size());
  }

  Session& session;
  Graph& graph;
  const GraphChunk& chunk;
  std::vector<uint32_t> plain_options;     // the graph's number, by the chunk's; UINT32_MAX: not looked up
  std::vector<uint32_t> creation_options;  // likewise, of tasks that make actors
  std::vector<uint32_t> names;
  std::vector<uint32_t> external_at;       // its place in the block under way; UINT32_MAX: none yet
  std::vector<uint32_t> external_object;   // 0: nobody has it
  uint32_t function_known = UINT32_MAX;    // the chunk's number of `function`
  uint32_t function = 0;
  bool creation = false;
  size_t group_at = 0;
  uint32_t group_left = 0;
  size_t dep_at = 0;
  size_t borrow_at = 0;
  std::vector<uint32_t> unknown;           // tasks with inputs that nobody has
};

uint32_t Node::State::intern_option(Graph& graph, const TaskOptions& options, bool creation) {
  auto [found, fresh] = graph.option_numbers.try_emplace(option_key(options, creation), 0);
  if (!fresh) return found->second;
  GraphOption option;
  option.options = options;
  option.shape = shapes_.intern(options.resources, options.priority, creation, options_.resources);
  graph.options.push_back(std::move(option));
  found->second = static_cast<uint32_t>(graph.options.size() - 1);
  return found->second;
}

// Also of chunks that are dropped: later ones name their functions.
void Node::State::learn_functions(Session& session, const Job& job, const GraphChunk& chunk) {
  for (const FunctionDef& def : chunk.functions) session.functions[def.number] = functions_.intern(job.id, def);
}

void Node::State::note_submission(const Session& session, Graph& graph, const GraphChunk& chunk) {
  Graph::Submission submission;
  submission.first_task = graph.arrived;
  for (const Batch& batch : session.worker->batches) {
    if (batch.number != chunk.submitted_by_batch || chunk.submitted_by_position >= batch.entries.size()) continue;
    const BatchEntry& entry = batch.entries[chunk.submitted_by_position];
    if (entry.graph == nullptr) continue;
    submission.by_graph = entry.graph->id;
    submission.by_task = entry.task;
  }
  auto& all = graph.submissions;
  bool same = !all.empty() && all.back().by_graph == submission.by_graph &&
              all.back().by_task == submission.by_task;
  if (!same) all.push_back(submission);
  if (all.size() < kSubmissionsTrimmed) return;
  // Those of tasks whose blocks were let go can't be cancelled any more.
  uint32_t gone = graph.first_block << Block::kShift;
  auto kept = std::find_if(all.begin() + 1, all.end(), [&](const auto& one) { return one.first_task > gone; });
  all.erase(all.begin(), kept - 1);
}

void Node::State::number_names(ChunkReading& reading) {
  Graph& graph = reading.graph;
  const std::vector<std::string>& names = reading.chunk.names;
  reading.names.resize(names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    reading.names[i] = static_cast<uint32_t>(graph.names.size()) + 1;
    if (!graph.fail_fast) {
      // It may grow for days, and its tasks share few names.
      auto [found, fresh] = graph.name_numbers.try_emplace(names[i], reading.names[i]);
      reading.names[i] = found->second;
      if (!fresh) continue;
    }
    graph.names.push_back(names[i]);
    graph.bytes += sizeof(std::string) + names[i].size();
  }
}

uint32_t Node::State::option_of(ChunkReading& reading, uint32_t number) {
  uint32_t& known = (reading.creation ? reading.creation_options : reading.plain_options)[number];
  if (known == UINT32_MAX) {
    const TaskOptions& options =
        number == 0 ? reading.graph.options[0].options : reading.chunk.options[number - 1];
    known = intern_option(reading.graph, TaskOptions(options), reading.creation);
  }
  return known;
}

void Node::State::begin_block(ChunkReading& reading, uint32_t left) {
  reading.graph.blocks.push_back(std::make_unique<Block>());
  reading.graph.blocks.back()->rows.reserve(std::min<size_t>(left, Block::kTasks));
  std::fill(reading.external_at.begin(), reading.external_at.end(), UINT32_MAX);
}

void Node::State::add_row(ChunkReading& reading, uint32_t i) {
  Graph& graph = reading.graph;
  const GraphChunk& chunk = reading.chunk;
  const uint32_t task = graph.arrived;
  if ((task & (Block::kTasks - 1)) == 0 || graph.blocks.empty()) begin_block(reading, chunk.task_count - i);
  Block& block = *graph.blocks.back();
  if (reading.group_left == 0) {
    TaskGroup group;
    group.number = next_group_++;
    group.blob = chunk.group_blobs[reading.group_at];
    group.first_task = task;
    group.size = group.unfinished = reading.group_left = chunk.group_sizes[reading.group_at++];
    graph.bytes += sizeof(TaskGroup) + size_bytes(group.blob);
    graph.groups.push_back(std::move(group));
  }
  --reading.group_left;

  block.rows.emplace_back();
  ++graph.arrived;
  ++graph.unfinished;
  ++block.unfinished;
  TaskRow& row = block.rows.back();
  if (chunk.function_numbers[i] != reading.function_known) {
    reading.function_known = chunk.function_numbers[i];
    reading.function = reading.session.functions.at(reading.function_known);
    reading.creation = functions_[reading.function].def.kind == FunctionDef::Kind::kActorClass;
  }
  row.function = reading.function;
  row.group = graph.group_base + static_cast<uint32_t>(graph.groups.size()) - 1;
  row.first_edge = static_cast<uint32_t>(block.edges.size());
  row.rank = task;
  if (!chunk.return_counts.empty()) row.return_count = static_cast<uint16_t>(chunk.return_counts[i]);
  uint32_t option = chunk.option_numbers.empty() ? 0 : chunk.option_numbers[i];
  row.option = static_cast<uint16_t>(option_of(reading, option));
  if (!chunk.name_numbers.empty()) row.name = reading.names[chunk.name_numbers[i]];
  if (row.return_count != 1) {
    graph.multi[task].assign(row.return_count, 0);
    row.object = TaskRow::kMulti;
  }
}

// Of the row added last.
void Node::State::add_edges(ChunkReading& reading, uint32_t i) {
  Graph& graph = reading.graph;
  const GraphChunk& chunk = reading.chunk;
  Block& block = *graph.blocks.back();
  auto external = [&](uint32_t number) {
    uint32_t& at = reading.external_at[number];
    if (at == UINT32_MAX) {
      at = static_cast<uint32_t>(block.externals.size());
      block.externals.push_back({chunk.externals[number], reading.external_object[number]});
      graph.bytes += sizeof(ExternalRef);
    }
    return at;
  };
  bool lacks = false;
  uint32_t dep_count = chunk.dep_counts.empty() ? 0 : chunk.dep_counts[i];
  for (uint32_t k = 0; k < dep_count; ++k, ++reading.dep_at) {
    uint64_t dep = chunk.deps[reading.dep_at];
    Edge edge;
    edge.dep = (dep & 1) != 0 ? Edge::kExternal | external(static_cast<uint32_t>(dep >> 1))
                              : static_cast<uint32_t>(dep >> 1);
    uint32_t index = chunk.dep_returns.empty() ? 0 : chunk.dep_returns[reading.dep_at];
    if (index != 0 && block.edge_returns.empty()) block.edge_returns.resize(block.edges.size(), 0);
    block.edges.push_back(edge);
    if (!block.edge_returns.empty() || index != 0) block.edge_returns.push_back(index);
    if ((dep & 1) != 0 && reading.external_object[dep >> 1] == 0) lacks = true;
  }
  uint32_t borrow_count = chunk.borrow_counts.empty() ? 0 : chunk.borrow_counts[i];
  for (uint32_t k = 0; k < borrow_count; ++k, ++reading.borrow_at) {
    Edge edge;
    edge.dep = Edge::kExternal | Edge::kBorrow | external(chunk.borrows[reading.borrow_at]);
    block.edges.push_back(edge);
    if (!block.edge_returns.empty()) block.edge_returns.push_back(0);
  }
  if (lacks) reading.unknown.push_back(graph.arrived - 1);
}

// Somebody asked for the task's results before the task had come.
void Node::State::take_in_future_objects(Graph& graph, uint32_t task) {
  uint32_t return_count = graph.row(task).return_count;
  for (uint32_t r = 0; r < return_count && graph.future_objects > 0; ++r) {
    uint32_t object = objects_.find_loose({graph.id, task, r});
    if (object == 0 || !objects_[object].future) continue;
    objects_.unloosen(object);
    objects_[object].future = false;
    objects_[object].graph = graph.slot;
    --graph.future_objects;
    ++graph.live_objects;
    if (return_count == 1) {
      graph.row(task).object = object;
    } else {
      graph.multi[task][r] = object;
    }
  }
}

// The task waits for its inputs, and tasks that came before it for the task.
void Node::State::connect(Graph& graph, uint32_t task) {
  const Block& block = graph.block_of(task);
  for (uint32_t e = block.rows.back().first_edge; e < block.edges.size(); ++e) add_dependency(graph, task, e);
  if (graph.forward.empty()) return;
  auto waiting = graph.forward.extract(task);
  if (waiting.empty()) return;
  for (auto [reader, edge] : waiting.mapped()) {
    if (graph.row(reader).state >= TaskState::kDone) continue;
    --graph.row(reader).pending;  // add_dependency counts it again
    add_dependency(graph, reader, edge);
  }
}

void Node::State::hold_results(Session& session, Graph& graph, uint32_t task) {
  for (uint32_t r = 0; r < graph.row(task).return_count; ++r) hold(session, need_object(graph, task, r));
}

void Node::State::fail_for_unknown_input(Graph& graph, uint32_t task) {
  if (graph.row(task).state == TaskState::kFailed) return;
  std::string which;
  graph.each_edge(task, [&](Block& block, uint32_t e) {
    const Edge& edge = block.edges[e];
    if (!edge.is_external() || edge.is_borrow()) return;
    const ExternalRef& ref = block.externals[edge.dep & Edge::kIndexMask];
    if (ref.object == 0 && which.empty()) which = ref.id.hex();
  });
  fail_task(graph, task,
            make_failure(FailureCode::kObjectUnknown,
                         "the input " + which + " is not known to this node: it was freed, or never made here",
                         name_of(graph, graph.row(task))));
}

void Node::State::absorb(Session& session, Job& job, Graph& graph,
                         const std::shared_ptr<const GraphChunk>& chunk_ptr) {
  const GraphChunk& chunk = *chunk_ptr;
  learn_functions(session, job, chunk);
  if (session.worker != nullptr) note_submission(session, graph, chunk);
  if (graph.fail_fast) graph.chunks.push_back(chunk_ptr);
  const uint64_t bytes_before = graph.bytes;
  const uint32_t first = graph.arrived;

  ChunkReading reading(session, graph, chunk);
  number_names(reading);
  for (const ObjectId& id : chunk.externals) reading.external_object.push_back(object_for_session(&session, id));
  for (uint32_t i = 0; i < chunk.task_count; ++i) {
    uint32_t task = graph.arrived;
    add_row(reading, i);
    add_edges(reading, i);
    if (graph.future_objects > 0) take_in_future_objects(graph, task);
    connect(graph, task);
    if (graph.hold_all) hold_results(session, graph, task);
  }
  for (uint64_t task : chunk.wanted) {
    if (!graph.hold_all && graph.has_row(task)) hold_results(session, graph, static_cast<uint32_t>(task));
  }
  graph.bytes += chunk.task_count * sizeof(TaskRow) + chunk.deps.size() * sizeof(Edge);
  graph_bytes_ += graph.bytes - bytes_before;
  task_count_ += chunk.task_count;

  for (uint32_t task = first; task < graph.arrived; ++task) {
    TaskRow& row = graph.row(task);
    if (is_creation(row)) actor_arrived(graph, task);
    if (is_call(graph, row)) call_arrived(graph, task);
  }
  for (uint32_t task : reading.unknown) fail_for_unknown_input(graph, task);
  if (graph.failure) {
    for (uint32_t task = first; task < graph.arrived; ++task) {
      if (graph.row(task).state < TaskState::kDone) fail_task(graph, task, graph.failure);
    }
  } else if (graph.opened) {
    for (uint32_t task = first; task < graph.arrived; ++task) {
      const TaskRow& row = graph.row(task);
      if (row.state == TaskState::kWaiting && row.pending == 0) make_ready(graph, task);
    }
  }
}

// Uses what the edge names, waits for it if it is not there, and fails the reader if it never will be.
void Node::State::add_dependency(Graph& graph, uint32_t task, uint32_t e) {
  Block& block = graph.block_of(task);
  Edge& edge = block.edges[e];
  TaskRow& row = graph.row(task);
  if (edge.is_external()) {
    uint32_t number = block.externals[edge.dep & Edge::kIndexMask].object;
    if (number == 0) return;
    Object& object = objects_[number];
    ++object.uses;
    if (edge.is_borrow()) return;
    if (object.is_there()) return;
    ++row.pending;
    if (object.state == ObjectState::kFailed) {
      failing_.push_back({&graph, task, object.failure});
      return;
    }
    object.more().readers.push_back({graph.slot, task, graph.sequence});
    if (object.state == ObjectState::kLost) remake(number);
    return;
  }
  uint32_t dep = edge.dep;
  if (dep >= graph.arrived) {
    graph.had_forward = true;
    graph.forward[dep].push_back({task, e});
    ++row.pending;
    return;
  }
  if (!graph.has_row(dep)) {
    // Its block was let go: the result is loose, or nobody held it any more.
    uint32_t index = block.return_of(e);
    uint32_t number = objects_.find_loose({graph.id, dep, index});
    block.externals.push_back({{graph.id, dep, index}, number});
    edge.dep = Edge::kExternal | static_cast<uint32_t>(block.externals.size() - 1);
    if (number != 0) return add_dependency(graph, task, e);
    ++row.pending;
    failing_.push_back({&graph, task,
                        make_failure(FailureCode::kObjectUnknown, "its input was freed before the task came",
                                     name_of(graph, row))});
    return;
  }
  TaskRow& producer = graph.row(dep);
  uint32_t index = block.return_of(e);
  if (index >= producer.return_count) {
    ++row.pending;
    failing_.push_back({&graph, task,
                        make_failure(FailureCode::kGraphInvalid,
                                     "it depends on result " + std::to_string(index) + " of a task with " +
                                         std::to_string(producer.return_count),
                                     name_of(graph, row))});
    edge.dep = Edge::kExternal | static_cast<uint32_t>(block.externals.size());
    block.externals.push_back({});
    return;
  }
  if (!graph.fail_fast && producer.state == TaskState::kDone) {
    if (uint32_t number = object_of(graph, dep, index); number != 0) {
      block.externals.push_back({{graph.id, dep, index}, number});
      edge.dep = Edge::kExternal | static_cast<uint32_t>(block.externals.size() - 1);
      return add_dependency(graph, task, e);
    }
  }
  // A circular list with its tail in the producer's row. (See detach_readers for what may be in it.)
  if (!graph.fail_fast && producer.state >= TaskState::kDone) {
    // It fails below.
  } else if (producer.last_reader_task == TaskRow::kNoReader) {
    edge.next_task = task;
    edge.next_edge = e;
  } else {
    Edge& tail = graph.block_of(producer.last_reader_task).edges[producer.last_reader_edge];
    edge.next_task = tail.next_task;
    edge.next_edge = tail.next_edge;
    tail.next_task = task;
    tail.next_edge = e;
  }
  if (graph.fail_fast || producer.state < TaskState::kDone) {
    producer.last_reader_task = task;
    producer.last_reader_edge = e;
    if (!graph.fail_fast) ++block.linked;
  }
  uint32_t number = producer.return_count == 1 ? producer.object : need_object(graph, dep, index);
  if (number != 0) {
    ++objects_[number].uses;
  } else {
    ++producer.uses;
  }
  if (number != 0 && objects_[number].is_there()) return;
  ++row.pending;
  if (producer.state == TaskState::kFailed) {
    FailurePtr failure = number != 0 ? objects_[number].failure : graph.failure;
    if (!failure) failure = make_failure(FailureCode::kObjectUnknown, "its input failed before the task came");
    failing_.push_back({&graph, task, failure});
  } else if (producer.state == TaskState::kDone) {
    if (number != 0 && objects_[number].state == ObjectState::kLost) return remake(number);
    if (number != 0 && objects_[number].state == ObjectState::kFailed) {
      failing_.push_back({&graph, task, objects_[number].failure});
      return;
    }
    failing_.push_back({&graph, task,
                        make_failure(FailureCode::kObjectUnknown, "its input was freed before the task came",
                                     name_of(graph, row))});
  }
}

}  // namespace raylet
