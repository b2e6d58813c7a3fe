// Worker processes: how many there are, and what their arrival, blocking and death mean.
#include <algorithm>

#include "daemons/raylet/core/node_state.h"
#include "protocol/words/check.h"

namespace raylet {

namespace {
constexpr uint32_t kStartsFailedMax = 5;  // in a row, before what waits for a worker fails
constexpr Duration kSpareIdleMax = std::chrono::seconds(2);
constexpr uint32_t kSmallTaskWorkersPerSlot = 4;  // for tasks that take less than a CPU
constexpr Duration kStartPause = std::chrono::milliseconds(200);

bool lacks_resources(const Job& job) {
  return std::any_of(job.shapes.begin(), job.shapes.end(), [](const auto& of_shape) {
    return of_shape.lack == Job::ShapeLanes::Lack::kResources;
  });
}
}  // namespace

Worker& Node::State::start_worker(const JobId& job) {
  Worker& worker = workers_.add();
  worker.started_for = job;
  worker.since = now_;
  emit(StartWorker{worker.id, job});
  return worker;
}

void Node::State::stop_worker(Worker& worker, bool gently) {
  if (worker.stopping && gently) return;
  if (worker.stopping && worker.killed) return;
  worker.stopping = true;
  worker.killed = !gently;
  emit(StopWorker{worker.id, gently});
}

// Keeps worker_slots processes warm, and starts more where a task has its resources but no process.
void Node::State::start_workers() {
  if (now_ < start_not_before_) {
    wake_by(start_not_before_);
    return;
  }
  uint32_t slots = options_.worker_slots;
  uint32_t able = 0, blocked = 0, unbound = 0;
  for (auto& [number, worker] : workers_) {
    if (worker->stopping || worker->is_actor()) continue;
    if (worker->state == Worker::State::kBlocked) {
      ++blocked;
    } else {
      ++able;
      if (worker->job == nullptr) ++unbound;
    }
  }
  auto may_start = [&](uint32_t serving) {
    if (workers_.size() >= options_.workers_max) return false;
    // Blocked ones wait for others: at the cap another is started only if nobody is left to run what they wait
    // for. Another job's worker is no help.
    return blocked < options_.blocked_workers_per_slot_max * slots || serving == 0;
  };
  while (able < slots && may_start(able)) {
    start_worker({});
    ++able;
    ++unbound;
  }
  for (auto& [id, job] : jobs_) {
    if (job->ended) continue;
    size_t ready = 0;
    bool fits = false;
    for (const auto& of_shape : job->shapes) {
      for (const Lane* lane : of_shape.lanes) {
        ready += lane->queue.size();
        if (ready > slots) break;
      }
      if (of_shape.lanes.empty()) continue;
      fits = fits || of_shape.needs_worker || has_room_for(shapes_[of_shape.shape]);
    }
    if (!fits) continue;
    uint32_t serving = 0, coming = 0;
    for (auto& [number, worker] : workers_) {
      if (worker->stopping || worker->is_actor() || worker->state == Worker::State::kBlocked) continue;
      if (worker->job != nullptr && worker->job != job.get()) continue;
      if (!worker->started_for.is_nil() && worker->started_for != id) continue;
      ++serving;
      if (worker->state == Worker::State::kStarting || worker->state == Worker::State::kIdle) ++coming;
    }
    uint32_t want = static_cast<uint32_t>(std::min<size_t>(ready, slots));
    while (coming < want && serving < slots * kSmallTaskWorkersPerSlot && may_start(serving)) {
      start_worker(id);
      ++coming;
      ++serving;
      ++able;
    }
  }
}

// Hands on what waits unread behind a long task, and stops workers that are too many.
void Node::State::rebalance() {
  uint32_t able = 0;
  Worker* idle = nullptr;
  for (auto& [number, worker] : workers_) {
    if (worker->stopping || worker->is_actor() || worker->state == Worker::State::kBlocked) continue;
    ++able;
    if (worker->state == Worker::State::kIdle) idle = worker.get();
  }
  if (idle == nullptr) return;
  Duration patience = 2 * options_.batch_work_target;
  for (auto& [number, worker] : workers_) {
    if (worker->state != Worker::State::kBusy || worker->batches.size() < 2 || worker->retracting) continue;
    if (worker->is_actor() || worker->session == nullptr) continue;
    Instant due = worker->batches.front().heard_at + patience;
    if (due <= now_) {
      retract(*worker);
    } else {
      wake_by(due);
    }
  }
  for (auto& [number, worker] : workers_) {
    if (able <= options_.worker_slots) break;
    if (worker->state != Worker::State::kIdle || worker->stopping || worker->is_actor()) continue;
    // Once its job has the room that others take up now, it would have to wait for a worker again.
    auto starter = jobs_.find(worker->started_for);
    const Job* job = worker->job != nullptr || starter == jobs_.end() ? worker->job : starter->second.get();
    if (job != nullptr && lacks_resources(*job)) continue;
    if (now_ - worker->since < kSpareIdleMax) {
      wake_by(worker->since + kSpareIdleMax);
      continue;
    }
    stop_worker(*worker, true);
    --able;
  }
}

void Node::State::on(WorkerArrived& event) {
  if (sessions_.find(event.session) != nullptr) return;
  Worker* worker = workers_.find(event.worker);
  Session& session = sessions_.add(event.session);
  session.pid = event.pid;
  if (worker == nullptr || worker->session != nullptr || worker->state != Worker::State::kStarting) {
    session.closed = true;
    emit(CloseSession{event.session, "worker " + std::to_string(event.worker.number) + " is not expected"});
    return;
  }
  session.worker = worker;
  worker->session = &session;
  worker->pid = event.pid;
  worker->state = Worker::State::kIdle;
  worker->since = now_;
  starts_failed_ = 0;
}

void Node::State::on(WorkerBlocked& event) {
  Session* session = sessions_.find(event.session);
  if (session == nullptr || session->worker == nullptr) return;
  Worker& worker = *session->worker;
  if (event.blocked) {
    if (worker.state != Worker::State::kBusy) return;
    worker.blocked_with_resources = worker.holds_resources;
    give_resources(worker);
    worker.state = Worker::State::kBlocked;
    worker.since = now_;
    // What it has read it hands back by itself.
    if (worker.batches.size() > 1 && !worker.is_actor()) retract(worker);
    return;
  }
  if (worker.state != Worker::State::kBlocked) return;
  worker.state = Worker::State::kBusy;
  worker.since = now_;
  if (worker.blocked_with_resources) take_resources(worker, worker.shape);
  worker.blocked_with_resources = false;
  if (worker.batches.empty()) after_batches(worker);
}

void Node::State::worker_start_went_wrong(const JobId& job_id, const std::string& reason) {
  ++starts_failed_;
  start_not_before_ = now_ + starts_failed_ * kStartPause;
  if (starts_failed_ < kStartsFailedMax) return;
  std::string text = "workers do not start: the last " + std::to_string(starts_failed_) +
                     " died before they said hello; the last one: " + reason;
  for (auto& [id, job] : jobs_) {
    if (!job_id.is_nil() && id != job_id) continue;
    if (!job->driver.is_nil()) emit(TellDriver{job->driver, TellDriver::Severity::kError, text});
    FailurePtr failure = make_failure(FailureCode::kWorkerCrashed, text);
    for (Graph* graph : graphs_.all()) {
      if (graph->job != job.get() || graph->unfinished == 0) continue;
      // Open graphs live on: only what they wait for fails.
      for (uint32_t task = 0; task < graph->arrived; ++task) {
        if (graph->has_row(task) && graph->row(task).state < TaskState::kRunning) fail_task(*graph, task, failure);
      }
    }
  }
  starts_failed_ = kStartsFailedMax - 1;
}

void Node::State::on(WorkerStartFailed& event) {
  Worker* worker = workers_.find(event.worker);
  if (worker == nullptr) return;
  JobId job = worker->started_for;
  bool expected = worker->stopping;
  workers_.remove(event.worker);
  if (!expected) worker_start_went_wrong(job, event.reason);
}

void Node::State::on(WorkerExited& event) {
  Worker* found = workers_.find(event.worker);
  if (found == nullptr) return;
  Worker& worker = *found;
  ++workers_died_total_;
  std::string how = event.signal != 0 ? "was killed by signal " + std::to_string(event.signal)
                                      : "exited with status " + std::to_string(event.exit_status);
  std::string who = "worker " + std::to_string(worker.id.number) + " (pid " + std::to_string(worker.pid) + ") ";
  if (event.out_of_memory) how += " because memory ran out";

  auto death_of = [&](const std::string& task_name) {
    auto failure = std::make_shared<Failure>();
    failure->code = event.out_of_memory ? FailureCode::kOutOfMemory : FailureCode::kWorkerCrashed;
    failure->message = who + how + " while it ran task " + task_name;
    if (!event.last_words.empty()) failure->message += "; its last words:\n" + event.last_words;
    failure->task_name = task_name;
    failure->pid = worker.pid;
    return failure;
  };

  give_resources(worker);
  Actor* actor = worker.actor;
  std::vector<TaskRef> in_flight;
  for (Batch& batch : worker.batches) {
    for (BatchEntry& entry : batch.entries) {
      if (entry.graph == nullptr) continue;
      in_flight.push_back({entry.graph->slot, entry.task, entry.graph->sequence});
      leave_batch(worker, batch, entry);
    }
  }
  bool first = true;
  if (actor != nullptr) {
    FailurePtr death = actor->death;
    if (!death) {
      auto failure = std::make_shared<Failure>();
      failure->code = FailureCode::kActorDied;
      failure->message = "actor " + actor->class_name + ": its " + who + how;
      if (!event.last_words.empty()) failure->message += "; its last words:\n" + event.last_words;
      failure->task_name = actor->class_name;
      failure->pid = worker.pid;
      death = failure;
    }
    actor->calls_in_flight = 0;
    for (const TaskRef& ref : in_flight) {
      Graph& graph = graphs_.at(ref.slot);
      if (graph.row(ref.task).state != TaskState::kRunning) continue;
      graph.row(ref.task).state = TaskState::kWaiting;
      fail_task(graph, ref.task, death);
    }
    actor->worker = nullptr;
    worker.actor = nullptr;
    actor_worker_gone(*actor, death);
  } else {
    for (const TaskRef& ref : in_flight) {
      Graph& graph = graphs_.at(ref.slot);
      TaskRow& row = graph.row(ref.task);
      bool ran = first;
      first = false;
      if (row.state != TaskState::kRunning) continue;
      if (ran && (!worker.stopping || worker.cut_off)) {
        retry_or_fail(graph, ref.task, death_of(name_of(graph, row)));
      } else if (ran && worker.crash_failure) {
        row.state = TaskState::kWaiting;
        fail_task(graph, ref.task, worker.crash_failure);
      } else {
        // It may have run without having been reported: what it submitted then has other names.
        if (row.attempt < UINT16_MAX) ++row.attempt;
        requeue(graph, ref.task);
      }
    }
  }
  bool started = worker.state != Worker::State::kStarting || worker.stopping;
  JobId started_for = worker.started_for;
  if (Session* session = worker.session) {
    end_worker_session(*session);
    session->worker = nullptr;
  }
  workers_.remove(event.worker);
  if (!started) worker_start_went_wrong(started_for, "it " + how + ". " + event.last_words);
}

}  // namespace raylet
