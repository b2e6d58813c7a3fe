// What workers say of their batches. A batch or an entry that is not known any more is answered by nobody:
// its task was cancelled, taken back or given to another.
#include <algorithm>

#include "daemons/raylet/core/node_state.h"
#include "protocol/words/check.h"

namespace raylet {

bool Node::State::results_are_sound(const Session& session, const Batch& batch, const ResultsArrived& event,
                                    std::string& why) {
  for (const TaskResult& result : event.results) {
    if (result.position >= batch.entries.size()) {
      why = "it reported position " + std::to_string(result.position) + " of a batch of " +
            std::to_string(batch.entries.size()) + " tasks";
      return false;
    }
    const BatchEntry& entry = batch.entries[result.position];
    if (entry.graph == nullptr || result.status != TaskResult::Status::kOk) continue;
    uint32_t expected = entry.graph->row(entry.task).return_count;
    if (result.returns.size() != expected) {
      why = "it reported " + std::to_string(result.returns.size()) + " results of a task with " +
            std::to_string(expected);
      return false;
    }
    for (const TaskResult::Return& one : result.returns) {
      const SealedBytes* sealed = std::get_if<SealedBytes>(&one.payload);
      if (sealed == nullptr || slab_of(session, *sealed) != nullptr) continue;
      why = "it sealed a result in slab " + std::to_string(sealed->slab.number) +
            ", which it does not lease, or outside of it";
      return false;
    }
  }
  return true;
}

void Node::State::on(ResultsArrived& event) {
  Session* session = sessions_.find(event.session);
  if (session == nullptr || session->closed || session->worker == nullptr) return;
  Worker& worker = *session->worker;
  auto batch = std::find_if(worker.batches.begin(), worker.batches.end(),
                            [&](const Batch& b) { return b.number == event.batch; });
  if (batch == worker.batches.end()) return;
  std::string why;
  if (!results_are_sound(*session, *batch, event, why)) return close_session(session->id, std::move(why));
  for (TaskResult& result : event.results) take_result(worker, *batch, result);
  batch->heard_at = now_;
  after_batches(worker);
}

void Node::State::leave_batch(Worker& worker, Batch& batch, BatchEntry& entry) {
  --entry.graph->in_flight;
  --entry.graph->block_of(entry.task).in_flight;
  if (entry.graph->in_flight == 0 && entry.graph->is_over()) mark_ending(*entry.graph);
  double share = batch.work_us / batch.left;
  batch.work_us -= share;
  worker.work_us -= share;
  --batch.left;
  --worker.in_flight;
  --tasks_in_flight_;
  entry.graph = nullptr;
}

void Node::State::take_result(Worker& worker, Batch& batch, TaskResult& result) {
  BatchEntry& entry = batch.entries[result.position];
  if (entry.graph == nullptr) return;
  Graph& graph = *entry.graph;
  uint32_t task = entry.task;
  leave_batch(worker, batch, entry);
  TaskRow& row = graph.row(task);
  if (result.status == TaskResult::Status::kOk || result.status == TaskResult::Status::kFailed) {
    Function& function = functions_[row.function];
    double sample = result.duration_us;
    if (!function.known) {
      function.duration_us = sample;
    } else if (sample > function.duration_us) {
      function.duration_us = (function.duration_us + sample) / 2;
    } else {
      function.duration_us = function.duration_us * 0.8 + sample * 0.2;
    }
  }
  if (worker.actor != nullptr && is_call(graph, row)) --worker.actor->calls_in_flight;
  if (row.state != TaskState::kRunning) return;
  switch (result.status) {
    case TaskResult::Status::kOk: {
      const Session& session = *worker.session;
      bool lost = std::any_of(result.returns.begin(), result.returns.end(), [&](const auto& one) {
        const SealedBytes* sealed = std::get_if<SealedBytes>(&one.payload);
        return sealed != nullptr && slab_of(session, *sealed)->lost;
      });
      if (lost) {
        // It was written into a store that died. The worker would go on writing there: a fresh one does not.
        if (worker.actor != nullptr) {
          row.state = TaskState::kWaiting;
          fail_task(graph, task,
                    make_failure(FailureCode::kObjectLost, "its result was lost with the object store",
                                 name_of(graph, row)));
          return;
        }
        if (row.attempt < UINT16_MAX) ++row.attempt;
        requeue(graph, task);
        stop_worker(worker, false);
        return;
      }
      finish_task(graph, task, session, result);
      functions_[row.function].known = true;
      break;
    }
    case TaskResult::Status::kFailed: {
      auto failure = std::make_shared<Failure>(std::move(result.failure));
      if (failure->task_name.empty()) failure->task_name = name_of(graph, row);
      functions_[row.function].known = true;
      row.state = TaskState::kWaiting;
      fail_task(graph, task, failure);
      break;
    }
    case TaskResult::Status::kHandedBack:
      requeue(graph, task);
      break;
    case TaskResult::Status::kRetry: {
      auto failure = std::make_shared<Failure>(std::move(result.failure));
      if (failure->task_name.empty()) failure->task_name = name_of(graph, row);
      retry_or_fail(graph, task, failure);
      break;
    }
  }
}

// The task is nobody's again. Its pending inputs (earlier ones of its batch) still come to it by themselves.
void Node::State::requeue(Graph& graph, uint32_t task) {
  TaskRow& row = graph.row(task);
  MUST(row.state == TaskState::kRunning);
  row.state = TaskState::kWaiting;
  if (is_call(graph, row)) {
    queue_call_again(graph, task);
  }
  recount_inputs(graph, task);
}

void Node::State::retry_or_fail(Graph& graph, uint32_t task, const FailurePtr& failure) {
  TaskRow& row = graph.row(task);
  int32_t retries_max = graph.option_of(row).options.retries_max.value_or(options_.retries_default);
  retries_max = std::min<int32_t>(retries_max, TaskRow::kChargedMax);
  bool more = retries_max < 0 || (row.charged & TaskRow::kChargedMax) < retries_max;
  if (is_call(graph, row) && !graph.option_of(row).options.retries_max) more = false;
  if (more && (row.charged & TaskRow::kChargedMax) < TaskRow::kChargedMax) ++row.charged;
  if (more) {
    if (row.attempt < UINT16_MAX) ++row.attempt;
    ++tasks_retried_total_;
    return requeue(graph, task);
  }
  row.state = TaskState::kWaiting;
  fail_task(graph, task, failure);
}

void Node::State::after_batches(Worker& worker) {
  while (!worker.batches.empty() && worker.batches.front().left == 0) {
    worker.work_us -= worker.batches.front().work_us;
    worker.batches.pop_front();
  }
  if (worker.batches.size() > 1) {
    std::erase_if(worker.batches, [](const Batch& batch) { return batch.left == 0; });
  }
  if (worker.actor != nullptr) calls_to_send_.push_back(worker.actor->id);
  if (!worker.batches.empty()) return;
  worker.work_us = 0;
  if (worker.actor == nullptr && worker.state == Worker::State::kBusy) {
    give_resources(worker);
    worker.state = Worker::State::kIdle;
    worker.since = now_;
  }
}

void Node::State::retract(Worker& worker) {
  if (worker.retracting || worker.batches.empty()) return;
  worker.retracting = true;
  emit(RetractBatches{worker.id});
}

void Node::State::on(BatchesRetracted& event) {
  Worker* worker = workers_.find(event.worker);
  if (worker == nullptr) return;
  worker->retracting = false;
  for (uint64_t number : event.batches) {
    auto batch = std::find_if(worker->batches.begin(), worker->batches.end(),
                              [&](const Batch& b) { return b.number == number; });
    if (batch == worker->batches.end()) continue;
    std::vector<TaskRef> back;
    for (BatchEntry& entry : batch->entries) {
      if (entry.graph == nullptr) continue;
      Graph& graph = *entry.graph;
      uint32_t task = entry.task;
      leave_batch(*worker, *batch, entry);
      if (worker->actor != nullptr && is_call(graph, graph.row(task))) --worker->actor->calls_in_flight;
      if (graph.row(task).state == TaskState::kRunning) back.push_back({graph.slot, task, graph.sequence});
    }
    // Last first: calls of an actor go back to the front of their queue.
    for (size_t i = back.size(); i-- > 0;) requeue(graphs_.at(back[i].slot), back[i].task);
    if (worker->session != nullptr) {
      for (uint32_t object : batch->located) unpin(*worker->session, object, 1);
    }
    // What came along was never read: it is sent again when it is needed.
    if (batch->brought_setup) worker->setup_sent = false;
    for (uint64_t group : batch->groups) worker->groups.erase(group);
    worker->last_group = 0;
    for (uint32_t function : batch->functions) worker->functions[function] = false;
    worker->groups_to_drop.insert(worker->groups_to_drop.end(), batch->dropped_groups.begin(),
                                  batch->dropped_groups.end());
    batch->located.clear();
  }
  after_batches(*worker);
}

// Where the task's batch is, if it is in one.
std::pair<Worker*, Batch*> Node::State::find_running(const Graph& graph, uint32_t task, uint32_t& position) {
  for (auto& [number, worker] : workers_) {
    for (Batch& batch : worker->batches) {
      for (uint32_t i = 0; i < batch.entries.size(); ++i) {
        if (batch.entries[i].graph != &graph || batch.entries[i].task != task) continue;
        position = i;
        return {worker.get(), &batch};
      }
    }
  }
  return {nullptr, nullptr};
}

}  // namespace raylet
