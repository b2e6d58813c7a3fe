#include "tests/sim/driver.h"

#include <algorithm>

#include "protocol/words/overloaded.h"

namespace raylet::sim {

void Driver::later(Duration wait, std::function<void()> what) {
  world_.queue.after(wait, [this, token = token_, what = std::move(what)] {
    if (state_ != State::kGone && token == token_) what();
  });
}

void Driver::begin() {
  if (!world_.node->is_up()) {
    world_.queue.after(std::chrono::milliseconds(200), [this] {
      if (state_ == State::kNew) begin();
    });
    return;
  }
  connect();
  think();
}

void Driver::connect() {
  state_ = State::kBusy;
  session_ = world_.node->open(this);
  job_ = {world_.rng.next() | 1, number_};
  put_graph_ = world_.next_graph_id();
  open_graph_ = world_.next_graph_id();
  world_.oracle.add({open_graph_, false, {}, false});
  functions_.clear();
  next_put_ = 0;
  remote_ = world_.scenario.remotes && world_.rng.chance(0.5);
  arrive();
}

void Driver::arrive() {
  world_.note(me(), "connects", session_.number);
  DriverArrived arrived;
  arrived.session = session_;
  arrived.job = job_;
  arrived.setup = {make_bytes("setup"), "script.py"};
  arrived.pid = 100 + number_;
  arrived.local = !remote_;
  say(std::move(arrived));
}

// The raylet keeps what a driver holds for a while, and the driver comes back well within that.
void Driver::lose_connection() {
  world_.note(me(), "loses its connection");
  ++token_;
  state_ = State::kAway;
  credit_owed_bytes_ = 0;
  name_requests_.clear();
  running_.clear();  // their ends may have been told to nobody
  world_.node->close(session_, false);
  world_.queue.after(world_.micros(300'000, 1'500'000), [this, life = world_.node->life()] { come_back(life); });
}

void Driver::come_back(uint64_t life) {
  if (state_ != State::kAway) return;
  if (!world_.node->is_up() || world_.node->life() != life) return disconnected();
  state_ = State::kBusy;
  session_ = world_.node->open(this);
  arrive();
  for (const auto& [request, get] : gets_) {
    say(GetAsked{session_, request, {get.ids.begin(), get.ids.end()}, get.values, get.wanted});
  }
  for (const auto& [request, size] : slab_requests_) say(SlabAsked{session_, request, size});
  think();
}

// The raylet is gone: what this process had there is lost. A patient user starts over.
void Driver::disconnected() {
  if (state_ == State::kGone) return;
  world_.note(me(), "is disconnected");
  ++token_;
  held_.clear();
  gets_.clear();
  slab_requests_.clear();
  name_requests_.clear();
  actors_.clear();
  calls_.clear();
  running_.clear();
  credit_owed_bytes_ = 0;
  state_ = State::kNew;
  actions_left_ = std::max(actions_left_, 3u);
  world_.queue.after(std::chrono::milliseconds(300), [this] {
    if (state_ == State::kNew) begin();
  });
}

void Driver::kill() {
  if (state_ != State::kBusy && state_ != State::kCollecting) return;
  world_.note(me(), "is killed");
  leave(false);
}

void Driver::leave(bool goodbye) {
  world_.note(me(), "leaves", goodbye);
  state_ = State::kGone;
  ++token_;
  world_.node->close(session_, goodbye);
}

void Driver::think() {
  later(world_.micros(100, 150'000), [this] {
    if (state_ != State::kBusy) return;
    if (actions_left_ == 0) {
      state_ = State::kCollecting;
      return collect();
    }
    --actions_left_;
    act();
    if (state_ == State::kBusy) think();
  });
}

void Driver::act() {
  const Scenario& scenario = world_.scenario;
  if (scenario.resumes && world_.rng.chance(0.04)) return lose_connection();
  switch (world_.rng.below(14)) {
    case 0: case 1: case 2: case 3:
      return submit_graph();
    case 4: case 5:
      return call_remote();
    case 6:
      return put();
    case 7: case 8:
      return ask(some_held(5), world_.rng.chance(0.8));
    case 9:
      return release_some();
    case 10:
      return scenario.cancels ? cancel_something() : submit_graph();
    case 11:
      return scenario.actors ? make_actor() : call_remote();
    case 12:
      return scenario.actors ? call_actor() : call_remote();
    case 13:
      return scenario.actors && world_.rng.chance(0.3) ? find_actor() : ask(some_held(2), true);
  }
}

// ---------------------------------------------------------------- graphs

TaskPlan Driver::plan_task(bool in_open_graph) {
  Rng& rng = world_.rng;
  const Scenario& scenario = world_.scenario;
  TaskPlan task;
  task.salt = rng.next();
  task.duration = rng.chance(0.6) ? world_.micros(5, 800) : world_.micros(1'000, 60'000);
  if (rng.chance(0.02)) task.duration = world_.micros(500'000, 3'000'000);
  if (rng.chance(0.05)) task.return_bytes.assign(rng.below(4), 64);
  if (scenario.large_values) {
    for (uint64_t& bytes : task.return_bytes) {
      // In a small store the inputs of any one task must fit all the same.
      const bool may_be_huge = scenario.store_bytes > (uint64_t{100} << 20) && rng.chance(0.2);
      if (rng.chance(0.4)) bytes = 70'000 + rng.below(may_be_huge ? 6'000'000 : 200'000);
    }
  }
  if (rng.chance(0.05)) task.cpus = rng.chance(0.5) || scenario.actors ? 0.5 : scenario.cpus;
  using Kind = TaskPlan::Kind;
  if (scenario.raises && rng.chance(0.01)) task.kind = Kind::kRaises;
  if (scenario.raises && rng.chance(0.02)) task.kind = Kind::kRaisesOnce;
  if (scenario.poison && rng.chance(in_open_graph ? 0.03 : 0.004)) {
    task.kind = Kind::kPoison;
    task.retries_max = static_cast<int32_t>(rng.below(3));
    task.duration = world_.micros(2'000, 20'000);
  }
  const double nests = scenario.crowd ? 0.4 : 0.05;
  if (scenario.nested && task.kind == Kind::kPlain && rng.chance(nests) && !task.return_bytes.empty()) {
    task.kind = rng.chance(0.7) ? Kind::kNests : Kind::kNestsLater;
    task.duration = world_.micros(1'000, 20'000);
  }
  return task;
}

GraphPlan Driver::plan_graph() {
  Rng& rng = world_.rng;
  GraphPlan plan;
  plan.id = world_.next_graph_id();
  plan.fail_fast = rng.chance(0.85);
  const uint64_t shape = rng.below(7);
  const uint64_t count = 1 + rng.below(rng.chance(0.15) ? 250 : 40);
  auto result_of = [&](uint64_t t) -> std::optional<ObjectId> {
    const auto& returns = plan.tasks[t].return_bytes;
    if (returns.empty()) return std::nullopt;
    return ObjectId{plan.id, t, static_cast<uint32_t>(rng.below(returns.size()))};
  };
  std::vector<ObjectId> others = some_held(3);
  for (uint64_t t = 0; t < count; ++t) {
    TaskPlan task = plan_task(false);
    auto reads = [&](uint64_t earlier) {
      if (auto object = result_of(earlier)) task.inputs.push_back(*object);
    };
    switch (shape) {
      case 0:  // a chain
        if (t > 0) reads(t - 1);
        break;
      case 1:  // a tree, its leaves first
        if (2 * t >= count) {
          for (uint64_t k = 2 * (t - (count + 1) / 2); k < 2 * (t - (count + 1) / 2) + 2 && k < t; ++k) reads(k);
        }
        break;
      case 2:  // wide into one
        if (t + 1 == count) {
          for (uint64_t k = 0; k < t; ++k) reads(k);
        }
        break;
      case 3:  // diamonds
        if (t % 4 == 3) {
          reads(t - 2);
          reads(t - 1);
        } else if (t > 0) {
          reads(t - 1 - (t % 4 == 2 ? 1 : 0));
        }
        break;
      case 4:  // independent
        break;
      case 5:  // layers, all to all
        if (t >= 5) {
          for (uint64_t k = t - t % 5 - 5; k < t - t % 5; ++k) reads(k);
        }
        break;
      default:
        for (uint64_t k = rng.below(4); k > 0 && t > 0; --k) reads(rng.below(t));
    }
    if (!others.empty() && rng.chance(0.1)) task.inputs.push_back(others[rng.below(others.size())]);
    if (task.inputs.empty() && rng.chance(0.3)) task.producer = true;
    borrow_for(task, others);
    plan.tasks.push_back(std::move(task));
  }
  return plan;
}

void Driver::borrow_for(TaskPlan& task, const std::vector<ObjectId>& from) {
  const bool calls = task.kind == TaskPlan::Kind::kCalls;
  if (!world_.scenario.borrows || (!calls && task.kind != TaskPlan::Kind::kPlain)) return;
  if (!world_.rng.chance(calls ? 0.4 : 0.1)) return;
  for (const ObjectId& id : from) {
    if (!is_actor(id)) task.borrows.push_back(id);
  }
}

void Driver::submit_graph() {
  Rng& rng = world_.rng;
  GraphPlan& plan = world_.oracle.add(plan_graph());
  // A graph that may run before it is whole keeps only what is held or read already.
  const bool hold_all = !plan.fail_fast || rng.chance(0.2);
  std::vector<uint64_t> wanted{plan.tasks.size() - 1};
  for (uint64_t count = rng.below(3); count > 0; --count) wanted.push_back(rng.below(plan.tasks.size()));
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  for (uint64_t t = 0; t < plan.tasks.size(); ++t) {
    if (!hold_all && !std::binary_search(wanted.begin(), wanted.end(), t)) continue;
    for (uint32_t r = 0; r < plan.tasks[t].return_bytes.size(); ++r) held_.insert({plan.id, t, r});
  }
  running_.insert(plan.id);
  send_chunks(plan, hold_all, std::move(wanted));
  if (rng.chance(0.4)) ask(some_held(4), true);
}

void Driver::send_chunks(const GraphPlan& plan, bool hold_all, std::vector<uint64_t> wanted) {
  Rng& rng = world_.rng;
  world_.note(me(), "submits", plan.id.low, plan.tasks.size());
  for (uint64_t first = 0; first < plan.tasks.size();) {
    uint64_t left = plan.tasks.size() - first;
    uint32_t count = static_cast<uint32_t>(rng.chance(0.7) ? left : 1 + rng.below(left));
    std::vector<uint64_t> its;
    for (uint64_t task : wanted) {
      if (task >= first && task < first + count) its.push_back(task);
    }
    GraphChunk chunk =
        make_chunk(plan, first, count, first + count == plan.tasks.size(), hold_all, its, functions_);
    credit_owed_bytes_ += chunk.wire_bytes;
    const bool again = count == plan.tasks.size() && rng.chance(0.02);
    if (again) {
      credit_owed_bytes_ += chunk.wire_bytes;
      say(ChunkArrived{session_, chunk});
    }
    say(ChunkArrived{session_, std::move(chunk)});
    first += count;
  }
}

void Driver::append(TaskPlan task) {
  GraphPlan& plan = *world_.oracle.find(open_graph_);
  const uint64_t index = plan.tasks.size();
  for (uint32_t r = 0; r < task.return_bytes.size(); ++r) held_.insert({open_graph_, index, r});
  plan.tasks.push_back(std::move(task));
  GraphChunk chunk = make_chunk(plan, index, 1, false, true, {}, functions_);
  credit_owed_bytes_ += chunk.wire_bytes;
  world_.note(me(), "calls", open_graph_.low, index);
  say(ChunkArrived{session_, std::move(chunk)});
}

void Driver::call_remote() {
  for (uint64_t count = 1 + world_.rng.below(5); count > 0; --count) {
    TaskPlan task = plan_task(true);
    for (const ObjectId& id : some_held(world_.rng.below(3))) {
      if (!is_actor(id)) task.inputs.push_back(id);
    }
    borrow_for(task, some_held(2));
    append(std::move(task));
  }
}

void Driver::make_actor() {
  if (actors_.size() >= 4) return call_actor();
  TaskPlan task;
  task.kind = TaskPlan::Kind::kCreates;
  task.salt = world_.rng.next();
  // An actor keeps what it asks for as long as it lives: one at most, so that the rest can always run.
  task.cpus = number_ == 1 && actors_.empty() && calls_.empty() && world_.scenario.cpus >= 2 ? 0.5 : 0;
  task.retries_max = 0;
  task.duration = world_.micros(100, 20'000);
  if (world_.rng.chance(0.5)) {
    task.actor_name = "name" + std::to_string(world_.rng.below(2));
    task.get_if_exists = world_.rng.chance(0.5);
  }
  const bool named = !task.actor_name.empty();
  actors_.push_back({open_graph_, world_.oracle.find(open_graph_)->tasks.size(), 0});
  append(std::move(task));
  // While its name is still being written down: the next one of that name comes to the head before it is free.
  if (named && world_.rng.chance(0.15)) kill_actor(actors_.back());
}

void Driver::kill_actor(const ObjectId& actor) {
  ++world_.oracle.actor_kills;
  world_.note(me(), "kills actor", actor.task);
  say(KillActorAsked{session_, actor, true});
}

void Driver::call_actor() {
  if (actors_.empty()) return;
  ObjectId actor = actors_[world_.rng.below(actors_.size())];
  if (world_.rng.chance(0.08)) return kill_actor(actor);
  for (uint64_t count = 1 + world_.rng.below(4); count > 0; --count) {
    TaskPlan task;
    task.kind = TaskPlan::Kind::kCalls;
    task.salt = world_.rng.next();
    task.duration = world_.micros(5, 5'000);
    task.actor = actor;
    task.retries_max = 0;
    task.call_number = ++calls_[actor];
    borrow_for(task, some_held(2));
    append(std::move(task));
  }
}

void Driver::find_actor() {
  RequestId request{next_request_++};
  name_requests_.insert(request);
  say(FindActorAsked{session_, request, "name" + std::to_string(world_.rng.below(2)), ""});
}

void Driver::cancel_something() {
  ++world_.oracle.cancels;
  CancelAsked cancel;
  cancel.session = session_;
  cancel.force = world_.rng.chance(0.3);
  if (!running_.empty() && world_.rng.chance(0.6)) {
    auto graph = running_.begin();
    std::advance(graph, static_cast<int64_t>(world_.rng.below(running_.size())));
    cancel.graph = *graph;
  } else {
    auto ids = some_held(1);
    if (ids.empty() || ids[0].graph == put_graph_) return;
    cancel.object = ids[0];
  }
  world_.note(me(), "cancels", cancel.graph.low, cancel.object.task, cancel.force);
  say(std::move(cancel));
}

// ---------------------------------------------------------------- objects

void Driver::put() {
  uint64_t size =
      world_.scenario.large_values && world_.rng.chance(0.5) ? 70'000 + world_.rng.below(4'000'000) : 100;
  if (size > (64 << 10)) {
    RequestId request{next_request_++};
    slab_requests_[request] = size;
    say(SlabAsked{session_, request, size});
  } else {
    finish_put(nullptr, size);
  }
}

void Driver::finish_put(const Slab* slab, uint64_t size_bytes) {
  ObjectId id{put_graph_, next_put_++, 0};
  Content content;
  content.hash = world_.rng.next();
  if (world_.rng.chance(0.4)) content.contained = some_held(2);
  world_.oracle.add_put(id, content.hash);
  held_.insert(id);
  PutArrived put{session_, id, {}, content.contained};
  if (slab != nullptr) {
    world_.memory.write({slab->at.segment, slab->at.offset, size_bytes}, content);
    put.payload = SealedBytes{slab->id, 0, size_bytes};
  } else {
    put.payload = make_bytes(encode(content, size_bytes));
  }
  world_.note(me(), "puts", id.task, size_bytes);
  say(std::move(put));
  if (slab != nullptr) say(SlabReturned{session_, slab->id});
}

bool Driver::is_actor(const ObjectId& id) const {
  return std::find(actors_.begin(), actors_.end(), id) != actors_.end();
}

bool Driver::is_asked_for(const ObjectId& id) const {
  return std::any_of(gets_.begin(), gets_.end(), [&](const auto& get) { return get.second.ids.count(id) != 0; });
}

std::vector<ObjectId> Driver::some_held(size_t most) {
  std::vector<ObjectId> ids;
  for (size_t i = 0; i < most && !held_.empty(); ++i) {
    // Held objects are in order of their random graph ids; begin anywhere.
    auto at = held_.lower_bound({{world_.rng.next(), 0}, 0, 0});
    if (at == held_.end()) at = held_.begin();
    if (std::find(ids.begin(), ids.end(), *at) == ids.end()) ids.push_back(*at);
  }
  return ids;
}

void Driver::ask(std::vector<ObjectId> ids, bool values) {
  if (ids.empty()) return;
  RequestId request{next_request_++};
  Get& get = gets_[request];
  get.ids.insert(ids.begin(), ids.end());
  get.values = values;
  get.wanted = values || world_.rng.chance(0.5) ? 0 : 1;
  world_.note(me(), "asks", request.number, ids.size(), values);
  say(GetAsked{session_, request, std::move(ids), values, get.wanted});
  if (world_.rng.chance(0.05) && state_ == State::kBusy) {
    later(world_.micros(10, 20'000), [this, request] {
      if (gets_.erase(request) != 0) say(GetCancelled{session_, request});
    });
  }
}

void Driver::release(const ObjectId& id) {
  held_.erase(id);
  say(ReferencesChanged{session_, {}, {id}, {}});
}

void Driver::release_some() {
  for (const ObjectId& id : some_held(world_.rng.chance(0.2) ? 20 : 4)) {
    if (!is_asked_for(id) && !is_actor(id)) release(id);
  }
}

void Driver::receive(const Effect& effect) {
  if (state_ == State::kGone) return;
  std::visit(
      Overloaded{
          [&](const AnswerGet& e) {
            auto get = gets_.find(e.request);
            for (const ObjectAnswer& answer : e.answers) {
              if (get == gets_.end()) {
                // Cancelled on its way; what it pinned must still be given back.
                if (answer.kind == ObjectAnswer::Kind::kLocated) {
                  say(ReferencesChanged{session_, {}, {}, {{answer.id, 1}}});
                }
                continue;
              }
              answered(answer, get->second);
            }
            if (get != gets_.end() &&
                (get->second.ids.empty() || (get->second.wanted > 0 && --get->second.wanted == 0))) {
              gets_.erase(get);
            }
          },
          [&](const GrantSlab& e) {
            auto request = slab_requests_.find(e.request);
            if (request == slab_requests_.end()) return;
            const uint64_t size = request->second;
            slab_requests_.erase(request);
            if (e.failure.code == FailureCode::kNone) {
              Slab slab{e.slab, e.at};
              finish_put(&slab, size);
            } else {
              world_.require(world_.oracle.store_tight || world_.oracle.store_losses > 0, "W9",
                             "no slab: " + e.failure.message, me());
            }
          },
          [&](const Refuse& e) {
            throw Violation("W2", "a correct driver is refused: " + e.about + ": " + e.failure.message, me());
          },
          [&](const GiveCredit& e) {
            world_.require(e.bytes <= credit_owed_bytes_, "W10", "more credit comes back than was spent", me());
            credit_owed_bytes_ -= e.bytes;
          },
          [&](const ReportGraphEnd& e) {
            world_.note(me(), "graph ends", e.graph.low, static_cast<uint64_t>(e.failure.code));
            running_.erase(e.graph);
          },
          [&](const AnswerFindActor& e) { name_requests_.erase(e.request); },
          [](const auto&) {},
      },
      effect);
}

void Driver::answered(const ObjectAnswer& answer, Get& get) {
  world_.require(get.ids.erase(answer.id) == 1, "W11", "an answer for what was not asked, or twice", me());
  world_.note(me(), "is answered", answer.id.graph.low, answer.id.task, static_cast<uint64_t>(answer.kind));
  if (answer.kind == ObjectAnswer::Kind::kFailed) {
    auto trouble = world_.oracle.unexplained(answer.id, answer.failure);
    world_.require(!trouble, "W8", trouble.value_or(""), me());
    return;
  }
  if (answer.kind == ObjectAnswer::Kind::kReady) return;
  std::optional<Content> content;
  if (answer.kind == ObjectAnswer::Kind::kInline) {
    content = decode(*answer.value);
  } else if (const Content* stored = world_.memory.read(answer.at)) {
    content = *stored;
  }
  if (!content && world_.oracle.may_be_empty(answer.id)) return;
  world_.require(content.has_value(), "W6", "object " + answer.id.hex() + " can't be read", me());
  world_.require(is_actor(answer.id) || content->hash == world_.oracle.expected(answer.id), "W6",
                 "object " + answer.id.hex() + " has another value than it must", me());
  if (!content->contained.empty() && held_.count(answer.id) != 0 && state_ == State::kBusy) {
    std::vector<ObjectId> fresh;
    for (const ObjectId& id : content->contained) {
      if (held_.insert(id).second) fresh.push_back(id);
    }
    if (!fresh.empty()) say(ReferencesChanged{session_, std::move(fresh), {}, {}});
  }
  if (answer.kind == ObjectAnswer::Kind::kLocated && remote_) {
    say(ReferencesChanged{session_, {}, {}, {{answer.id, 1}}});
  } else if (answer.kind == ObjectAnswer::Kind::kLocated) {
    later(world_.micros(1, 80'000), [this, id = answer.id, at = answer.at, hash = content->hash] {
      const Content* still = world_.memory.read(at);
      world_.require(still != nullptr && still->hash == hash, "W7", "pinned bytes of " + id.hex() + " changed",
                     me());
      say(ReferencesChanged{session_, {}, {}, {{id, 1}}});
    });
  }
}

// ---------------------------------------------------------------- the end

void Driver::collect() {
  if (state_ != State::kCollecting) return;
  if (!gets_.empty() || !slab_requests_.empty() || !name_requests_.empty()) {
    return later(std::chrono::milliseconds(50), [this] { collect(); });
  }
  if (!held_.empty()) {
    std::vector<ObjectId> all(held_.begin(), held_.end());
    ask(all, true);
    return later(std::chrono::milliseconds(50), [this, all] {
      // Asked for together, so released when all have come.
      auto wait = std::make_shared<std::function<void()>>();
      *wait = [this, all, wait] {
        if (!gets_.empty()) return later(std::chrono::milliseconds(50), *wait);
        for (const ObjectId& id : all) release(id);
        collect();
      };
      (*wait)();
    });
  }
  if (!running_.empty() || credit_owed_bytes_ > 0) {
    return later(std::chrono::milliseconds(50), [this] { collect(); });
  }
  later(world_.micros(100, 300'000), [this] { leave(world_.rng.chance(0.7)); });
}

}  // namespace raylet::sim
