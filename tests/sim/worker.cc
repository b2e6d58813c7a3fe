#include "tests/sim/worker.h"

#include "protocol/words/overloaded.h"

namespace raylet::sim {
namespace {

constexpr uint64_t kInlineBytesMax = 64 << 10;
constexpr uint64_t kSlabBytes = 1 << 20;

uint64_t in_granules(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

void Worker::later(Duration wait, std::function<void()> what) {
  world_.queue.after(wait, [this, token = token_, what = std::move(what)] {
    if (alive_since(token)) what();
  });
}

void Worker::begin() {
  const bool fails =
      world_.faults_last() && world_.scenario.worker_kill_every > Duration{} && world_.rng.chance(0.05);
  world_.queue.after(world_.micros(2'000, 30'000), [this, fails] {
    if (state_ == State::kDead || world_.node->life() != life_ || !world_.node->is_up()) return;
    if (fails) {
      state_ = State::kDead;
      world_.node->post(WorkerStartFailed{id_, "fork: no memory"});
      return;
    }
    state_ = State::kAlive;
    session_ = world_.node->open(this);
    world_.note(me(), "arrives", session_.number);
    world_.node->say(session_, WorkerArrived{session_, id_, 1000 + id_.number});
    read_next();
  });
}

void Worker::take_batch(std::shared_ptr<SendBatch> batch) {
  if (!is_alive()) return;
  world_.note(me(), "is sent", batch->batch, batch->tasks.size());
  unread_.push_back(std::move(batch));
  read_next();
}

std::vector<uint64_t> Worker::retract() {
  std::vector<uint64_t> numbers;
  for (const auto& batch : unread_) {
    numbers.push_back(batch->batch);
  }
  unread_.clear();
  world_.note(me(), "gives back unread", numbers.size());
  return numbers;
}

void Worker::stop(bool gently) {
  world_.note(me(), "is told to stop", gently);
  if (state_ == State::kStarting) {
    state_ = State::kDead;
    world_.queue.after(world_.micros(10, 5'000), [this] {
      if (world_.node->life() == life_ && world_.node->is_up()) {
        world_.node->post(WorkerStartFailed{id_, "it was stopped before it said hello"});
      }
    });
    return;
  }
  const bool at_once = !gently;
  world_.queue.after(at_once ? world_.micros(1, 100) : world_.micros(100, 900'000),
                     [this, at_once, idle = batch_ == nullptr] { exit(at_once || !idle ? 9 : 0); });
}

void Worker::kill(int signal) { exit(signal); }

void Worker::die_with_node() {
  if (world_.node->life() == life_) state_ = State::kDead;
}

void Worker::exit(int signal) {
  if (!is_alive()) return;
  world_.note(me(), "dies", static_cast<uint64_t>(signal));
  state_ = State::kDead;
  ++token_;
  if (signal != 0) ++world_.oracle.worker_deaths;
  if (batch_ != nullptr) {
    // What the raylet may take for the task that ran: the first that was not reported, up to the one that did.
    const uint32_t first = report_.empty() ? position_ : std::min(position_, report_.front().position);
    for (uint32_t p = first; p <= position_; ++p) {
      TaskPlan* plan = world_.oracle.find(task_id(p));
      if (plan != nullptr && ++plan->deaths > static_cast<uint32_t>(std::max(plan->retries_max, 0))) {
        ++world_.oracle.exhausted_tasks;
      }
    }
  }
  WorkerExited exited;
  exited.worker = id_;
  exited.signal = signal;
  world_.node->close(session_, false, {exited});
}

void Worker::receive(const Effect& effect) {
  if (!is_alive()) return;
  std::visit(Overloaded{
                 [&](const InterruptTask& e) {
                   world_.note(me(), "is interrupted", e.batch, e.position);
                   interrupted_.insert({e.batch, e.position});
                   if (batch_ != nullptr && batch_->batch == e.batch && position_ == e.position && !handed_back_) {
                     ++token_;
                     fail_task({FailureCode::kTaskCancelled, "interrupted"});
                   }
                 },
                 [&](const GrantSlab& e) {
                   if (e.request != slab_request_) return;
                   slab_request_ = {};
                   if (e.failure.code != FailureCode::kNone) return fail_task(e.failure);
                   slab_ = Slab{e.slab, e.at};
                   make_results();
                 },
                 [&](const AnswerGet& e) {
                   for (const ObjectAnswer& answer : e.answers) {
                     if (answer.kind == ObjectAnswer::Kind::kLocated) {
                       read_located(answer.id, answer.at);
                       unpin_later({answer.id}, world_.micros(1, 5'000));
                     }
                     if (e.request == get_request_ && answer.id == awaited_) nested_answered(answer);
                   }
                 },
                 [&](const Refuse& e) {
                   // A graph whose parent was cancelled meanwhile.
                   world_.require(world_.oracle.cancels > 0 || world_.oracle.worker_deaths > 0, "W2",
                                  "a correct worker is refused: " + e.about + ": " + e.failure.message, me());
                 },
                 [](const auto&) {},
             },
             effect);
}

void Worker::read_next() {
  if (batch_ != nullptr || unread_.empty() || !is_alive()) return;
  later(world_.micros(1, 300), [this] {
    if (batch_ != nullptr || unread_.empty()) return;
    batch_ = unread_.front();
    unread_.pop_front();
    world_.note(me(), "reads", batch_->batch);
    position_ = 0;
    first_input_ = 0;
    handed_back_ = false;
    made_.clear();
    learn(*batch_);
    run_task();
  });
}

void Worker::learn(const SendBatch& batch) {
  for (const FunctionDef& def : batch.functions) functions_[def.number] = def;
  for (const auto& group : batch.groups) groups_[group.number] = group.blob;
}

void Worker::run_task() {
  const SendBatch::Task& task = batch_->tasks[position_];
  const TaskId id = task_id(position_);
  TaskPlan* plan = world_.oracle.find(id);
  world_.require(plan != nullptr, "W3", "a task that nobody submitted is run", me());
  world_.require(functions_.count(task.function) != 0, "W3", "a function that the worker was never sent", me());
  auto blob = groups_.find(task.group);
  world_.require(blob != groups_.end(), "W3", "a group that the worker was never sent", me());
  world_.require(group_names(*blob->second, task.group_position, id), "W3", "the arguments are another task's",
                 me());
  world_.require(task.return_count == plan->return_bytes.size(), "W3", "another number of results is wanted",
                 me());
  if (!read_inputs(task, *plan)) {
    TaskResult result;
    result.status = TaskResult::Status::kHandedBack;
    return finish_task(std::move(result));
  }
  if (interrupted_.count({batch_->batch, position_}) != 0) {
    return fail_task({FailureCode::kTaskCancelled, "interrupted before it began"});
  }
  ++plan->runs;
  world_.note(me(), "runs", id.index, id.graph.low, plan->runs);
  if (plan->kind == TaskPlan::Kind::kPoison) {
    world_.require(plan->runs <= static_cast<uint32_t>(plan->retries_max) + 1, "W4",
                   "a task that kills its workers is tried more often than it may be", me());
    return later(plan->duration, [this] { exit(11); });
  }
  is_actor_ = is_actor_ || plan->kind == TaskPlan::Kind::kCreates;
  if (plan->kind == TaskPlan::Kind::kCalls) {
    uint64_t& last = last_call_[plan->actor];
    world_.require(plan->call_number > last, "W5", "calls of an actor run out of order", me());
    last = plan->call_number;
  }
  if (plan->kind == TaskPlan::Kind::kNests || plan->kind == TaskPlan::Kind::kNestsLater) {
    return later(plan->duration / 2,
                 [this, id, attempt = task.attempt, plan] { submit_nested(id, attempt, *plan); });
  }
  if (!plan->borrows.empty()) {
    return later(plan->duration / 2, [this, plan] {
      awaited_ = plan->borrows.front();
      await_nested();
    });
  }
  later(plan->duration, [this, plan] {
    if (plan->kind == TaskPlan::Kind::kRaises) return fail_task({FailureCode::kTaskRaised, "planned"});
    if (plan->kind == TaskPlan::Kind::kRaisesOnce && plan->runs == 1) {
      TaskResult result;
      result.status = TaskResult::Status::kRetry;
      result.failure = {FailureCode::kTaskRaised, "planned, once"};
      return finish_task(std::move(result));
    }
    make_results();
  });
}

// False: an earlier task of the batch, whose result this one reads, has none.
bool Worker::read_inputs(const SendBatch::Task& task, TaskPlan& plan) {
  world_.require(task.input_count == plan.inputs.size(), "W3", "another number of inputs comes", me());
  for (uint32_t k = 0; k < task.input_count; ++k) {
    const BatchInput& input = batch_->inputs[first_input_ + k];
    std::optional<Content> content;
    switch (input.kind) {
      case BatchInput::Kind::kInline:
        content = decode(*batch_->inline_inputs[input.index]);
        break;
      case BatchInput::Kind::kLocated:
        content = read_located(batch_->located_inputs[input.index].id, batch_->located_inputs[input.index].at);
        break;
      case BatchInput::Kind::kEarlier: {
        auto made =
            made_.find({static_cast<uint32_t>(input.index >> 8), static_cast<uint32_t>(input.index & 255)});
        if (made == made_.end()) return false;
        content = made->second;
        break;
      }
    }
    if (!content && world_.oracle.may_be_empty(plan.inputs[k])) continue;
    world_.require(content.has_value(), "W6", "an input that can't be read", me());
    world_.require(content->hash == world_.oracle.expected(plan.inputs[k]), "W6",
                   "input " + std::to_string(k) + " has another value than it must", me());
  }
  return true;
}

// W7: what is pinned stays as it was sealed.
const Content& Worker::read_located(const ObjectId& id, const StoredAt& at) {
  const Content* content = world_.memory.read(at);
  world_.require(content != nullptr && content->hash == world_.oracle.expected(id), "W7",
                 "the bytes of object " + id.hex() + " are not its own", me());
  return *content;
}

void Worker::submit_nested(const TaskId& id, uint32_t attempt, const TaskPlan& plan) {
  GraphPlan& nested = world_.oracle.add(world_.oracle.nested_plan(id, attempt, plan));
  const uint64_t last = nested.tasks.size() - 1;
  GraphChunk chunk = make_chunk(nested, 0, static_cast<uint32_t>(nested.tasks.size()), true, false, {last},
                                submitted_functions_);
  chunk.submitted_by_batch = batch_->batch;
  chunk.submitted_by_position = position_;
  world_.note(me(), "submits", nested.id.low, nested.tasks.size());
  world_.node->say(session_, ChunkArrived{session_, std::move(chunk)});
  awaited_ = {nested.id, last, 0};
  nested_held_.push_back(awaited_);
  if (plan.kind == TaskPlan::Kind::kNestsLater) return make_results();
  await_nested();
}

void Worker::await_nested() {
  nested_ready_ = false;
  get_request_ = {next_request_++};
  world_.node->say(session_, GetAsked{session_, get_request_, {awaited_}, true, 0});
  later(world_.micros(50, 2'000), [this] {
    if (nested_ready_) return;
    hand_back_rest();
    blocked_ = true;
    world_.note(me(), "blocks");
    world_.node->say(session_, WorkerBlocked{session_, true});
  });
}

void Worker::nested_answered(const ObjectAnswer& answer) {
  nested_ready_ = true;
  get_request_ = {};
  const ObjectId id = awaited_;
  if (blocked_) {
    blocked_ = false;
    world_.note(me(), "goes on");
    world_.node->say(session_, WorkerBlocked{session_, false});
  }
  if (answer.kind == ObjectAnswer::Kind::kFailed) {
    auto trouble = world_.oracle.unexplained(id, answer.failure);
    world_.require(!trouble, "W8", trouble.value_or(""), me());
    ++token_;
    const TaskPlan* plan = world_.oracle.find(task_id(position_));
    if (!plan->borrows.empty()) return make_results();
    return fail_task(answer.failure);
  }
  if (answer.kind == ObjectAnswer::Kind::kInline) {
    auto content = decode(*answer.value);
    world_.require(content && content->hash == world_.oracle.expected(id), "W6", "a nested result is wrong", me());
  }
  ++token_;
  later(world_.micros(10, 3'000), [this] { make_results(); });
}

void Worker::hand_back_rest() {
  // What waits behind an actor's call can be run by nobody else.
  if (handed_back_ || is_actor_) return;
  handed_back_ = true;
  for (uint32_t p = position_ + 1; p < batch_->tasks.size(); ++p) {
    TaskResult result;
    result.position = p;
    result.status = TaskResult::Status::kHandedBack;
    report_.push_back(std::move(result));
  }
  flush();
}

void Worker::make_results() {
  const TaskId id = task_id(position_);
  TaskPlan& plan = *world_.oracle.find(id);
  uint64_t sealed_bytes = 0;
  for (uint64_t bytes : plan.return_bytes) {
    if (bytes > kInlineBytesMax) sealed_bytes += in_granules(bytes);
  }
  if (sealed_bytes > 0 && (!slab_ || slab_->used_bytes + sealed_bytes > slab_->at.size_bytes)) {
    // What was sealed in it must be known before it goes.
    flush();
    if (slab_) world_.node->say(session_, SlabReturned{session_, slab_->id});
    slab_.reset();
    slab_request_ = {next_request_++};
    world_.node->say(session_, SlabAsked{session_, slab_request_, std::max(sealed_bytes, kSlabBytes)});
    return;
  }
  TaskResult result;
  for (uint32_t r = 0; r < plan.return_bytes.size(); ++r) {
    Content content;
    content.hash = world_.oracle.expected({id.graph, id.index, r});
    if (r == 0 && plan.kind == TaskPlan::Kind::kNestsLater) content.contained.push_back(awaited_);
    TaskResult::Return value;
    value.contained = content.contained;
    if (plan.return_bytes[r] > kInlineBytesMax) {
      SealedBytes sealed{slab_->id, slab_->used_bytes, plan.return_bytes[r]};
      world_.memory.write({slab_->at.segment, slab_->at.offset + sealed.offset, sealed.size_bytes}, content);
      slab_->used_bytes += in_granules(sealed.size_bytes);
      value.payload = sealed;
    } else {
      value.payload = make_bytes(encode(content, plan.return_bytes[r]));
    }
    made_[{position_, r}] = content;
    result.returns.push_back(std::move(value));
  }
  result.duration_us = static_cast<uint32_t>(plan.duration.count() / 1'000);
  finish_task(std::move(result));
}

void Worker::fail_task(Failure failure) {
  if (blocked_) {
    blocked_ = false;
    world_.node->say(session_, WorkerBlocked{session_, false});
  }
  if (!get_request_.is_nil()) {
    world_.node->say(session_, GetCancelled{session_, get_request_});
    get_request_ = {};
  }
  slab_request_ = {};
  TaskResult result;
  result.status = TaskResult::Status::kFailed;
  result.failure = std::move(failure);
  finish_task(std::move(result));
}

void Worker::finish_task(TaskResult result) {
  ++token_;
  result.position = position_;
  report_.push_back(std::move(result));
  if (handed_back_ || position_ + 1 == batch_->tasks.size() || world_.rng.chance(0.5)) flush();
  if (!nested_held_.empty()) {
    world_.node->say(session_, ReferencesChanged{session_, {}, std::move(nested_held_), {}});
    nested_held_.clear();
  }
  awaited_ = {};
  next_task();
}

void Worker::flush() {
  if (report_.empty()) return;
  world_.note(me(), "reports", batch_->batch, report_.size());
  ResultsArrived results{session_, batch_->batch, std::move(report_)};
  report_.clear();
  world_.node->say(session_, std::move(results));
}

void Worker::next_task() {
  first_input_ += batch_->tasks[position_].input_count;
  ++position_;
  if (handed_back_ || position_ >= batch_->tasks.size()) return end_batch();
  // What may take long, or kill the worker, finds everything before it reported.
  const TaskPlan* next = world_.oracle.find(task_id(position_));
  if (next != nullptr && next->duration > std::chrono::milliseconds(1)) flush();
  later(world_.micros(0, 20), [this] { run_task(); });
}

void Worker::end_batch() {
  flush();
  std::vector<ObjectId> pinned;
  for (const auto& located : batch_->located_inputs) {
    read_located(located.id, located.at);
    pinned.push_back(located.id);
  }
  if (!pinned.empty()) unpin_later(std::move(pinned), world_.micros(0, 3'000));
  for (uint64_t group : batch_->dropped_groups) groups_.erase(group);
  batch_.reset();
  read_next();
}

void Worker::unpin_later(std::vector<ObjectId> ids, Duration wait) {
  world_.queue.after(wait, [this, ids = std::move(ids)] {
    if (!is_alive()) return;
    ReferencesChanged change{session_, {}, {}, {}};
    for (const ObjectId& id : ids) change.unpinned.push_back({id, 1});
    world_.node->say(session_, std::move(change));
  });
}

}  // namespace raylet::sim
