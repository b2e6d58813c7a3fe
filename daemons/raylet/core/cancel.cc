// Cancelling: what has not begun never does, what runs is interrupted, what it submitted goes too if asked.
#include "daemons/raylet/core/node_state.h"

namespace raylet {

namespace {
constexpr uint32_t kEveryTask = UINT32_MAX;
}  // namespace

void Node::State::on(CancelAsked& event) {
  Session* session = sessions_.find(event.session);
  if (session == nullptr || session->closed) return;
  Job* job = job_of(*session);
  if (!event.graph.is_nil()) {
    Graph* graph = graphs_.find(event.graph);
    if (graph != nullptr && graph->job == job) {
      FailurePtr failure = make_failure(FailureCode::kTaskCancelled, "the graph was cancelled");
      cancel_graph(*graph, failure, event.force, event.recursive);
    }
  }
  if (!event.object.is_nil()) {
    Graph* graph = graphs_.find(event.object.graph);
    if (graph != nullptr && graph->has_row(event.object.task)) {
      uint32_t task = static_cast<uint32_t>(event.object.task);
      FailurePtr failure = make_failure(FailureCode::kTaskCancelled, "the task was cancelled",
                                        name_of(*graph, graph->row(task)));
      cancel_task(*graph, task, failure, event.force, event.recursive);
    }
  }
  drain_failing();
  if (!event.request.is_nil()) emit(Acknowledge{session->id, event.request});
}

// The running task's entry stays in its batch until it is reported, taken back, or the worker dies.
void Node::State::stop_running(Graph& graph, uint32_t task, bool force) {
  uint32_t position = 0;
  auto [worker, batch] = find_running(graph, task, position);
  if (worker == nullptr || worker->stopping) return;
  if (force) {
    worker->crash_failure = make_failure(FailureCode::kTaskCancelled, "the task was cancelled by force",
                                         name_of(graph, graph.row(task)));
    stop_worker(*worker, false);
    return;
  }
  if (batch != &worker->batches.front() && !worker->is_actor()) retract(*worker);
  emit(InterruptTask{worker->id, batch->number, position});
}

void Node::State::cancel_task(Graph& graph, uint32_t task, const FailurePtr& failure, bool force, bool recursive) {
  if (recursive) cancel_children(graph, task, force);
  if (graph.row(task).state >= TaskState::kDone) return;
  if (force && graph.row(task).state == TaskState::kRunning) stop_running(graph, task, true);
  fail_task(graph, task, failure);
}

void Node::State::cancel_graph(Graph& graph, const FailurePtr& failure, bool force, bool recursive) {
  if (recursive) cancel_children(graph, kEveryTask, force);
  if (graph.is_over()) return;
  graph.cancelled = true;
  if (!graph.failure) graph.failure = failure;
  // Also cancels what would still arrive: the graph is over with what there is.
  close_graph(graph);
  for (uint32_t task = 0; task < graph.arrived; ++task) {
    if (graph.has_row(task)) cancel_task(graph, task, failure, force, false);
  }
  mark_ending(graph);
}

// What the task, or every task of the graph, has submitted; and what that has.
void Node::State::cancel_children(const Graph& graph, uint32_t task, bool force) {
  FailurePtr failure = make_failure(FailureCode::kTaskCancelled, "the task that submitted it was cancelled");
  const GraphId id = graph.id;
  for (Graph* child : graphs_.all()) {
    const auto& submissions = child->submissions;
    for (size_t i = 0; i < submissions.size(); ++i) {
      if (submissions[i].by_graph != id || (task != kEveryTask && submissions[i].by_task != task)) continue;
      if (child->fail_fast) {
        if (!child->cancelled) cancel_graph(*child, failure, force, true);
        break;
      }
      uint32_t end = i + 1 < submissions.size() ? submissions[i + 1].first_task : child->arrived;
      for (uint32_t at = submissions[i].first_task; at < end; ++at) {
        if (child->has_row(at) && child->row(at).state < TaskState::kDone) {
          cancel_task(*child, at, failure, force, true);
        }
      }
    }
  }
}

}  // namespace raylet
