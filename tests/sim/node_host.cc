#include "tests/sim/node_host.h"

#include "protocol/words/overloaded.h"
#include "tests/sim/driver.h"
#include "tests/sim/head_host.h"
#include "tests/sim/store_host.h"
#include "tests/sim/worker.h"

namespace raylet::sim {
namespace {

// In the order of the variants.
constexpr const char* kEventNames[] = {
    "<- DriverArrived", "<- WorkerArrived", "<- SessionClosed", "<- ChunkArrived", "<- GetAsked",
    "<- GetCancelled", "<- ReferencesChanged", "<- PutArrived", "<- SlabAsked", "<- SlabReturned",
    "<- CancelAsked", "<- KillActorAsked", "<- FindActorAsked", "<- ResultsArrived", "<- WorkerBlocked",
    "<- BatchesRetracted", "<- WorkerExited", "<- WorkerStartFailed", "<- SlabLeased", "<- SlabRefused",
    "<- ObjectsEvicted", "<- StoreUsageChanged", "<- StoreDied", "<- StoreReturned", "<- Persisted",
    "<- NameFound", "<- Tick",
};
static_assert(std::size(kEventNames) == std::variant_size_v<Event>);
constexpr const char* kEffectNames[] = {
    "-> SendBatch", "-> RetractBatches", "-> InterruptTask", "-> StartWorker", "-> StopWorker", "-> AnswerGet",
    "-> GrantSlab", "-> Refuse", "-> GiveCredit", "-> ReportProgress", "-> ReportGraphEnd", "-> TellDriver",
    "-> AnswerFindActor", "-> Acknowledge", "-> CloseSession", "-> StoreLeaseSlab", "-> StoreSeal",
    "-> StorePin", "-> StoreUnpin", "-> StoreFree", "-> StoreReturnSlab", "-> StoreEndSession", "-> Persist",
    "-> FindName", "-> WakeAt",
};
static_assert(std::size(kEffectNames) == std::variant_size_v<Effect>);

// The numbers that tell most of an event or an effect.
struct Gist {
  uint64_t a = 0;
  uint64_t b = 0;
};
template <typename Message>
Gist gist_of(const Message& message) {
  Gist gist;
  if constexpr (requires { message.session.number; }) gist.a = message.session.number;
  if constexpr (requires { message.worker.number; }) gist.a = message.worker.number;
  if constexpr (requires { message.ticket.number; }) gist.a = message.ticket.number;
  if constexpr (requires { message.batch + 1; }) gist.b = message.batch;
  if constexpr (requires { message.id.task; }) gist.b = message.id.task;
  if constexpr (requires { message.request.number; }) gist.b = message.request.number;
  if constexpr (requires { message.slab.number; }) gist.b = message.slab.number;
  return gist;
}

}  // namespace

void NodeHost::start() {
  ++life_;
  world_.note({Who::kNode}, "starts", life_);
  NodeOptions options;
  MUST(options.resources.set("CPU", world_.scenario.cpus).ok());
  options.seed = world_.rng.next();
  if (world_.scenario.resumes) options.driver_grace = std::chrono::seconds(10);
  node_ = std::make_unique<Node>(std::move(options));
  inbox_.clear();
  step_due_ = false;
  world_.store->start_fresh();
  world_.head->node_started(life_);
  post(Tick{});
}

void NodeHost::kill() {
  world_.note({Who::kNode}, "is killed", life_);
  node_.reset();
  inbox_.clear();
  ++wake_;
  world_.store->end();
  world_.head->node_died();
  for (auto& worker : world_.workers) {
    worker->die_with_node();
  }
  auto sessions = std::move(sessions_);
  sessions_.clear();
  for (auto& [id, session] : sessions) {
    session.endpoint->disconnected();
  }
  ledger_.clear();
  pins_out_.clear();
  pinned_by_batch_.clear();
  world_.memory.clear();
}

SessionId NodeHost::open(Endpoint* endpoint) {
  SessionId id{++last_session_};
  sessions_[id].endpoint = endpoint;
  return id;
}

void NodeHost::say(SessionId id, Event event) {
  auto session = sessions_.find(id);
  if (session == sessions_.end() || session->second.closing) {
    return;
  }
  Instant& heard_at = session->second.heard_at;
  heard_at = std::max(heard_at, world_.now() + world_.micros(5, 400));
  world_.queue.at(heard_at, [this, life = life_, id, shared = std::make_shared<Event>(std::move(event))] {
    if (life == life_ && is_up() && sessions_.count(id) != 0) {
      post(std::move(*shared));
    }
  });
}

void NodeHost::close(SessionId id, bool goodbye, std::vector<Event> last_words) {
  auto session = sessions_.find(id);
  if (session == sessions_.end()) {
    return;
  }
  for (Event& event : last_words) {
    say(id, std::move(event));
  }
  session->second.closing = true;
  Instant& heard_at = session->second.heard_at;
  heard_at = std::max(heard_at, world_.now() + world_.micros(5, 2'000));
  world_.queue.at(heard_at, [this, life = life_, id, goodbye] {
    if (life == life_ && is_up() && sessions_.erase(id) != 0) {
      post(SessionClosed{id, goodbye});
    }
  });
}

void NodeHost::post(Event event) {
  inbox_.push_back(std::move(event));
  schedule_step();
}

void NodeHost::schedule_step() {
  if (step_due_ || !is_up()) {
    return;
  }
  step_due_ = true;
  world_.queue.after(world_.micros(0, 100), [this, life = life_] {
    if (life == life_ && is_up()) {
      step();
    }
  });
}

void NodeHost::step() {
  step_due_ = false;
  // Batches of any size, down to one event, are the same to a core.
  size_t count = world_.rng.chance(0.3) ? 1 + world_.rng.below(inbox_.size() + 1) : inbox_.size();
  count = std::min(count, inbox_.size());
  // With a store that came back empty, everybody's bytes are gone at once.
  auto came_back_empty = [](const Event& event) {
    const auto* returned = std::get_if<StoreReturned>(&event);
    return returned != nullptr && !returned->kept;
  };
  for (size_t i = 0; i < count; ++i) {
    if (came_back_empty(inbox_[i])) {
      count = std::max<size_t>(i, 1);
      if (i == 0) ledger_.clear();
    }
  }
  std::vector<Event> events(std::make_move_iterator(inbox_.begin()),
                            std::make_move_iterator(inbox_.begin() + static_cast<ptrdiff_t>(count)));
  inbox_.erase(inbox_.begin(), inbox_.begin() + static_cast<ptrdiff_t>(count));
  for (const Event& event : events) {
    Gist gist = std::visit([](const auto& e) { return gist_of(e); }, event);
    world_.note({Who::kNode}, kEventNames[event.index()], gist.a, gist.b);
    count_pins(event);
  }
  effects_.clear();
  node_->step(world_.now(), events, effects_);
  std::vector<Effect> effects = std::move(effects_);
  for (Effect& effect : effects) {
    account(effect);
    perform(effect);
  }
  check();
  if (!inbox_.empty()) {
    schedule_step();
  }
}

SessionId NodeHost::session_of(WorkerId id) const {
  for (const auto& worker : world_.workers) {
    if (worker->id() == id && worker->life() == life_) return worker->session();
  }
  return {};
}

void NodeHost::take_pins(SessionId session, const ObjectId& id, uint32_t count) {
  auto object = pins_out_.find(id);
  if (object == pins_out_.end()) return;
  auto pins = object->second.find(session);
  if (pins == object->second.end()) return;
  pins->second -= std::min(count, pins->second);
  if (pins->second == 0) object->second.erase(pins);
  if (object->second.empty()) pins_out_.erase(object);
}

void NodeHost::take_all_pins(SessionId session) {
  for (auto object = pins_out_.begin(); object != pins_out_.end();) {
    object->second.erase(session);
    object = object->second.empty() ? pins_out_.erase(object) : std::next(object);
  }
}

// What an event gives back, before the core is told: so nothing is counted that it may have let go.
void NodeHost::count_pins(const Event& event) {
  std::visit(Overloaded{
                 [&](const ReferencesChanged& e) {
                   for (const auto& unpin : e.unpinned) take_pins(e.session, unpin.id, unpin.count);
                 },
                 [&](const SessionClosed& e) { take_all_pins(e.session); },
                 [&](const WorkerExited& e) { take_all_pins(session_of(e.worker)); },
                 [&](const BatchesRetracted& e) {
                   for (uint64_t batch : e.batches) {
                     for (const ObjectId& id : pinned_by_batch_[{e.worker, batch}])
                       take_pins(session_of(e.worker), id, 1);
                   }
                 },
                 [&](const StoreReturned& e) {
                   if (!e.kept) pins_out_.clear();
                 },
                 [](const auto&) {},
             },
             event);
}

// N1 to N3: what the raylet hands out and takes back of the store's bytes.
void NodeHost::account(const Effect& effect) {
  auto must_be_right = [&](const char* number, const std::optional<std::string>& trouble) {
    world_.require(!trouble, number, trouble.value_or(""), {Who::kNode});
  };
  std::visit(Overloaded{
                 [&](const GrantSlab& e) {
                   if (e.failure.code == FailureCode::kNone)
                     must_be_right("N1", ledger_.lease(e.slab, e.session, e.at));
                 },
                 [&](const StoreSeal& e) { must_be_right("N2", ledger_.seal(e)); },
                 [&](const StorePin& e) { ledger_.pin(e.id); },
                 [&](const StoreUnpin& e) { ledger_.unpin(e.id); },
                 [&](const StoreFree& e) {
                   must_be_right("N3", ledger_.free(e.id));
                   world_.require(pins_out_.count(e.id) == 0, "N3",
                                  "object " + e.id.hex() + " is freed while a process has it pinned",
                                  {Who::kNode});
                 },
                 [&](const AnswerGet& e) {
                   for (const ObjectAnswer& answer : e.answers) {
                     if (answer.kind == ObjectAnswer::Kind::kLocated) deliver_pin(e.session, answer.id);
                   }
                 },
                 [&](const SendBatch& e) {
                   std::vector<ObjectId>& pinned = pinned_by_batch_[{e.worker, e.batch}];
                   pinned.clear();
                   for (const auto& located : e.located_inputs) {
                     pinned.push_back(located.id);
                     deliver_pin(session_of(e.worker), located.id);
                   }
                 },
                 [&](const StoreReturnSlab& e) { ledger_.return_slab(e.slab); },
                 [&](const StoreEndSession& e) { ledger_.end_session(e.session); },
                 [](const auto&) {},
             },
             effect);
}

void NodeHost::perform(Effect& effect) {
  auto number_of = [](auto id) { return id.number; };
  Gist gist = std::visit([](const auto& e) { return gist_of(e); }, effect);
  world_.note({Who::kNode}, kEffectNames[effect.index()], gist.a, gist.b);
  std::visit(
      Overloaded{
          [&](SendBatch& e) {
            for (auto& worker : world_.workers) {
              if (worker->id() == e.worker && worker->life() == life_) {
                worker->take_batch(std::make_shared<SendBatch>(std::move(e)));
                return;
              }
            }
          },
          [&](RetractBatches& e) {
            for (auto& worker : world_.workers) {
              if (worker->id() == e.worker && worker->life() == life_ && worker->is_alive()) {
                post(BatchesRetracted{e.worker, worker->retract()});
                return;
              }
            }
          },
          [&](InterruptTask& e) {
            for (auto& worker : world_.workers) {
              if (worker->id() == e.worker && worker->life() == life_) deliver(worker->session(), e);
            }
          },
          [&](StartWorker& e) {
            world_.note({Who::kWorker, number_of(e.worker)}, "is asked for");
            world_.workers.push_back(std::make_unique<Worker>(world_, e.worker, life_));
            world_.workers.back()->begin();
          },
          [&](StopWorker& e) {
            for (auto& worker : world_.workers) {
              if (worker->id() == e.worker && worker->life() == life_) worker->stop(e.gently);
            }
          },
          [&](AnswerGet& e) { deliver(e.session, std::move(e)); },
          [&](GrantSlab& e) { deliver(e.session, std::move(e)); },
          [&](Refuse& e) { deliver(e.session, std::move(e)); },
          [&](GiveCredit& e) { deliver(e.session, e); },
          [&](ReportProgress& e) { deliver(e.session, std::move(e)); },
          [&](ReportGraphEnd& e) { deliver(e.session, std::move(e)); },
          [&](TellDriver& e) { deliver(e.session, std::move(e)); },
          [&](AnswerFindActor& e) { deliver(e.session, std::move(e)); },
          [&](Acknowledge& e) { deliver(e.session, e); },
          [&](CloseSession& e) {
            throw Violation("W1", "a correct client's session is closed: " + e.reason, {Who::kNode});
          },
          [&](StoreLeaseSlab& e) { world_.store->command(e); },
          [&](StoreSeal& e) { world_.store->command(e); },
          [&](StorePin& e) { world_.store->command(e); },
          [&](StoreUnpin& e) { world_.store->command(e); },
          [&](StoreFree& e) { world_.store->command(e); },
          [&](StoreReturnSlab& e) { world_.store->command(e); },
          [&](StoreEndSession& e) { world_.store->command(e); },
          [&](Persist& e) { world_.head->persist(std::move(e)); },
          [&](FindName& e) { world_.head->find_name(std::move(e)); },
          [&](WakeAt& e) {
            world_.queue.at(e.at, [this, life = life_, wake = ++wake_] {
              if (life == life_ && wake == wake_ && is_up()) post(Tick{});
            });
          },
      },
      effect);
}

void NodeHost::deliver(SessionId id, Effect effect) {
  auto session = sessions_.find(id);
  if (session == sessions_.end()) {
    return;
  }
  Instant& told_at = session->second.told_at;
  told_at = std::max(told_at, world_.now() + world_.micros(5, 400));
  world_.queue.at(told_at, [this, life = life_, id, shared = std::make_shared<Effect>(std::move(effect))] {
    if (life != life_) return;
    auto open = sessions_.find(id);
    if (open != sessions_.end() && !open->second.closing) open->second.endpoint->receive(*shared);
  });
}

void NodeHost::check() {
  node_->validate();
  NodeReport report = node_->report(world_.now());
  world_.require(report.total.fits(report.available), "N4", "more is free than there is: " +
                 report.available.to_string() + " of " + report.total.to_string(), {Who::kNode});
}

}  // namespace raylet::sim
