#include "protocol/codec/random_words.h"

#include <algorithm>
#include <utility>

namespace raylet {
namespace {

// Empty half of the time, as columns of defaults are; otherwise one entry a task.
std::vector<uint32_t> random_column(Rng& rng, uint32_t task_count, uint32_t least, uint64_t below) {
  std::vector<uint32_t> column;
  if (below == 0 || rng.chance(0.5)) return column;
  for (uint32_t i = 0; i < task_count; ++i) column.push_back(least + static_cast<uint32_t>(rng.below(below)));
  return column;
}

}  // namespace

std::string random_string(Rng& rng, size_t size_bytes_max) {
  std::string text(rng.below(size_bytes_max + 1), ' ');
  for (char& c : text) c = static_cast<char>('a' + rng.below(26));
  return text;
}

GraphId random_graph_id(Rng& rng) { return {rng.next() | 1, rng.next()}; }

ObjectId random_object_id(Rng& rng) {
  return {random_graph_id(rng), rng.next(), static_cast<uint32_t>(rng.next())};
}

TaskOptions random_task_options(Rng& rng) {
  TaskOptions options;
  for (uint64_t i = rng.below(3); i > 0; --i) {
    MUST(
        options.resources.set("r" + random_string(rng, 3), static_cast<double>(rng.below(100'000)) / 10'000).ok());
  }
  if (rng.chance(0.5)) options.retries_max = static_cast<int32_t>(rng.below(5)) - 1;
  options.retry_on_exception = rng.chance(0.5);
  if (rng.chance(0.3)) options.retry_exceptions = make_bytes("x" + random_string(rng, 40));
  if (rng.chance(0.3)) options.actor = random_object_id(rng);
  options.actor_name = random_string(rng, 5);
  options.actor_namespace = random_string(rng, 5);
  options.detached = rng.chance(0.5);
  options.get_if_exists = rng.chance(0.5);
  options.priority = static_cast<int32_t>(rng.next());
  options.data_producer = rng.chance(0.5);
  if (rng.chance(0.3)) options.actor_handle = make_bytes("h" + random_string(rng, 20));
  return options;
}

GraphChunk random_graph_chunk(Rng& rng) {
  GraphChunk chunk;
  chunk.graph = random_graph_id(rng);
  chunk.first_task = rng.below(1'000'000);
  chunk.task_count = static_cast<uint32_t>(rng.below(200));
  chunk.last = rng.chance(0.5);
  chunk.fail_fast = rng.chance(0.5);
  chunk.report_progress = rng.chance(0.5);
  chunk.hold_all = rng.chance(0.5);
  chunk.graph_name = random_string(rng, 20);
  for (uint64_t i = rng.below(4); i > 0; --i) {
    chunk.functions.push_back({static_cast<uint32_t>(rng.below(1000)), random_string(rng, 20),
                               make_bytes(random_string(rng, 100)), static_cast<FunctionDef::Kind>(rng.below(3))});
  }
  for (uint32_t left = chunk.task_count; left > 0;) {
    uint32_t size = 1 + static_cast<uint32_t>(rng.below(std::min<uint32_t>(left, 64)));
    chunk.group_sizes.push_back(size);
    chunk.group_blobs.push_back(make_bytes(random_string(rng, 300)));
    left -= size;
  }
  for (uint64_t i = rng.below(10); i > 0; --i) chunk.externals.push_back(random_object_id(rng));
  chunk.function_numbers = random_column(rng, chunk.task_count, 0, 1000);
  chunk.dep_counts = random_column(rng, chunk.task_count, 0, 4);
  for (uint32_t count : chunk.dep_counts) {
    for (; count > 0; --count) {
      bool external = !chunk.externals.empty() && rng.chance(0.3);
      chunk.deps.push_back(external ? 2 * rng.below(chunk.externals.size()) + 1 : 2 * rng.below(1'000'000));
    }
  }
  if (rng.chance(0.5)) {
    for (size_t i = 0; i < chunk.deps.size(); ++i)
      chunk.dep_returns.push_back(static_cast<uint32_t>(rng.below(9)));
  }
  if (!chunk.externals.empty()) {
    chunk.borrow_counts = random_column(rng, chunk.task_count, 0, 3);
    for (uint32_t count : chunk.borrow_counts) {
      for (; count > 0; --count) chunk.borrows.push_back(static_cast<uint32_t>(rng.below(chunk.externals.size())));
    }
  }
  chunk.return_counts = random_column(rng, chunk.task_count, 1, 10);
  for (uint64_t i = rng.below(4); i > 0; --i) chunk.options.push_back(random_task_options(rng));
  chunk.option_numbers = random_column(rng, chunk.task_count, 0, chunk.options.size() + 1);
  for (uint64_t i = rng.below(30); i > 0; --i) chunk.wanted.push_back(rng.below(1'000'000));
  for (uint64_t i = rng.below(5); i > 0; --i) chunk.names.push_back(random_string(rng, 30));
  chunk.name_numbers = random_column(rng, chunk.task_count, 0, chunk.names.size());
  chunk.submitted_by_batch = rng.next();
  chunk.submitted_by_position = static_cast<uint32_t>(rng.next());
  return chunk;
}

Failure random_failure(Rng& rng) {
  Failure failure;
  failure.code = static_cast<FailureCode>(1 + rng.below(18));
  failure.message = random_string(rng, 50);
  failure.task_name = random_string(rng, 20);
  if (rng.chance(0.5)) failure.cause = make_bytes("c" + random_string(rng, 100));
  failure.traceback = random_string(rng, 100);
  failure.pid = rng.below(100'000);
  return failure;
}

}  // namespace raylet
