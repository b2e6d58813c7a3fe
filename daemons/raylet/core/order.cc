#include "daemons/raylet/core/order.h"

#include <algorithm>

#include "protocol/words/check.h"

namespace raylet {
namespace {

constexpr uint32_t kNone = ~uint32_t{0};
// So that a task with 100,000 inputs or readers costs no more than its place in the lists.
constexpr uint32_t kReadersLookedAtMax = 8;
constexpr uint32_t kInputsLookedAtMax = 64;

class Orderer {
 public:
  explicit Orderer(const GraphShape& shape);

  // False if there is a cycle.
  bool estimate_needs();
  void walk();
  std::vector<uint32_t> take_ranks() { return std::move(ranks_); }

 private:
  // What the walk keeps changing of a task, together in one cache line.
  struct Task {
    uint32_t missing = 0;        // dependencies that have not run
    uint32_t readers_left = 0;   // readers that have not run
    uint32_t readers_xor = 0;    // of their numbers: the number itself when one is left
    uint32_t blocked = 0;        // dependencies that can't be made without running another source first
    uint32_t next_dep = 0;       // where the search for a missing input goes on
    uint32_t next_reader = 0;    // where the search for a reader goes on
    uint32_t size = 1;
    bool is_candidate = false;   // in candidates_
    uint64_t frees = 0;          // bytes of inputs whose only reader left is this task
  };

  void run(uint32_t number);
  void run_if_it_frees(uint32_t number);
  void work_towards(uint32_t goal);
  uint32_t next_goal();
  uint32_t looked_at_end(uint32_t number) const;
  uint32_t better_than_source(uint32_t wanted_by);
  void unblock_readers(uint32_t source);
  void consider(uint32_t output);
  double share_of(uint32_t number) const;
  bool is_source(uint32_t number) const { return dep_offsets_[number] == dep_offsets_[number + 1]; }
  uint32_t nearest_reader(uint32_t number);
  bool has_run(uint32_t number) const { return ranks_[number] != kNone; }

  const uint32_t count_;
  const std::vector<uint32_t>& dep_offsets_;
  std::vector<uint32_t> deps_;  // as in the shape, but the costliest input of each task first
  std::vector<uint32_t> reader_offsets_;
  std::vector<uint32_t> readers_;
  std::vector<Task> tasks_;
  std::vector<uint64_t> needs_;  // room that making the task's output takes, as if nothing were shared
  std::vector<uint32_t> ranks_;
  uint32_t next_rank_ = 0;
  std::vector<uint32_t> freeing_;  // rule 1: to be run at once
  std::vector<uint32_t> goals_;    // rule 2: each is an input of the one below
  std::vector<uint32_t> candidates_;  // before a source runs: outputs whose readers deserve a look
  std::vector<uint32_t> unblocked_;   // of unblock_readers
  std::vector<uint32_t> young_;    // rule 3: outputs by age, the youngest last
  std::vector<uint32_t> results_;  // tasks without readers
  size_t next_result_ = 0;
};

Orderer::Orderer(const GraphShape& shape)
    : count_(shape.task_count), dep_offsets_(shape.dep_offsets), deps_(shape.deps) {
  tasks_.resize(count_);
  ranks_.assign(count_, kNone);
  reader_offsets_.assign(count_ + 1, 0);
  for (uint32_t dep : deps_) {
    MUST(dep < count_, "a dependency that is no task of the graph");
    ++reader_offsets_[dep + 1];
  }
  for (uint32_t t = 0; t < count_; ++t) {
    reader_offsets_[t + 1] += reader_offsets_[t];
  }
  readers_.resize(deps_.size());
  for (uint32_t t = 0; t < count_; ++t) {
    Task& task = tasks_[t];
    task.missing = dep_offsets_[t + 1] - dep_offsets_[t];
    task.blocked = task.missing;
    task.next_dep = dep_offsets_[t];
    task.size = shape.output_sizes.empty() ? 1 : std::max(shape.output_sizes[t], 1u);
    for (uint32_t i = dep_offsets_[t]; i < dep_offsets_[t + 1]; ++i) {
      Task& dep = tasks_[deps_[i]];
      readers_[reader_offsets_[deps_[i]] + dep.readers_left++] = t;
      dep.readers_xor ^= t;
    }
  }
  for (uint32_t t = 0; t < count_; ++t) {
    tasks_[t].next_reader = reader_offsets_[t];
    if (tasks_[t].readers_left == 1) {
      tasks_[tasks_[t].readers_xor].frees += tasks_[t].size;
    } else if (tasks_[t].readers_left == 0) {
      results_.push_back(t);
    }
  }
}

// Goes through the tasks with dependencies first and sorts the inputs of each on the way.
bool Orderer::estimate_needs() {
  needs_.assign(count_, 0);
  std::vector<uint32_t> missing(count_);
  std::vector<uint32_t> reached;
  reached.reserve(count_);
  for (uint32_t t = 0; t < count_; ++t) {
    missing[t] = tasks_[t].missing;
    if (missing[t] == 0) {
      reached.push_back(t);
    }
  }
  for (size_t at = 0; at < reached.size(); ++at) {
    const uint32_t t = reached[at];
    auto first = deps_.begin() + dep_offsets_[t];
    auto last = deps_.begin() + dep_offsets_[t + 1];
    // What a making needs beyond the output that stays is what can be used again for the next input.
    auto passing = [&](uint32_t dep) { return needs_[dep] - tasks_[dep].size; };
    auto costlier = [&](uint32_t a, uint32_t b) { return passing(a) > passing(b); };
    if (!std::is_sorted(first, last, costlier)) {
      std::stable_sort(first, last, costlier);
    }
    uint64_t held = 0;
    uint64_t need = 0;
    for (auto dep = first; dep != last; ++dep) {
      need = std::max(need, held + needs_[*dep]);
      held += tasks_[*dep].size;
    }
    needs_[t] = std::max(need, held + tasks_[t].size);
    for (uint32_t i = reader_offsets_[t]; i < reader_offsets_[t + 1]; ++i) {
      if (--missing[readers_[i]] == 0) {
        reached.push_back(readers_[i]);
      }
    }
  }
  return reached.size() == count_;
}

void Orderer::run_if_it_frees(uint32_t number) {
  const Task& task = tasks_[number];
  if (task.missing == 0 && task.frees >= task.size && !has_run(number)) {
    freeing_.push_back(number);
  }
}

void Orderer::run(uint32_t number) {
  ranks_[number] = next_rank_++;
  for (uint32_t i = dep_offsets_[number]; i < dep_offsets_[number + 1]; ++i) {
    Task& dep = tasks_[deps_[i]];
    if (--dep.readers_left > 0) {
      consider(deps_[i]);
    }
    dep.readers_xor ^= number;
    if (dep.readers_left == 1 && !has_run(dep.readers_xor)) {
      tasks_[dep.readers_xor].frees += dep.size;
      run_if_it_frees(dep.readers_xor);
    }
  }
  if (tasks_[number].readers_left > 0) {
    young_.push_back(number);
    consider(number);
  }
  for (uint32_t i = reader_offsets_[number]; i < reader_offsets_[number + 1]; ++i) {
    if (--tasks_[readers_[i]].missing == 0) {
      run_if_it_frees(readers_[i]);
    }
  }
  if (is_source(number)) {
    unblock_readers(number);
  }
}

void Orderer::consider(uint32_t output) {
  if (!tasks_[output].is_candidate && tasks_[output].readers_left > 0) {
    tasks_[output].is_candidate = true;
    candidates_.push_back(output);
  }
}

void Orderer::unblock_readers(uint32_t source) {
  unblocked_.push_back(source);
  while (!unblocked_.empty()) {
    const uint32_t t = unblocked_.back();
    unblocked_.pop_back();
    for (uint32_t i = reader_offsets_[t]; i < reader_offsets_[t + 1]; ++i) {
      if (--tasks_[readers_[i]].blocked == 0) {
        unblocked_.push_back(readers_[i]);
        for (uint32_t k = dep_offsets_[readers_[i]]; k < dep_offsets_[readers_[i] + 1]; ++k) {
          if (has_run(deps_[k])) {
            consider(deps_[k]);
          }
        }
      }
    }
  }
}

uint32_t Orderer::looked_at_end(uint32_t number) const {
  return std::min(reader_offsets_[number + 1], tasks_[number].next_reader + kReadersLookedAtMax);
}

// REQUIRES: a reader of `number` has not run.
uint32_t Orderer::nearest_reader(uint32_t number) {
  Task& task = tasks_[number];
  while (has_run(readers_[task.next_reader])) {
    ++task.next_reader;
  }
  uint32_t best = kNone;
  for (uint32_t i = task.next_reader; i < looked_at_end(number); ++i) {
    const uint32_t reader = readers_[i];
    if (!has_run(reader) && (best == kNone || tasks_[reader].missing < tasks_[best].missing)) {
      best = reader;
    }
  }
  return best;
}

// What making `number` does for the outputs that are alive below it, down to the inputs of its inputs: each
// counts as much as this reader is of all that are left.
double Orderer::share_of(uint32_t number) const {
  auto live_share = [&](uint32_t dep) {
    return has_run(dep) ? static_cast<double>(tasks_[dep].size) / tasks_[dep].readers_left : 0.0;
  };
  double share = 0;
  const uint32_t end = std::min(dep_offsets_[number + 1], dep_offsets_[number] + kInputsLookedAtMax);
  for (uint32_t i = dep_offsets_[number]; i < end; ++i) {
    const uint32_t dep = deps_[i];
    if (has_run(dep)) {
      share += live_share(dep);
      continue;
    }
    double below = 0;
    const uint32_t below_end = std::min(dep_offsets_[dep + 1], dep_offsets_[dep] + kInputsLookedAtMax);
    for (uint32_t k = dep_offsets_[dep]; k < below_end; ++k) {
      below += live_share(deps_[k]);
    }
    const double part = 1.0 / tasks_[dep].readers_left;
    share += below * part - tasks_[dep].size * (1 - part);
  }
  return share;
}

// Before another source runs: is there something nearby that pays for itself? Looks once at each output since
// its last change, so all looks together are linear.
uint32_t Orderer::better_than_source(uint32_t wanted_by) {
  while (!candidates_.empty()) {
    const uint32_t output = candidates_.back();
    candidates_.pop_back();
    tasks_[output].is_candidate = false;
    if (tasks_[output].readers_left == 0) {
      continue;
    }
    uint32_t reader = nearest_reader(output);
    const Task& task = tasks_[reader];
    if (task.blocked != 0) {
      // It needs a source as well, but in exchange the output goes.
      if (reader != wanted_by && task.blocked <= tasks_[wanted_by].blocked &&
          task.frees > tasks_[wanted_by].frees) {
        return reader;
      }
      continue;
    }
    for (uint32_t i = tasks_[reader].next_reader; i < looked_at_end(reader); ++i) {
      if (tasks_[readers_[i]].blocked == 0) {
        reader = readers_[i];
        break;
      }
    }
    if (share_of(reader) >= tasks_[reader].size) {
      return reader;
    }
  }
  return kNone;
}

void Orderer::work_towards(uint32_t goal) {
  goals_.push_back(goal);
  while (!goals_.empty()) {
    if (!freeing_.empty()) {
      const uint32_t number = freeing_.back();
      freeing_.pop_back();
      if (!has_run(number)) {
        run(number);
      }
      continue;
    }
    const uint32_t number = goals_.back();
    Task& task = tasks_[number];
    if (has_run(number)) {
      goals_.pop_back();
    } else if (task.missing == 0) {
      if (is_source(number) && goals_.size() > 1) {
        const uint32_t better = better_than_source(goals_[goals_.size() - 2]);
        if (better != kNone) {
          goals_.push_back(better);
          continue;
        }
      }
      goals_.pop_back();
      run(number);
    } else {
      while (has_run(deps_[task.next_dep])) {
        ++task.next_dep;
      }
      goals_.push_back(deps_[task.next_dep]);
    }
  }
}

uint32_t Orderer::next_goal() {
  while (!young_.empty()) {
    if (tasks_[young_.back()].readers_left > 0) {
      return nearest_reader(young_.back());
    }
    young_.pop_back();
  }
  while (next_result_ < results_.size() && has_run(results_[next_result_])) {
    ++next_result_;
  }
  return next_result_ < results_.size() ? results_[next_result_] : kNone;
}

void Orderer::walk() {
  for (uint32_t goal = next_goal(); goal != kNone || !freeing_.empty(); goal = next_goal()) {
    work_towards(goal);
  }
}

}  // namespace

std::vector<uint32_t> order_tasks(const GraphShape& shape) {
  if (shape.task_count == 0) {
    return {};
  }
  MUST(shape.dep_offsets.size() == size_t{shape.task_count} + 1, "offsets are one more than the tasks");
  MUST(shape.output_sizes.empty() || shape.output_sizes.size() == shape.task_count, "a size for each task");
  Orderer orderer(shape);
  if (!orderer.estimate_needs()) {
    return {};
  }
  orderer.walk();
  return orderer.take_ranks();
}

uint64_t peak_alive(const GraphShape& shape, const std::vector<uint32_t>& ranks) {
  MUST(ranks.size() == shape.task_count, "a rank for each task");
  std::vector<uint32_t> readers_left(shape.task_count, 0);
  for (uint32_t dep : shape.deps) {
    ++readers_left[dep];
  }
  std::vector<uint32_t> sequence(shape.task_count);
  for (uint32_t t = 0; t < shape.task_count; ++t) {
    sequence[ranks[t]] = t;
  }
  auto size = [&](uint32_t t) { return shape.output_sizes.empty() ? 1 : shape.output_sizes[t]; };
  uint64_t alive = 0;
  uint64_t peak = 0;
  for (uint32_t t : sequence) {
    alive += size(t);
    peak = std::max(peak, alive);
    for (uint32_t i = shape.dep_offsets[t]; i < shape.dep_offsets[t + 1]; ++i) {
      if (--readers_left[shape.deps[i]] == 0) {
        alive -= size(shape.deps[i]);
      }
    }
  }
  return peak;
}

}  // namespace raylet
