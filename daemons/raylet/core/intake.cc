// Chunks arrive: every check that needs the session or the whole graph, and what a session may send on.
#include <algorithm>

#include "daemons/raylet/core/node_state.h"
#include "protocol/words/check.h"

namespace raylet {

Failure Node::State::check_chunk(const Session& session, const Job& job, const Graph* graph,
                                 const GraphChunk& chunk) const {
  if (chunk.graph.is_nil()) return bad_graph("the graph has no id (16 bytes, not all zero)");
  uint64_t arrived = 0;
  if (graph != nullptr) {
    if (graph->job != &job) {
      return bad_graph("graph " + chunk.graph.hex() + " is another job's; choose 16 random bytes for each graph");
    }
    if (graph->session != session.id) {
      return bad_graph("graph " + chunk.graph.hex() + " is being submitted by another session of this job");
    }
    if (graph->failure && graph->failure->code == FailureCode::kGraphInvalid) return *graph->failure;
    if (graph->last) return bad_graph("a chunk came after the one that was said to be the graph's last");
    arrived = graph->arrived;
  }
  if (chunk.first_task != arrived) {
    return bad_graph("chunks must come in the order of their tasks: expected first_task " +
                     std::to_string(arrived) + ", came " + std::to_string(chunk.first_task));
  }
  if (arrived + chunk.task_count >= Edge::kTaskMax) {
    return bad_graph("a graph has at most 2147483646 tasks; begin another one");
  }
  if (chunk.task_count > 0 && chunk.function_numbers.empty()) return bad_graph("function_numbers is empty");
  for (uint32_t number : chunk.function_numbers) {
    if (session.functions.contains(number)) continue;
    auto defines = [&](const FunctionDef& def) { return def.number == number; };
    if (std::any_of(chunk.functions.begin(), chunk.functions.end(), defines)) continue;
    return bad_graph("function number " + std::to_string(number) +
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
      if (task >= Edge::kTaskMax) {
        return bad_graph("dependency on task " + std::to_string(task) + " is out of range");
      }
      if (task == chunk.first_task + i) {
        return bad_graph("task " + std::to_string(task) + " depends on itself");
      }
      if (!fail_fast && task >= chunk.first_task + i) {
        return bad_graph("task " + std::to_string(chunk.first_task + i) + " depends on task " +
                         std::to_string(task) +
                         ", which comes later; in a graph without fail_fast dependencies point backward");
      }
      if (chunk.last && task >= end) {
        return bad_graph("task " + std::to_string(chunk.first_task + i) + " depends on task " +
                         std::to_string(task) + ", but the graph has only " + std::to_string(end) + " tasks");
      }
    }
  }
  for (uint64_t task : chunk.wanted) {
    if (task >= end) return bad_graph("wanted task " + std::to_string(task) + " has not arrived");
  }
  for (uint32_t count : chunk.return_counts) {
    if (count > UINT16_MAX) return bad_graph("a task has at most 65535 results, came " + std::to_string(count));
  }
  if ((graph != nullptr ? graph->options.size() : 1) + chunk.options.size() > UINT16_MAX) {
    return bad_graph("a graph has at most 65535 distinct options; begin another one");
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
    return refuse(bad_graph("this session has no job yet: a worker may submit only while it runs a task"));
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
      return refuse(
          bad_graph("graph " + chunk->graph.hex() + " was another job's; choose 16 random bytes for each"));
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
    graph = &begin_graph(*session, *job, *chunk);
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
      Failure failure = bad_graph("the graph ended without task " + task + ", which others depend on");
      emit(Refuse{session->id, "graph_chunk", graph->id, {}, failure});
      fail_graph(*graph, std::make_shared<const Failure>(failure));
    }
    mark_ending(*graph);
  } else if (!graph->opened && graph->arrived > options_.open_early_tasks) {
    open_graph(*graph);
  }
}

Graph& Node::State::begin_graph(const Session& session, Job& job, const GraphChunk& chunk) {
  Graph& graph = graphs_.add(chunk.graph);
  graph.job = &job;
  graph.session = session.id;
  graph.nested = session.worker != nullptr;
  graph.fail_fast = chunk.fail_fast;
  graph.report_progress = chunk.report_progress;
  graph.hold_all = chunk.hold_all;
  graph.name = chunk.graph_name;
  graph.opened = !chunk.fail_fast;
  graph.arrived_at = now_;
  graph.progress_at = now_;
  Resources cpu;
  MUST(cpu.set("CPU", 1).ok());
  graph.options[0].options.resources = cpu;
  graph.options[0].shape = shapes_.intern(cpu, 0, false, options_.resources);
  ++job.graphs;
  if (graph.fail_fast) {
    unrecorded_.emplace(graph.sequence, TaskRef{graph.slot, 0, graph.sequence});
    wake_by(now_ + options_.record_after);
  }
  return graph;
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
