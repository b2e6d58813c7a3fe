// Chunks become graphs: every check that needs the session or the whole graph, and the tables they fill.
#include <algorithm>

#include "daemons/raylet/core/node_state.h"
#include "daemons/raylet/core/order.h"
#include "protocol/words/check.h"

namespace raylet {

namespace {

constexpr size_t kSubmissionsTrimmed = 1024;

Failure bad_chunk(std::string message) {
  Failure failure;
  failure.code = FailureCode::kGraphInvalid;
  failure.message = std::move(message);
  return failure;
}

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

FailurePtr make_failure(FailureCode code, std::string message, std::string task_name) {
  auto failure = std::make_shared<Failure>();
  failure->code = code;
  failure->message = std::move(message);
  failure->task_name = std::move(task_name);
  return failure;
}

Failure Node::State::check_chunk(const Session& session, const Job& job, const Graph* graph,
                                 const GraphChunk& chunk) const {
  if (chunk.graph.is_nil()) return bad_chunk("the graph has no id (16 bytes, not all zero)");
  uint64_t arrived = 0;
  if (graph != nullptr) {
    if (graph->job != &job) {
      return bad_chunk("graph " + chunk.graph.hex() + " is another job's; choose 16 random bytes for each graph");
    }
    if (graph->session != session.id) {
      return bad_chunk("graph " + chunk.graph.hex() + " is being submitted by another session of this job");
    }
    if (graph->failure && graph->failure->code == FailureCode::kGraphInvalid) return *graph->failure;
    if (graph->last) return bad_chunk("a chunk came after the one that was said to be the graph's last");
    arrived = graph->arrived;
  }
  if (chunk.first_task != arrived) {
    return bad_chunk("chunks must come in the order of their tasks: expected first_task " +
                     std::to_string(arrived) + ", came " + std::to_string(chunk.first_task));
  }
  if (arrived + chunk.task_count >= Edge::kTaskMax) {
    return bad_chunk("a graph has at most 2147483646 tasks; begin another one");
  }
  if (chunk.task_count > 0 && chunk.function_numbers.empty()) return bad_chunk("function_numbers is empty");
  for (uint32_t number : chunk.function_numbers) {
    if (session.functions.contains(number)) continue;
    auto defines = [&](const FunctionDef& def) { return def.number == number; };
    if (std::any_of(chunk.functions.begin(), chunk.functions.end(), defines)) continue;
    return bad_chunk("function number " + std::to_string(number) +
                     " is not known to this session; send its FunctionDef in the chunk that names it first");
  }
  bool fail_fast = graph != nullptr ? graph->fail_fast : chunk.fail_fast;
  uint64_t end = chunk.first_task + chunk.task_count;
  size_t at = 0;
  for (uint32_t i = 0; i < chunk.dep_counts.size(); ++i) {
    for (uint32_t k = 0; k < chunk.dep_counts[i]; ++k, ++at) {
      uint64_t dep = chunk.deps[at];
      if ((dep & 1) != 0) continue;
      uint64_t task = dep >> 1;
      if (task >= Edge::kTaskMax) return bad_chunk("dependency on task " + std::to_string(task) + " is out of range");
      if (task == chunk.first_task + i) {
        return bad_chunk("task " + std::to_string(task) + " depends on itself");
      }
      if (!fail_fast && task >= chunk.first_task + i) {
        return bad_chunk("task " + std::to_string(chunk.first_task + i) + " depends on task " +
                         std::to_string(task) +
                         ", which comes later; in a graph without fail_fast dependencies point backward");
      }
      if (chunk.last && task >= end) {
        return bad_chunk("task " + std::to_string(chunk.first_task + i) + " depends on task " +
                         std::to_string(task) + ", but the graph has only " + std::to_string(end) + " tasks");
      }
    }
  }
  for (uint64_t task : chunk.wanted) {
    if (task >= end) return bad_chunk("wanted task " + std::to_string(task) + " has not arrived");
  }
  for (uint32_t count : chunk.return_counts) {
    if (count > UINT16_MAX) return bad_chunk("a task has at most 65535 results, came " + std::to_string(count));
  }
  if ((graph != nullptr ? graph->options.size() : 1) + chunk.options.size() > UINT16_MAX) {
    return bad_chunk("a graph has at most 65535 distinct options; begin another one");
  }
  return {};
}

void Node::State::on(ChunkArrived& event) {
  Session* session = sessions_.find(event.session);
  if (session == nullptr || session->closed) return;
  Job* job = job_of(*session);
  auto chunk = std::make_shared<GraphChunk>(std::move(event.chunk));
  auto refuse = [&](Failure failure) {
    emit(Refuse{session->id, "graph_chunk", chunk->graph, {}, std::move(failure)});
    emit(GiveCredit{session->id, chunk->wire_bytes});
  };
  if (job == nullptr) {
    return refuse(bad_chunk("this session has no job yet: a worker may submit only while it runs a task"));
  }
  Graph* graph = graphs_.find(chunk->graph);
  if (graph != nullptr && graph->job == job && chunk->first_task + chunk->task_count <= graph->arrived &&
      (chunk->first_task < graph->arrived || graph->last)) {
    // Sent again after an interruption: twice is once.
    learn_functions(*session, *job, *chunk);
    graph->session = session->id;
    if (graph->end_reported && chunk->last) {
      emit(ReportGraphEnd{session->id, graph->id, graph->failure ? *graph->failure : Failure{}});
    }
    give_credit(*session, chunk->wire_bytes);
    return;
  }
  // Likewise, and it has been let go since. (Puts may share a graph's id, so what counts is that it ended.)
  if (auto ended = ended_.find(chunk->graph); graph == nullptr && ended != ended_.end()) {
    if (ended->second.job != job->id) {
      return refuse(bad_chunk("graph " + chunk->graph.hex() + " was another job's; choose 16 random bytes for each"));
    }
    learn_functions(*session, *job, *chunk);
    if (chunk->last) {
      emit(ReportGraphEnd{session->id, chunk->graph, ended->second.failure ? *ended->second.failure : Failure{}});
    }
    give_credit(*session, chunk->wire_bytes);
    return;
  }
  if (graph != nullptr && graph->job == job && graph->cancelled) {
    // It was on its way when the graph was cancelled.
    learn_functions(*session, *job, *chunk);
    give_credit(*session, chunk->wire_bytes);
    return;
  }
  Failure wrong = check_chunk(*session, *job, graph, *chunk);
  if (wrong.code != FailureCode::kNone) {
    if (graph != nullptr && graph->job == job && graph->session == session->id && !graph->last) {
      close_graph(*graph);
      fail_graph(*graph, std::make_shared<const Failure>(wrong));
      mark_ending(*graph);
    } else if (graph == nullptr && !chunk->graph.is_nil()) {
      emit(ReportGraphEnd{session->id, chunk->graph, wrong});
    }
    return refuse(std::move(wrong));
  }
  if (graph == nullptr) {
    graph = &graphs_.add(chunk->graph);
    graph->job = job;
    graph->session = session->id;
    graph->nested = session->worker != nullptr;
    graph->fail_fast = chunk->fail_fast;
    graph->report_progress = chunk->report_progress;
    graph->hold_all = chunk->hold_all;
    graph->name = chunk->graph_name;
    graph->opened = !chunk->fail_fast;
    graph->arrived_at = now_;
    graph->progress_at = now_;
    Resources cpu;
    MUST(cpu.set("CPU", 1).ok());
    graph->options[0].options.resources = cpu;
    graph->options[0].shape = shapes_.intern(cpu, 0, false, options_.resources);
    ++job->graphs;
    if (graph->fail_fast) {
      unrecorded_.emplace(graph->sequence, TaskRef{graph->slot, 0, graph->sequence});
      wake_by(now_ + options_.record_after);
    }
  }
  absorb(*session, *job, *graph, chunk);
  if (graph->fail_fast && !chunk->last && !graph->last) keep_results(*graph);
  give_credit(*session, chunk->wire_bytes);
  if (chunk->last) {
    close_graph(*graph);
    if (!graph->opened && !graph->failure) {
      if (order_whole_graph(*graph)) open_graph(*graph);
    } else if (!graph->forward.empty() && !graph->failure) {
      std::string task = std::to_string(graph->forward.begin()->first);
      Failure failure = bad_chunk("the graph ended without task " + task + ", which others depend on");
      emit(Refuse{session->id, "graph_chunk", graph->id, {}, failure});
      fail_graph(*graph, std::make_shared<const Failure>(failure));
    }
    mark_ending(*graph);
  } else if (!graph->opened && graph->arrived > options_.open_early_tasks) {
    open_graph(*graph);
  }
}

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

void Node::State::absorb(Session& session, Job& job, Graph& graph, const std::shared_ptr<const GraphChunk>& chunk_ptr) {
  const GraphChunk& chunk = *chunk_ptr;
  learn_functions(session, job, chunk);
  if (session.worker != nullptr) {
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
    bool same = !all.empty() && all.back().by_graph == submission.by_graph && all.back().by_task == submission.by_task;
    if (!same) all.push_back(submission);
    if (all.size() >= kSubmissionsTrimmed) {
      // Those of tasks whose blocks were let go can't be cancelled any more.
      uint32_t gone = graph.first_block << Block::kShift;
      auto kept = std::find_if(all.begin() + 1, all.end(), [&](const auto& one) { return one.first_task > gone; });
      all.erase(all.begin(), kept - 1);
    }
  }
  if (graph.fail_fast) graph.chunks.push_back(chunk_ptr);
  const uint64_t bytes_before = graph.bytes;

  // Option and name numbers of this chunk in terms of the graph's.
  std::vector<uint32_t> plain_options(chunk.options.size() + 1, 0), creation_options(chunk.options.size() + 1, 0);
  std::vector<bool> have_plain(chunk.options.size() + 1, false), have_creation(chunk.options.size() + 1, false);
  have_plain[0] = true;
  auto option_of = [&](uint32_t number, bool creation) {
    auto& numbers = creation ? creation_options : plain_options;
    auto& have = creation ? have_creation : have_plain;
    if (!have[number]) {
      const TaskOptions& options = number == 0 ? graph.options[0].options : chunk.options[number - 1];
      numbers[number] = intern_option(graph, TaskOptions(options), creation);
      have[number] = true;
    }
    return numbers[number];
  };
  std::vector<uint32_t> names(chunk.names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    names[i] = static_cast<uint32_t>(graph.names.size()) + 1;
    if (!graph.fail_fast) {
      // It may grow for days, and its tasks share few names.
      auto [found, fresh] = graph.name_numbers.try_emplace(chunk.names[i], names[i]);
      names[i] = found->second;
      if (!fresh) continue;
    }
    graph.names.push_back(chunk.names[i]);
    graph.bytes += sizeof(std::string) + chunk.names[i].size();
  }

  std::vector<uint32_t> external_at(chunk.externals.size(), UINT32_MAX);
  std::vector<uint32_t> external_object(chunk.externals.size(), 0);
  for (size_t i = 0; i < chunk.externals.size(); ++i) {
    external_object[i] = object_for_session(&session, chunk.externals[i]);
  }

  uint32_t function_known = UINT32_MAX, function = 0;
  bool creation = false;
  size_t group_at = 0;
  uint32_t group_left = 0;
  size_t dep_at = 0, borrow_at = 0;
  std::vector<uint32_t> unknown;  // tasks with inputs that nobody has
  uint32_t first = graph.arrived;
  for (uint32_t i = 0; i < chunk.task_count; ++i) {
    uint32_t task = graph.arrived;
    if ((task & (Block::kTasks - 1)) == 0 || graph.blocks.empty()) {
      graph.blocks.push_back(std::make_unique<Block>());
      graph.blocks.back()->rows.reserve(std::min<size_t>(chunk.task_count - i, Block::kTasks));
      std::fill(external_at.begin(), external_at.end(), UINT32_MAX);
    }
    Block& block = *graph.blocks.back();
    if (group_left == 0) {
      TaskGroup group;
      group.number = next_group_++;
      group.blob = chunk.group_blobs[group_at];
      group.first_task = task;
      group.size = group.unfinished = group_left = chunk.group_sizes[group_at++];
      graph.bytes += sizeof(TaskGroup) + size_bytes(group.blob);
      graph.groups.push_back(std::move(group));
    }
    --group_left;

    block.rows.emplace_back();
    ++graph.arrived;
    ++graph.unfinished;
    ++block.unfinished;
    {
      TaskRow& row = block.rows.back();
      if (chunk.function_numbers[i] != function_known) {
        function_known = chunk.function_numbers[i];
        function = session.functions.at(function_known);
        creation = functions_[function].def.kind == FunctionDef::Kind::kActorClass;
      }
      row.function = function;
      row.group = graph.group_base + static_cast<uint32_t>(graph.groups.size()) - 1;
      row.first_edge = static_cast<uint32_t>(block.edges.size());
      row.rank = task;
      if (!chunk.return_counts.empty()) row.return_count = static_cast<uint16_t>(chunk.return_counts[i]);
      row.option = static_cast<uint16_t>(
          option_of(chunk.option_numbers.empty() ? 0 : chunk.option_numbers[i], creation));
      if (!chunk.name_numbers.empty()) row.name = names[chunk.name_numbers[i]];
    }
    auto external = [&](uint32_t number) {
      if (external_at[number] == UINT32_MAX) {
        external_at[number] = static_cast<uint32_t>(block.externals.size());
        block.externals.push_back({chunk.externals[number], external_object[number]});
        graph.bytes += sizeof(ExternalRef);
      }
      return external_at[number];
    };
    uint32_t dep_count = chunk.dep_counts.empty() ? 0 : chunk.dep_counts[i];
    bool lacks = false;
    for (uint32_t k = 0; k < dep_count; ++k, ++dep_at) {
      uint64_t dep = chunk.deps[dep_at];
      Edge edge;
      edge.dep = (dep & 1) != 0 ? Edge::kExternal | external(static_cast<uint32_t>(dep >> 1))
                                : static_cast<uint32_t>(dep >> 1);
      uint32_t index = chunk.dep_returns.empty() ? 0 : chunk.dep_returns[dep_at];
      if (index != 0 && block.edge_returns.empty()) block.edge_returns.resize(block.edges.size(), 0);
      block.edges.push_back(edge);
      if (!block.edge_returns.empty() || index != 0) block.edge_returns.push_back(index);
      if ((dep & 1) != 0 && external_object[dep >> 1] == 0) lacks = true;
    }
    uint32_t borrow_count = chunk.borrow_counts.empty() ? 0 : chunk.borrow_counts[i];
    for (uint32_t k = 0; k < borrow_count; ++k, ++borrow_at) {
      Edge edge;
      edge.dep = Edge::kExternal | Edge::kBorrow | external(chunk.borrows[borrow_at]);
      block.edges.push_back(edge);
      if (!block.edge_returns.empty()) block.edge_returns.push_back(0);
    }
    uint32_t return_count = block.rows.back().return_count;
    if (return_count != 1) {
      auto& numbers = graph.multi[task];
      numbers.assign(return_count, 0);
      block.rows.back().object = TaskRow::kMulti;
    }
    if (graph.future_objects > 0) {
      for (uint32_t r = 0; r < return_count; ++r) {
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
    for (uint32_t e = block.rows.back().first_edge; e < block.edges.size(); ++e) add_dependency(graph, task, e);
    if (auto readers = graph.forward.empty() ? graph.forward.end() : graph.forward.find(task);
        readers != graph.forward.end()) {
      auto list = std::move(readers->second);
      graph.forward.erase(readers);
      for (auto [reader, edge] : list) {
        if (graph.row(reader).state >= TaskState::kDone) continue;
        --graph.row(reader).pending;  // add_dependency counts it again
        add_dependency(graph, reader, edge);
      }
    }
    if (graph.hold_all) {
      for (uint32_t r = 0; r < return_count; ++r) hold(session, need_object(graph, task, r));
    }
    if (lacks) unknown.push_back(task);
  }
  if (!graph.hold_all) {
    for (uint64_t task : chunk.wanted) {
      if (!graph.has_row(task)) continue;
      for (uint32_t r = 0; r < graph.row(static_cast<uint32_t>(task)).return_count; ++r) {
        hold(session, need_object(graph, static_cast<uint32_t>(task), r));
      }
    }
  }
  graph.bytes += chunk.task_count * sizeof(TaskRow) + chunk.deps.size() * sizeof(Edge);
  graph_bytes_ += graph.bytes - bytes_before;
  task_count_ += chunk.task_count;

  for (uint32_t task = first; task < graph.arrived; ++task) {
    TaskRow& row = graph.row(task);
    if (is_creation(row)) actor_arrived(graph, task);
    if (is_call(graph, row)) call_arrived(graph, task);
  }
  for (uint32_t task : unknown) {
    if (graph.row(task).state == TaskState::kFailed) continue;
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

bool Node::State::order_whole_graph(Graph& graph) {
  auto invalid_graph = [&](std::string message, uint32_t task) {
    auto failure = std::make_shared<Failure>(bad_chunk(std::move(message)));
    failure->task_name = name_of(graph, graph.row(task));
    emit(Refuse{graph.session, "graph_chunk", graph.id, {}, *failure});
    fail_graph(graph, failure);
    return false;
  };
  if (!graph.forward.empty()) {
    auto [missing, readers] = *graph.forward.begin();
    return invalid_graph("task " + std::to_string(readers.front().first) + " depends on task " +
                             std::to_string(missing) + ", but the graph has only " + std::to_string(graph.arrived) +
                             " tasks",
                         readers.front().first);
  }
  if (graph.arrived <= 1 && !graph.had_forward) return true;
  GraphShape shape;
  shape.task_count = graph.arrived;
  shape.dep_offsets.reserve(graph.arrived + 1);
  shape.dep_offsets.push_back(0);
  bool sizes = false;
  for (uint32_t task = 0; task < graph.arrived; ++task) {
    graph.each_edge(task, [&](Block& block, uint32_t e) {
      if (!block.edges[e].is_external()) shape.deps.push_back(block.edges[e].dep);
    });
    shape.dep_offsets.push_back(static_cast<uint32_t>(shape.deps.size()));
    sizes = sizes || functions_[graph.row(task).function].output_bytes > 0;
  }
  if (shape.deps.empty()) return true;
  if (sizes) {
    shape.output_sizes.reserve(graph.arrived);
    for (uint32_t task = 0; task < graph.arrived; ++task) {
      double bytes = functions_[graph.row(task).function].output_bytes;
      shape.output_sizes.push_back(static_cast<uint32_t>(std::clamp(bytes / 256, 1.0, 1e6)));
    }
  }
  std::vector<uint32_t> ranks = order_tasks(shape);
  if (ranks.empty()) {
    // Peel off what has no unmet dependency; a walk along the rest's dependencies ends on the cycle.
    std::vector<uint32_t> unmet(graph.arrived, 0), ready;
    for (uint32_t task = 0; task < graph.arrived; ++task) {
      unmet[task] = shape.dep_offsets[task + 1] - shape.dep_offsets[task];
      if (unmet[task] == 0) ready.push_back(task);
    }
    while (!ready.empty()) {
      uint32_t task = ready.back();
      ready.pop_back();
      graph.each_reader(task, [&](uint32_t reader, uint32_t) {
        if (--unmet[reader] == 0) ready.push_back(reader);
        return true;
      });
    }
    uint32_t at = 0;
    while (unmet[at] == 0) ++at;
    std::vector<bool> seen(graph.arrived, false);
    while (!seen[at]) {
      seen[at] = true;
      for (uint32_t d = shape.dep_offsets[at]; d < shape.dep_offsets[at + 1]; ++d) {
        if (unmet[shape.deps[d]] == 0) continue;
        at = shape.deps[d];
        break;
      }
    }
    return invalid_graph("task " + std::to_string(at) + " depends on itself, through others or directly", at);
  }
  for (uint32_t task = 0; task < graph.arrived; ++task) graph.row(task).rank = ranks[task];
  return true;
}

void Node::State::open_graph(Graph& graph) {
  graph.opened = true;
  if (graph.failure) return;
  // Ready ones in the order of their ranks, so that the queue stays a sorted run.
  std::vector<std::pair<uint32_t, uint32_t>> roots;
  for (uint32_t task = 0; task < graph.arrived; ++task) {
    const TaskRow& row = graph.row(task);
    if (row.state == TaskState::kWaiting && row.pending == 0) roots.push_back({row.rank, task});
  }
  std::sort(roots.begin(), roots.end());
  for (auto [rank, task] : roots) make_ready(graph, task);
}

// A fail_fast graph that is not whole yet: its results may have readers among the tasks still to arrive.
// (In other graphs the session holds what it may name again.)
void Node::State::keep_results(Graph& graph) {
  for (; graph.kept_tasks < graph.arrived; ++graph.kept_tasks) {
    TaskRow& row = graph.row(graph.kept_tasks);
    if (row.return_count != 1) {
      for (uint32_t r = 0; r < row.return_count; ++r) ++objects_[need_object(graph, graph.kept_tasks, r)].uses;
    } else if (row.object != 0) {
      ++objects_[row.object].uses;
    } else {
      ++row.uses;
    }
  }
}

// No more tasks will arrive.
void Node::State::close_graph(Graph& graph) {
  graph.last = true;
  for (uint32_t task = 0; task < graph.kept_tasks; ++task) {
    for (uint32_t r = 0; r < graph.row(task).return_count; ++r) unuse_result(graph, task, r);
  }
  graph.kept_tasks = 0;
}

bool Node::State::is_overfull() const {
  return task_count_ > options_.task_count_max || graph_bytes_ > options_.task_bytes_max;
}

void Node::State::give_credit(Session& session, uint64_t bytes) {
  if (bytes == 0) return;
  if (session.is_driver && is_overfull()) {
    session.credit_withheld += bytes;
    withheld_ = true;
  } else {
    emit(GiveCredit{session.id, bytes});
  }
}

void Node::State::give_withheld_credit() {
  if (!withheld_ || is_overfull()) return;
  withheld_ = false;
  sessions_.each([&](Session& session) {
    if (session.credit_withheld == 0) return;
    emit(GiveCredit{session.id, session.credit_withheld});
    session.credit_withheld = 0;
  });
}

}  // namespace raylet
