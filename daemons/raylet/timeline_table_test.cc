#include "daemons/raylet/timeline_table.h"

#include <catch2/catch.hpp>

namespace raylet {
namespace {

SendBatch batch_of(uint64_t worker, uint64_t number, uint64_t first, size_t count) {
  SendBatch batch;
  batch.worker = WorkerId{worker};
  batch.batch = number;
  batch.graphs = {GraphId{1, 1}};
  batch.functions = {{4, "double", nullptr}};
  for (size_t i = 0; i < count; ++i) {
    SendBatch::Task task;
    task.index = first + i;
    task.function = 4;
    batch.tasks.push_back(task);
  }
  return batch;
}

TaskResult result(uint32_t position, TaskResult::Status status = TaskResult::Status::kOk) {
  TaskResult result;
  result.position = position;
  result.status = status;
  result.duration_us = 5;
  return result;
}

constexpr size_t kAll = 1'000'000;

}  // namespace

TEST_CASE("a batch is in the timeline once all of it was reported") {
  TimelineTable table;
  SendBatch batch = batch_of(1, 1, 10, 2);
  table.sent(Instant{100}, batch, 77);
  table.reported(Instant{200}, WorkerId{1}, 1, {result(0)});
  REQUIRE(table.newest({}, kAll).empty());
  table.reported(Instant{300}, WorkerId{1}, 1, {result(1, TaskResult::Status::kFailed)});
  auto entries = table.newest({}, kAll);
  REQUIRE(entries.size() == 2);
  REQUIRE(entries[0].name == "double");
  REQUIRE(entries[0].task == 10);
  REQUIRE(entries[0].reported == Instant{200});
  REQUIRE(entries[1].status == TaskResult::Status::kFailed);
  REQUIRE(entries[1].pid == 77);
}

TEST_CASE("what was handed back, taken back or never sent leaves no entry") {
  TimelineTable table;
  SendBatch first = batch_of(1, 1, 0, 2);
  SendBatch second = batch_of(1, 2, 2, 1);
  table.sent(Instant{1}, first, 7);
  table.sent(Instant{1}, second, 7);
  table.retracted(WorkerId{1}, 2);
  table.reported(Instant{2}, WorkerId{1}, 2, {result(0)});
  table.reported(Instant{2}, WorkerId{1}, 9, {result(0)});
  table.reported(Instant{2}, WorkerId{1}, 1, {result(0), result(1, TaskResult::Status::kHandedBack), result(80)});
  REQUIRE(table.newest({}, kAll).size() == 1);
}

TEST_CASE("the finished part of a dead worker's batch stays") {
  TimelineTable table;
  SendBatch batch = batch_of(1, 1, 0, 3);
  table.sent(Instant{1}, batch, 7);
  table.reported(Instant{2}, WorkerId{1}, 1, {result(1)});
  table.worker_gone(WorkerId{1});
  auto entries = table.newest({}, kAll);
  REQUIRE(entries.size() == 1);
  REQUIRE(entries[0].task == 1);
}

TEST_CASE("only the newest are kept and the others counted") {
  TimelineTable table;
  constexpr uint64_t kBatches = TimelineTable::kFinishedMax / 100 + 10;
  std::vector<TaskResult> results;
  for (uint32_t i = 0; i < 100; ++i) results.push_back(result(i));
  for (uint64_t i = 1; i <= kBatches; ++i) {
    SendBatch batch = batch_of(1, i, i * 100, 100);
    table.sent(Instant{1}, batch, 7);
    table.reported(Instant{2}, WorkerId{1}, i, results);
  }
  REQUIRE(table.newest({}, kAll).size() == TimelineTable::kFinishedMax);
  REQUIRE(table.dropped_total() == 1'000);
  REQUIRE(table.newest({}, 5).back().task == kBatches * 100 + 99);
  REQUIRE(table.newest(GraphId{9, 9}, kAll).empty());
}

}  // namespace raylet
