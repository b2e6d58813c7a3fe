// Actors: a creation gets a worker of its own; calls go to it in the order of each submitter.
#include <algorithm>

#include "daemons/raylet/core/node_state.h"
#include "protocol/words/check.h"

namespace raylet {

Actor* Node::State::actor_of(const Graph& graph, const TaskRow& row) {
  ObjectId id = graph.option_of(row).options.actor;
  for (int hops = 0; hops < 8; ++hops) {
    auto found = actors_.find(id);
    if (found == actors_.end()) return nullptr;
    if (found->second->stands_for.is_nil()) return found->second.get();
    id = found->second->stands_for;
  }
  return nullptr;
}

// ---------------------------------------------------------------- creation

void Node::State::actor_arrived(Graph& graph, uint32_t task) {
  const TaskRow& row = graph.row(task);
  const TaskOptions& options = graph.option_of(row).options;
  ObjectId id{graph.id, task, 0};
  auto owned = std::make_unique<Actor>();
  Actor& actor = *owned;
  actors_[id] = std::move(owned);
  actor.id = id;
  actor.job = graph.job;
  actor.creation = {graph.slot, task, graph.sequence};
  actor.class_name = name_of(graph, row);
  actor.detached = options.detached;
  actor.get_if_exists = options.get_if_exists;
  actor.name = options.actor_name;
  actor.name_space = options.actor_namespace;
  actor.handle = options.actor_handle ? options.actor_handle : make_bytes(functions_[row.function].def.name);
  actor.since = now_;
  actor.keeps_resources = !shapes_[graph.option_of(row).shape].only_cpu;
  uint32_t object = need_object(graph, task, 0);
  if (actor.detached) ++objects_[object].uses;
  if (actor.name.empty()) return;

  auto [taken, fresh] = names_.try_emplace({actor.name_space, actor.name}, id);
  actor.state = Actor::State::kNaming;
  if (!fresh) {
    Persisted event;
    event.failure = *make_failure(FailureCode::kActorNameTaken, "");
    event.name_holder = taken->second;
    name_persisted(actor, event);
    return;
  }
  actor.naming = next_ticket();
  pending_records_[actor.naming] = {PendingRecord::Kind::kName, graph.id, graph.job->id, id};
  emit(Persist{actor.naming,
               RecordName{actor.name, actor.name_space, id, graph.job->id, actor.detached, actor.handle}});
}

void Node::State::name_persisted(Actor& actor, const Persisted& event) {
  auto key = std::make_pair(actor.name_space, actor.name);
  Graph* graph = graphs_.find(actor.creation);
  if (event.failure.code == FailureCode::kNone) {
    if (actor.state != Actor::State::kNaming) {
      // It ended before its name was written down.
      emit(Persist{next_ticket(), ForgetName{actor.name, actor.name_space, actor.id}});
      return;
    }
    actor.named = true;
    actor.state = Actor::State::kWaiting;
    if (graph == nullptr) return;
    const TaskRow& row = graph->row(actor.creation.task);
    if (row.state == TaskState::kWaiting && row.pending == 0) make_ready(*graph, actor.creation.task);
    return;
  }
  auto local = names_.find(key);
  if (local != names_.end() && local->second == actor.id) names_.erase(local);
  if (actor.state != Actor::State::kNaming || graph == nullptr) return;
  if (actor.get_if_exists && actors_.contains(event.name_holder)) {
    actor.stands_for = event.name_holder;
    actor.state = Actor::State::kAlive;
    TaskResult nothing;
    nothing.returns.resize(graph->row(actor.creation.task).return_count);
    for (auto& one : nothing.returns) one.payload = make_bytes({});
    uint32_t other = find_object(event.name_holder);
    uint32_t own = object_of(*graph, actor.creation.task, 0);
    if (other != 0 && own != 0) {
      // Whoever holds this one holds the other.
      ++objects_[other].uses;
      objects_[own].more().contained.push_back(other);
    }
    TaskRow& row = graph->row(actor.creation.task);
    if (own != 0) set_value(own, make_bytes({}));
    if (row.state < TaskState::kDone) end_task(*graph, actor.creation.task, TaskState::kDone);
    for (auto& [session, calls] : actor.calls) {
      for (const TaskRef& ref : calls) {
        Graph* of_call = graphs_.find(ref);
        if (of_call != nullptr && of_call->has_row(ref.task)) call_arrived(*of_call, ref.task);
      }
    }
    actor.calls.clear();
    actor.calls_waiting = 0;
    calls_to_send_.push_back(event.name_holder);
    return;
  }
  std::string message = event.failure.message;
  if (event.failure.code == FailureCode::kActorNameTaken) {
    message = "the name " + actor.name + " is taken by actor " + event.name_holder.hex() +
              "; choose another, or get_if_exists=True";
  }
  fail_task(*graph, actor.creation.task, make_failure(event.failure.code, message, actor.class_name));
}

bool Node::State::creation_may_run(Graph& graph, uint32_t task) {
  auto actor = actors_.find(ObjectId{graph.id, task, 0});
  return actor != actors_.end() && actor->second->state != Actor::State::kNaming;
}

void Node::State::creation_sent(Graph& graph, uint32_t task, Worker& worker) {
  Actor& actor = *actors_.at(ObjectId{graph.id, task, 0});
  actor.state = Actor::State::kStarting;
  actor.since = now_;
  actor.worker = &worker;
  worker.actor = &actor;
}

void Node::State::creation_done(Graph& graph, uint32_t task) {
  auto found = actors_.find(ObjectId{graph.id, task, 0});
  if (found == actors_.end() || !found->second->stands_for.is_nil()) return;
  Actor& actor = *found->second;
  actor.state = Actor::State::kAlive;
  actor.since = now_;
  // Without a wish of its own an actor takes a CPU to be placed and none while it lives.
  if (!actor.keeps_resources && actor.worker != nullptr) give_resources(*actor.worker);
  calls_to_send_.push_back(actor.id);
}

// The creation failed: by its constructor, its inputs, its name, or because it was cancelled.
void Node::State::creation_over(Graph& graph, uint32_t task, const FailurePtr& failure) {
  auto found = actors_.find(ObjectId{graph.id, task, 0});
  if (found == actors_.end() || found->second->state == Actor::State::kDead) return;
  Actor& actor = *found->second;
  auto death = std::make_shared<Failure>(*failure);
  if (death->code == FailureCode::kTaskRaised || death->code == FailureCode::kTaskUnpicklable) {
    death->code = FailureCode::kActorDied;
    death->message = "actor " + actor.class_name + " died in its constructor: " + failure->message;
  }
  kill_actor(actor, death, actor.state == Actor::State::kStarting && death->code != FailureCode::kActorDied);
}

// ---------------------------------------------------------------- calls

void Node::State::call_arrived(Graph& graph, uint32_t task) {
  const TaskRow& row = graph.row(task);
  Actor* actor = actor_of(graph, row);
  if (actor == nullptr) {
    fail_task(graph, task,
              make_failure(FailureCode::kActorDied,
                           "the actor " + graph.option_of(row).options.actor.hex() + " is not known to this node",
                           name_of(graph, row)));
    return;
  }
  if (actor->state == Actor::State::kDead) {
    fail_task(graph, task, actor->death);
    return;
  }
  actor->calls[graph.session.number].push_back({graph.slot, task, graph.sequence});
  ++actor->calls_waiting;
}

// Back to its place in the order.
void Node::State::queue_call_again(Graph& graph, uint32_t task) {
  Actor* actor = actor_of(graph, graph.row(task));
  if (actor == nullptr || actor->state == Actor::State::kDead) {
    fail_task(graph, task,
              actor != nullptr ? actor->death : make_failure(FailureCode::kActorDied, "the actor is gone"));
    return;
  }
  auto& calls = actor->calls[graph.session.number];
  auto at = calls.begin();
  while (at != calls.end() && (at->sequence != graph.sequence ? at->sequence < graph.sequence : at->task < task))
    ++at;
  calls.insert(at, {graph.slot, task, graph.sequence});
  ++actor->calls_waiting;
  calls_to_send_.push_back(actor->id);
}

void Node::State::dispatch_calls() {
  std::vector<ObjectId> due;
  due.swap(calls_to_send_);
  std::sort(due.begin(), due.end());
  due.erase(std::unique(due.begin(), due.end()), due.end());
  for (const ObjectId& id : due) {
    auto found = actors_.find(id);
    if (found == actors_.end()) continue;
    Actor* actor = found->second.get();
    if (!actor->stands_for.is_nil()) {
      found = actors_.find(actor->stands_for);
      if (found == actors_.end()) continue;
      actor = found->second.get();
    }
    send_calls(*actor);
  }
}

void Node::State::fail_calls(Actor& actor) {
  for (auto& [session, calls] : actor.calls) {
    for (const TaskRef& ref : calls) {
      Graph* graph = graphs_.find(ref);
      if (graph != nullptr && graph->has_row(ref.task)) fail_task(*graph, ref.task, actor.death);
    }
  }
  actor.calls.clear();
  actor.calls_waiting = 0;
}

// ---------------------------------------------------------------- the end

void Node::State::kill_actor(Actor& actor, const FailurePtr& failure, bool hard) {
  if (actor.state == Actor::State::kDead) return;
  actor.state = Actor::State::kDead;
  actor.since = now_;
  actor.death = failure;
  if (actor.named) emit(Persist{next_ticket(), ForgetName{actor.name, actor.name_space, actor.id}});
  auto name = names_.find({actor.name_space, actor.name});
  if (name != names_.end() && name->second == actor.id) names_.erase(name);
  fail_calls(actor);
  if (Graph* graph = graphs_.find(actor.creation); graph != nullptr && graph->has_row(actor.creation.task)) {
    if (graph->row(actor.creation.task).state < TaskState::kDone) fail_task(*graph, actor.creation.task, failure);
  }
  if (actor.worker != nullptr) stop_worker(*actor.worker, !hard);
  if (actor.detached) {
    actor.detached = false;
    if (uint32_t object = find_object(actor.id); object != 0 && objects_[object].uses > 0) unuse(object);
  }
  if (actor.worker == nullptr) let_go_of_actor(actor);
}

void Node::State::actor_worker_gone(Actor& actor, const FailurePtr& failure) {
  if (actor.state != Actor::State::kDead) kill_actor(actor, failure, true);
  let_go_of_actor(actor);
}

// A dead actor is remembered for as long as somebody may call it.
void Node::State::let_go_of_actor(Actor& actor) {
  if (actor.state != Actor::State::kDead || actor.worker != nullptr || !actor.unheld) return;
  actors_to_forget_.push_back(actor.id);
}

void Node::State::actor_unheld(const ObjectId& id) {
  auto found = actors_.find(id);
  if (found == actors_.end()) return;
  Actor& actor = *found->second;
  actor.unheld = true;
  if (!actor.stands_for.is_nil()) {
    actors_to_forget_.push_back(id);
    return;
  }
  if (actor.state == Actor::State::kDead) return let_go_of_actor(actor);
  end_idle_actor(actor);
}

void Node::State::end_idle_actor(Actor& actor) {
  if (!actor.unheld || actor.detached || actor.state != Actor::State::kAlive) return;
  if (actor.calls_waiting > 0 || actor.calls_in_flight > 0) return;
  kill_actor(actor,
             make_failure(FailureCode::kActorDied, "the last handle of the actor is gone", actor.class_name),
             false);
}

void Node::State::on(KillActorAsked& event) {
  Session* session = sessions_.find(event.session);
  if (session == nullptr || session->closed) return;
  auto found = actors_.find(event.actor);
  if (found != actors_.end() && !found->second->stands_for.is_nil())
    found = actors_.find(found->second->stands_for);
  if (found == actors_.end()) {
    emit(Refuse{
        session->id,
        "kill_actor",
        event.actor.graph,
        {},
        *make_failure(FailureCode::kActorNotFound, "actor " + event.actor.hex() + " is not known to this node")});
    return;
  }
  Actor& actor = *found->second;
  kill_actor(actor, make_failure(FailureCode::kActorDied, "it was killed by ray.kill", actor.class_name), true);
}

// ---------------------------------------------------------------- names

void Node::State::on(FindActorAsked& event) {
  Session* session = sessions_.find(event.session);
  if (session == nullptr || session->closed) return;
  auto found = names_.find({event.name_space, event.name});
  if (found != names_.end() && actors_.contains(found->second) && actors_.at(found->second)->named) {
    const Actor& actor = *actors_.at(found->second);
    emit(AnswerFindActor{session->id, event.request, actor.id, actor.handle, {}});
    return;
  }
  Ticket ticket = next_ticket();
  pending_finds_[ticket] = {session->id, event.request, event.name};
  emit(FindName{ticket, event.name, event.name_space});
}

void Node::State::on(NameFound& event) {
  auto found = pending_finds_.find(event.ticket);
  if (found == pending_finds_.end()) return;
  PendingFind find = found->second;
  pending_finds_.erase(found);
  Session* session = sessions_.find(find.session);
  if (session == nullptr || session->closed) return;
  Failure failure;
  if (!event.found || !actors_.contains(event.actor)) {
    failure.code = FailureCode::kActorNotFound;
    failure.message = "no living actor is called " + find.name + " in this namespace";
  }
  emit(AnswerFindActor{session->id, find.request, event.actor, event.handle, std::move(failure)});
}

}  // namespace raylet
