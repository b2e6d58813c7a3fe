// Drivers come, stay away for a while, and go; what was theirs goes with them.
#include <algorithm>

#include "daemons/raylet/core/node_state.h"
#include "protocol/words/check.h"

namespace raylet {

Job* Node::State::job_of(const Session& session) const {
  return session.worker != nullptr ? session.worker->job : session.job;
}

void Node::State::close_session(const SessionId& id, std::string reason) {
  Session* session = sessions_.find(id);
  if (session == nullptr || session->closed) return;
  emit(CloseSession{id, std::move(reason)});
}

void Node::State::on(DriverArrived& event) {
  if (sessions_.find(event.session) != nullptr) return;
  Session& session = sessions_.add(event.session);
  session.is_driver = true;
  session.local = event.local;
  session.pid = event.pid;
  auto& slot = jobs_[event.job];
  bool fresh = slot == nullptr;
  if (fresh) {
    slot = std::make_unique<Job>();
    slot->id = event.job;
    slot->since = now_;
  }
  Job& job = *slot;
  if (!fresh && !job.driver.is_nil()) {
    emit(CloseSession{job.driver, "the same job connected again as session " + std::to_string(session.id.number)});
  }
  if (fresh || job.ended) {
    Ticket ticket = next_ticket();
    pending_records_[ticket] = {PendingRecord::Kind::kJob, {}, event.job, {}};
    emit(Persist{ticket, RecordJob{event.job, event.setup.script, event.pid}});
  } else {
    // The driver is back: its graphs report to the session it has, and what it held is held by it.
    for (Graph* graph : graphs_.all()) {
      if (graph->job == &job && graph->session == job.away_session) graph->session = session.id;
    }
    if (Session* away = sessions_.find(job.away_session)) {
      for (uint32_t at = away->first_share; at != 0;) {
        const Share share = objects_.share(at);
        at = share.next_of_session;
        if (share.held) hold(session, share.object);
      }
      session.functions = away->functions;
      drop_shares(*away);
      sessions_.remove(*away);
    }
  }
  job.away_session = {};
  job.ended = false;
  job.setup = std::move(event.setup);
  job.pid = event.pid;
  job.local = event.local;
  job.driver = session.id;
  session.job = &job;
}

// What a worker's session had is given up: it is dead, or cut off and about to be.
void Node::State::end_worker_session(Session& session) {
  if (session.closed) return;
  session.closed = true;
  std::vector<uint32_t> gets;
  for (auto [request, get] : session.gets) gets.push_back(get);
  for (uint32_t get : gets) end_get(get);
  drop_shares(session);
  end_store_session(session);
  for (Graph* graph : graphs_.all()) {
    if (graph->session != session.id) continue;
    graph->session = {};
    if (graph->last) continue;
    // It stops growing; what others hold of it is still made.
    close_graph(*graph);
    if (graph->fail_fast) {
      fail_graph(*graph, make_failure(FailureCode::kTaskCancelled, "the worker that submitted the graph is gone"));
    }
    mark_ending(*graph);
  }
}

void Node::State::on(SessionClosed& event) {
  Session* session = sessions_.find(event.session);
  if (session == nullptr) return;
  if (!session->is_driver) {
    if (Worker* worker = session->worker) {
      end_worker_session(*session);
      worker->session = nullptr;
      // A worker without its connection can do nothing more.
      if (!worker->stopping) worker->cut_off = true;
      stop_worker(*worker, false);
      session->worker = nullptr;
    }
    if (!session->closed) end_worker_session(*session);
    sessions_.remove(*session);
    return;
  }
  Job* job = session->job;
  if (session->closed) {
    sessions_.remove(*session);
    return;
  }
  std::vector<uint32_t> gets;
  for (auto [request, get] : session->gets) gets.push_back(get);
  for (uint32_t get : gets) end_get(get);
  end_store_session(*session);
  session->closed = true;
  if (job == nullptr || job->driver != session->id) {
    drop_shares(*session);
    sessions_.remove(*session);
    return;
  }
  job->driver = {};
  job->driver_lost_at = now_;
  job->away_session = session->id;
  if (event.goodbye || options_.driver_grace.count() == 0) {
    end_job(*job);
  } else {
    // Its process may be dead: pins go, holds wait for it.
    for (uint32_t at = session->first_share; at != 0;) {
      const Share share = objects_.share(at);
      at = share.next_of_session;
      if (share.pins > 0) unpin(*session, share.object, share.pins);
    }
    wake_by(now_ + options_.driver_grace);
  }
}

void Node::State::end_lost_jobs() {
  for (auto at = jobs_.begin(); at != jobs_.end();) {
    Job& job = *at->second;
    if (!job.ended && job.driver.is_nil()) {
      if (now_ - job.driver_lost_at >= options_.driver_grace) {
        end_job(job);
      } else {
        wake_by(job.driver_lost_at + options_.driver_grace);
      }
    }
    bool needed = !job.ended || job.graphs > 0;
    if (!needed) {
      for (auto& [number, worker] : workers_) needed = needed || worker->job == &job;
    }
    if (needed) {
      ++at;
      continue;
    }
    for (auto& [id, actor] : actors_) {
      if (actor->job == &job) actor->job = nullptr;
    }
    functions_.forget_job(job.id);
    at = jobs_.erase(at);
  }
}

void Node::State::end_job(Job& job) {
  if (job.ended) return;
  job.ended = true;
  FailurePtr failure = make_failure(FailureCode::kTaskCancelled, "the driver of its job is gone");
  for (Graph* graph : graphs_.all()) {
    if (graph->job != &job) continue;
    close_graph(*graph);
    for (uint32_t task = 0; task < graph->arrived; ++task) {
      if (!graph->has_row(task)) continue;
      const TaskRow& row = graph->row(task);
      if (row.state >= TaskState::kDone) continue;
      if (is_creation(row) && graph->option_of(row).options.detached) continue;
      fail_task(*graph, task, failure);
    }
    if (!graph->failure) graph->failure = failure;
    mark_ending(*graph);
  }
  std::vector<ObjectId> actors;
  for (auto& [id, actor] : actors_) {
    if (actor->job == &job && !actor->detached) actors.push_back(id);
  }
  std::sort(actors.begin(), actors.end());
  for (const ObjectId& id : actors) {
    kill_actor(*actors_.at(id), make_failure(FailureCode::kActorDied, "the driver of its job is gone"), true);
  }
  if (Session* away = sessions_.find(job.away_session)) {
    drop_shares(*away);
    sessions_.remove(*away);
  }
  job.away_session = {};
  for (auto& [number, worker] : workers_) {
    bool for_it = worker->job == &job || (worker->job == nullptr && worker->started_for == job.id);
    if (!for_it || (worker->actor != nullptr && worker->actor->detached)) continue;
    stop_worker(*worker, worker->batches.empty());
  }
  // If its record is still on its way it is forgotten when that is done (records.cc).
  if (job.recorded) emit(Persist{next_ticket(), ForgetJob{job.id}});
  job.recorded = false;
}

}  // namespace raylet
