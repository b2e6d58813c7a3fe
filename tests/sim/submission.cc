#include "tests/sim/submission.h"

#include <algorithm>
#include <map>

#include "protocol/words/check.h"

namespace raylet::sim {
namespace {

// Functions of every client, by number.
FunctionDef function_of(TaskPlan::Kind kind) {
  switch (kind) {
    case TaskPlan::Kind::kCreates:
      return {2, "Account", make_bytes("class"), FunctionDef::Kind::kActorClass};
    case TaskPlan::Kind::kCalls:
      return {3, "deposit", nullptr, FunctionDef::Kind::kActorMethod};
    default:
      return {1, "work", make_bytes("function"), FunctionDef::Kind::kFunction};
  }
}

TaskOptions options_of(const TaskPlan& task) {
  TaskOptions options;
  if (task.kind != TaskPlan::Kind::kCalls && task.cpus > 0) {
    MUST(options.resources.set("CPU", task.cpus).ok());
  }
  if (task.retries_max != 3) options.retries_max = task.retries_max;
  options.retry_on_exception = task.kind == TaskPlan::Kind::kRaisesOnce;
  options.actor = task.actor;
  options.actor_name = task.actor_name;
  options.get_if_exists = task.get_if_exists;
  options.data_producer = task.producer;
  if (!task.actor_name.empty()) options.actor_handle = make_bytes("handle");
  return options;
}

bool is_default(const TaskPlan& task) {
  return task.kind == TaskPlan::Kind::kPlain && task.cpus == 1 && task.retries_max == 3 && !task.producer;
}

}  // namespace

GraphChunk make_chunk(const GraphPlan& plan, uint64_t first, uint32_t count, bool last, bool hold_all,
                      const std::vector<uint64_t>& wanted, KnownFunctions& known) {
  GraphChunk chunk;
  chunk.graph = plan.id;
  chunk.first_task = first;
  chunk.task_count = count;
  chunk.last = last;
  chunk.fail_fast = plan.fail_fast;
  chunk.report_progress = plan.fail_fast;
  chunk.hold_all = hold_all;
  chunk.wanted = wanted;
  std::map<ObjectId, uint64_t> externals;
  for (uint64_t t = first; t < first + count; ++t) {
    const TaskPlan& task = plan.tasks[t];
    FunctionDef function = function_of(task.kind);
    if (known.insert(function.number).second) chunk.functions.push_back(function);
    chunk.function_numbers.push_back(function.number);
    chunk.dep_counts.push_back(static_cast<uint32_t>(task.inputs.size()));
    for (const ObjectId& input : task.inputs) {
      if (input.graph == plan.id) {
        chunk.deps.push_back(2 * input.task);
        chunk.dep_returns.push_back(input.index);
      } else {
        auto [found, fresh] = externals.try_emplace(input, chunk.externals.size());
        if (fresh) chunk.externals.push_back(input);
        chunk.deps.push_back(2 * found->second + 1);
        chunk.dep_returns.push_back(0);
      }
    }
    chunk.borrow_counts.push_back(static_cast<uint32_t>(task.borrows.size()));
    for (const ObjectId& borrow : task.borrows) {
      auto [found, fresh] = externals.try_emplace(borrow, chunk.externals.size());
      if (fresh) chunk.externals.push_back(borrow);
      chunk.borrows.push_back(static_cast<uint32_t>(found->second));
    }
    chunk.return_counts.push_back(static_cast<uint32_t>(task.return_bytes.size()));
    if (is_default(task)) {
      chunk.option_numbers.push_back(0);
    } else {
      chunk.options.push_back(options_of(task));
      chunk.option_numbers.push_back(static_cast<uint32_t>(chunk.options.size()));
    }
  }
  for (uint64_t t = first; t < first + count;) {
    uint32_t size = static_cast<uint32_t>(std::min<uint64_t>({first + count - t, 5 + plan.id.low % 12}));
    chunk.group_sizes.push_back(size);
    chunk.group_blobs.push_back(make_bytes(encode_group(plan.id, t, size)));
    t += size;
  }
  chunk.wire_bytes = 100 + 40 * count;
  return chunk;
}

}  // namespace raylet::sim
