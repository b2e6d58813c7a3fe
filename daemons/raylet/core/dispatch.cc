// Which ready task goes to which worker, and when. One worker at a time gets one batch (batch_builder.cc);
// jobs take turns.
#include <algorithm>
#include <cmath>

#include "daemons/raylet/core/node_state.h"
#include "protocol/words/check.h"

namespace raylet {

namespace {
// What a worker spends on a task besides its function: unpickling, calling, reporting.
constexpr double kTaskOverheadUs = 3;
// Less work than this is not worth another message to another worker.
constexpr double kWorthSpreadingUs = 60;
constexpr uint32_t kBatchesInFlightMax = 2;
constexpr Duration kReserveAfter = std::chrono::seconds(5);
}  // namespace

double Node::State::work_of(const Function& function) const { return function.duration_us + kTaskOverheadUs; }

void Node::State::take_resources(Worker& worker, uint32_t shape) {
  MUST(!worker.holds_resources);
  worker.holds_resources = true;
  worker.shape = shape;
  const Resources& wish = shapes_[shape].resources;
  if (owed_.empty() && available_.fits(wish)) {
    available_.subtract(wish);
    return;
  }
  // A worker that was blocked goes on although others run in its place: more is taken than there is.
  owed_.add(wish);
  worker.owes = true;
}

void Node::State::give_resources(Worker& worker) {
  if (!worker.holds_resources) return;
  worker.holds_resources = false;
  const Resources& wish = shapes_[worker.shape].resources;
  if (worker.owes) {
    worker.owes = false;
    owed_.subtract(wish);
  } else {
    available_.add(wish);
  }
  if (!owed_.empty()) settle_debts();
}

// What comes free goes first to those who took more than there was: while one of them owes, nobody has room.
void Node::State::settle_debts() {
  for (auto& [number, worker] : workers_) {
    if (!worker->owes) continue;
    const Resources& wish = shapes_[worker->shape].resources;
    if (!available_.fits(wish)) continue;
    available_.subtract(wish);
    owed_.subtract(wish);
    worker->owes = false;
  }
}

// ---------------------------------------------------------------- memory

bool Node::State::is_under_pressure() const {
  if (inline_value_bytes_ > options_.inline_value_bytes_max) return true;
  return store_capacity_ > 0 && static_cast<double>(store_used_) >
                                    options_.store_pressure * static_cast<double>(store_capacity_);
}

// Roots that make data wait while memory is short, but never so that nothing runs.
bool Node::State::is_held_back(const Graph& graph, uint32_t task) const {
  if (tasks_in_flight_ == 0 || !is_under_pressure()) return false;
  const Block& block = graph.block_of(task);
  const TaskRow& row = graph.row(task);
  if (block.edge_end(task & (Block::kTasks - 1)) != row.first_edge) return false;
  bool producer = graph.option_of(row).options.data_producer ||
                  functions_[row.function].output_bytes > static_cast<double>(options_.inline_bytes_max);
  return producer;
}

void Node::State::let_go_held_back() {
  if (held_back_count_ == 0 || (is_under_pressure() && tasks_in_flight_ > 0)) return;
  bool all = !is_under_pressure();
  for (Graph* graph : graphs_.all()) {
    for (auto& lane : graph->lanes) {
      while (!lane->held_back.empty()) {
        uint32_t task = lane->held_back.back();
        lane->held_back.pop_back();
        --held_back_count_;
        if (graph->row(task).state != TaskState::kHeldBack) continue;
        graph->row(task).state = TaskState::kReady;
        lane->queue.push({graph->row(task).rank, task});
        list_lane(*lane);
        if (!all) return;
      }
    }
  }
}

// ---------------------------------------------------------------- choice

// An idle worker if the resources are there, else one that is nearly through; null: none.
Worker* Node::State::choose_worker(const Job& job, const Shape& shape, uint32_t shape_number, uint64_t preferred) {
  bool fits = has_room_for(shape);
  Worker* unbound = nullptr;
  Worker* idle = nullptr;
  Worker* nearly = nullptr;
  for (auto& [number, owned] : workers_) {
    Worker& worker = *owned;
    if (worker.stopping || worker.session == nullptr || worker.is_actor()) continue;
    if (worker.state == Worker::State::kIdle) {
      if (!fits) continue;
      if (worker.job == &job) {
        if (idle == nullptr || number == preferred) idle = &worker;
      } else if (worker.job == nullptr && (worker.started_for.is_nil() || worker.started_for == job.id)) {
        if (unbound == nullptr) unbound = &worker;
      }
    } else if (worker.state == Worker::State::kBusy && worker.job == &job && worker.shape == shape_number &&
               !shape.creation && !contended_ && !worker.retracting &&
               worker.batches.size() < kBatchesInFlightMax && !worker.batches.back().guessed &&
               worker.work_us < static_cast<double>(options_.batch_work_target.count()) / 1e3 &&
               now_ - worker.batches.front().heard_at < 2 * options_.batch_work_target) {
      if (nearly == nullptr || worker.work_us < nearly->work_us) nearly = &worker;
    }
  }
  if (idle != nullptr) return idle;
  if (unbound != nullptr) return unbound;
  return nearly;
}

// How many tasks this worker gets at most, so that the others get theirs.
uint32_t Node::State::share_of(const Job& job, const Job::ShapeLanes& lanes) const {
  size_t ready = 0;
  uint32_t looked_at = 0;
  const Lane* first = nullptr;
  for (const Lane* lane : lanes.lanes) {
    if (first == nullptr) first = lane;
    ready += lane->queue.size();
    if (++looked_at == 16) break;
  }
  if (first == nullptr || first->queue.empty()) return options_.batch_tasks_max;
  uint32_t takers = 0;
  for (const auto& [number, other] : workers_) {
    if (other->stopping || other->session == nullptr || other->is_actor()) continue;
    if (other->state == Worker::State::kIdle && (other->job == nullptr || other->job == &job)) ++takers;
    if (other->state == Worker::State::kBusy && other->job == &job &&
        other->batches.size() < kBatchesInFlightMax) {
      ++takers;
    }
  }
  if (takers <= 1) return options_.batch_tasks_max;
  const Function& function = functions_[first->graph->row(first->queue.top().task).function];
  double work = work_of(function);
  uint32_t worth = static_cast<uint32_t>(std::ceil(kWorthSpreadingUs / work));
  uint32_t even = static_cast<uint32_t>(std::min<size_t>((ready + takers - 1) / takers, options_.batch_tasks_max));
  return std::clamp(even, std::min(worth, options_.batch_tasks_max), options_.batch_tasks_max);
}

bool Node::State::has_room_for(const Shape& shape) const {
  return owed_.empty() && available_.fits(shape.resources);
}

// False: not before an actor ends, and that may be never.
bool Node::State::may_get_room(const Shape& shape) const {
  Resources rest = options_.resources;
  for (const auto& [number, worker] : workers_) {
    if (!worker->is_actor() || !worker->holds_resources) continue;
    const Resources& kept = shapes_[worker->shape].resources;
    if (!rest.fits(kept)) return false;
    rest.subtract(kept);
  }
  return rest.fits(shape.resources);
}

// A task that could have its resources waits for a worker of its job; only one that could not may be starving.
void Node::State::note_lack(Job::ShapeLanes& of_shape) {
  using Lack = Job::ShapeLanes::Lack;
  of_shape.lacks(has_room_for(shapes_[of_shape.shape]) ? Lack::kWorker : Lack::kResources, now_);
  if (of_shape.lack == Lack::kResources)
    starving_at_ = std::min(starving_at_, of_shape.lacks_since + kReserveAfter);
}

// The lane whose first task is next; null: there is none. What was cancelled meanwhile leaves its queue here.
Lane* Node::State::next_lane(Job::ShapeLanes& of_shape) {
  while (!of_shape.lanes.empty()) {
    Lane& lane = **of_shape.lanes.begin();
    auto& queue = lane.queue;
    while (!queue.empty() && lane.graph->row(queue.top().task).state != TaskState::kReady) queue.pop();
    if (!queue.empty()) return &lane;
    unlist_lane(lane);
  }
  return nullptr;
}

bool Node::State::dispatch_one(Job& job) {
  for (Job::ShapeLanes& of_shape : job.shapes) {
    if (of_shape.lanes.empty() || (reserved_ != nullptr && reserved_ != &of_shape)) continue;
    const Shape& shape = shapes_[of_shape.shape];
    if (!shape.feasible) continue;
    Lane* lane = next_lane(of_shape);
    if (lane == nullptr) continue;
    uint64_t preferred = lane->graph->group(lane->graph->row(lane->queue.top().task).group).last_worker;
    Worker* worker = choose_worker(job, shape, of_shape.shape, preferred);
    if (worker == nullptr) {
      note_lack(of_shape);
      continue;
    }
    if (!send_batch(*worker, job, of_shape, share_of(job, of_shape))) continue;
    of_shape.lacks_nothing();
    if (reserved_ == &of_shape) reserved_ = nullptr;
    return true;
  }
  return false;
}

// Tasks that want much would wait for ever while small ones take every CPU that comes free: what is free is left
// to the one that lacks resources for longest. Lanes are looked at only when one of them may be starving.
void Node::State::reserve_for_starved() {
  reserved_ = nullptr;
  if (now_ < starving_at_) return;
  starving_at_ = Instant{INT64_MAX};
  Instant longest{INT64_MAX};
  size_t kinds = 0;
  for (auto& [id, job] : jobs_) {
    for (Job::ShapeLanes& of_shape : job->shapes) {
      if (of_shape.lanes.empty() || !shapes_[of_shape.shape].feasible) continue;
      ++kinds;
      if (of_shape.lack != Job::ShapeLanes::Lack::kResources) continue;
      starving_at_ = std::min(starving_at_, of_shape.lacks_since + kReserveAfter);
      if (of_shape.lacks_since + kReserveAfter > now_ || of_shape.lacks_since >= longest) continue;
      if (!may_get_room(shapes_[of_shape.shape])) continue;
      longest = of_shape.lacks_since;
      reserved_ = &of_shape;
    }
  }
  if (kinds < 2) reserved_ = nullptr;  // nobody takes anything away from it
}

bool Node::State::serve_in_turns() {
  bool sent = false;
  std::vector<Job*> turns;
  for (auto& [id, job] : jobs_) {
    bool wants = std::any_of(job->shapes.begin(), job->shapes.end(), [&](const auto& of_shape) {
      return !of_shape.lanes.empty() && shapes_[of_shape.shape].feasible;
    });
    if (wants) turns.push_back(job.get());
  }
  contended_ = turns.size() > 1;
  std::sort(turns.begin(), turns.end(), [](Job* a, Job* b) {
    return a->last_served != b->last_served ? a->last_served < b->last_served : a->id < b->id;
  });
  for (Job* job : turns) {
    if (!dispatch_one(*job)) continue;
    job->last_served = ++job_turn_;
    sent = true;
  }
  return sent;
}

void Node::State::dispatch() {
  let_go_held_back();
  while (true) {
    reserve_for_starved();
    const Job::ShapeLanes* reserved = reserved_;
    while (serve_in_turns()) {
    }
    // It may have been served, or have nothing to run any more, or lack a worker only: nobody is held up for it.
    if (reserved == nullptr || reserved->lack == Job::ShapeLanes::Lack::kResources) break;
  }
  if (now_ < starving_at_ && starving_at_ < Instant{INT64_MAX}) wake_by(starving_at_);
}

}  // namespace raylet
