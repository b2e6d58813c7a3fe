// Scenarios of graphs, from their arrival to their end: this happens to a node, so exactly that must be done.
#include <algorithm>
#include <catch2/catch.hpp>

#include "daemons/raylet/core/node_scenes.h"

namespace raylet {

TEST_CASE("a graph of one task gives its result to the driver that wants it") {
  DrivenNode node(2);
  node.submit(graph_of(7, "inc").task().wanted(0));
  REQUIRE(node.running.size() == 1);
  CHECK(node.running.front().function == "inc");
  RequestId request = node.get({object(7, 0)});
  CHECK(node.answers[request.number].empty());
  node.finish(node.running.front(), "42");
  REQUIRE(node.answers[request.number].size() == 1);
  CHECK(*node.answers[request.number][0].value == "42");
  REQUIRE(node.ended.count(GraphId{0, 7}) == 1);
  CHECK(node.ended[GraphId{0, 7}].code == FailureCode::kNone);
  CHECK(node.all<GiveCredit>().size() == 1);
  node.release({object(7, 0)});
  CHECK(node.facts().object_count == 0);
  CHECK(node.facts().graphs.empty());
}

TEST_CASE("a task runs when its dependencies are there and not before") {
  DrivenNode node(2);
  node.submit(graph_of(7, "f").task().task().task({0, 1}).wanted(2));
  REQUIRE(node.running.size() == 2);
  node.finish(node.running.front());
  REQUIRE(node.running.size() == 1);
  node.finish(node.running.front());
  REQUIRE(node.running.size() == 1);
  CHECK(node.running.front().result == object(7, 2));
  node.finish_all();
  CHECK(node.ended.size() == 1);
  // Only the wanted result is left.
  CHECK(node.facts().object_count == 1);
}

TEST_CASE("a chain of short tasks goes to one worker at one go") {
  DrivenNode node(2);
  ChunkBuilder chunk = graph_of(7, "f");
  chunk.task();
  for (uint64_t i = 1; i < 300; ++i) chunk.task({i - 1});
  chunk.wanted(299);
  node.submit(chunk);
  REQUIRE(node.running.size() == 1);  // its length is not known
  node.finish(node.running.front(), "v", 1);
  CHECK(node.running.size() == 256);
  uint64_t batches = node.facts().batches_sent_total;
  CHECK(node.finish_all(1) == 299);
  CHECK(node.facts().batches_sent_total <= batches + 2);
  CHECK(node.ended.size() == 1);
}

TEST_CASE("many tasks into one finish, and nothing but the wanted result stays") {
  DrivenNode node(2);
  ChunkBuilder chunk = graph_of(7, "f");
  chunk.function(2, "sum");
  std::vector<uint64_t> all;
  for (uint64_t i = 0; i < 3000; ++i) {
    chunk.task();
    all.push_back(i);
  }
  chunk.task(all, 2).wanted(3000);
  node.validates = false;
  node.submit(chunk);
  CHECK(node.finish_all() == 3001);
  node.node.validate();
  CHECK(node.facts().object_count == 1);
  CHECK(node.ended.size() == 1);
}

TEST_CASE(
    "a failed task cancels the rest of a fail_fast graph, and every wanted object answers with its failure") {
  DrivenNode node(2);
  node.submit(graph_of(7, "f").task().task().task({0}).task({1}).wanted(2).wanted(3));
  RequestId request = node.get({object(7, 2), object(7, 3)});
  node.fail(node.running.front(), "boom");
  REQUIRE(node.answers[request.number].size() == 2);
  for (const ObjectAnswer& answer : node.answers[request.number]) {
    CHECK(answer.kind == ObjectAnswer::Kind::kFailed);
    CHECK(answer.failure.message == "boom");
    CHECK(answer.failure.task_name == "f");
  }
  CHECK(node.all<InterruptTask>().size() == 1);
  CHECK(node.ended[GraphId{0, 7}].message == "boom");
  node.finish_all();  // the other one's result is for nobody
  node.release({object(7, 2), object(7, 3)});
  CHECK(node.facts().object_count == 0);
  CHECK(node.facts().graphs.empty());
}

TEST_CASE("a graph that runs before it is whole keeps its results for the tasks that are still to arrive") {
  DrivenNode node(opening_early());
  node.submit(first_part_of(7).task().task().task({0}));
  CHECK(node.finish_all() == 3);
  CHECK(node.ended.empty());
  CHECK(node.facts().object_count == 3);
  ChunkBuilder rest(7);
  rest.raw().first_task = 3;
  rest.task({0, 1}).task({3}).wanted(4);
  node.submit(rest);
  CHECK(node.finish_all() == 2);
  REQUIRE(node.ended.count(GraphId{0, 7}) == 1);
  CHECK(node.ended[GraphId{0, 7}].code == FailureCode::kNone);
  CHECK(node.facts().object_count == 1);
}

TEST_CASE("a graph that is cancelled before it is whole leaves nothing behind") {
  DrivenNode node(opening_early());
  node.submit(first_part_of(7).task().task().task({0}));
  node.finish(node.running.front());
  node.tell(CancelAsked{node.session, GraphId{0, 7}, {}, false, false, {}});
  node.finish_all();
  CHECK(node.ended.count(GraphId{0, 7}) == 1);
  CHECK(node.facts().object_count == 0);
  CHECK(node.facts().graphs.empty());
}

TEST_CASE("a cycle is refused by naming a task on it") {
  DrivenNode node(1);
  node.submit(graph_of(7, "f").task().task({0, 2}).task({1}).wanted(2));
  REQUIRE(node.all<Refuse>().size() == 1);
  CHECK(node.all<Refuse>()[0].failure.code == FailureCode::kGraphInvalid);
  CHECK(node.ended[GraphId{0, 7}].code == FailureCode::kGraphInvalid);
  CHECK(node.running.empty());
}

TEST_CASE("a graph sent twice runs once") {
  DrivenNode node(1);
  ChunkBuilder chunk = graph_of(7, "f");
  chunk.task().wanted(0);
  node.submit(chunk);
  node.submit(chunk);
  CHECK(node.all<Refuse>().empty());
  CHECK(node.finish_all() == 1);
}

TEST_CASE("a graph that is sent again after it was let go, while its results are held, does not run again") {
  DrivenNode node(1);
  for (int i = 0; i < 2; ++i) {
    node.submit(graph_of(7, "f").task().wanted(0));
    node.finish_all();
    CHECK(node.all<ReportGraphEnd>().size() == static_cast<size_t>(i + 1));
    CHECK(node.all<SendBatch>().size() == 1);
    CHECK(node.all<GiveCredit>().size() == static_cast<size_t>(i + 1));
  }
  CHECK(node.facts().object_count == 1);
}

TEST_CASE("a graph is recorded only when it still runs after a while") {
  DrivenNode node(1);
  auto recorded = [&] {
    size_t count = 0;
    for (const Persist& one : node.all<Persist>()) count += std::holds_alternative<RecordGraph>(one.record);
    return count;
  };
  node.submit(graph_of(7, "f").task());
  node.finish_all();
  node.pass(std::chrono::seconds(1));
  CHECK(recorded() == 0);
  node.submit(graph_of(8, "f").task().wanted(0));
  node.pass(std::chrono::seconds(1));
  CHECK(recorded() == 1);
  REQUIRE(!node.all<ReportProgress>().empty());
  CHECK(node.all<ReportProgress>().back().durable);
}

TEST_CASE("a graph that is sent again after it ended is told of its end and does not run again") {
  DrivenNode node(1);
  ChunkBuilder chunk = graph_of(7, "f");
  chunk.task().wanted(0);
  node.submit(chunk);
  CHECK(node.finish_all() == 1);
  CHECK(node.facts().graphs.empty());
  node.ended.clear();
  node.submit(chunk);
  CHECK(node.running.empty());
  CHECK(node.ended.contains(GraphId{0, 7}));
  RequestId request = node.get({object(7, 0)});
  CHECK(node.answers[request.number].size() == 1);
  node.release({object(7, 0)});
  CHECK(node.facts().object_count == 0);
}

TEST_CASE("chunks that were on their way when their graph was cancelled are dropped, but not their functions") {
  DrivenNode node(1);
  node.submit(first_part_of(7).task());
  node.tell(CancelAsked{node.session, GraphId{0, 7}, {}, false, true, {}});
  ChunkBuilder rest(7);
  rest.raw().first_task = 1;
  rest.function(2, "g").task({}, 2);
  node.submit(rest);
  CHECK(node.all<Refuse>().empty());
  CHECK(node.all<GiveCredit>().size() == 2);
  ChunkBuilder next(8);
  next.task({}, 2).wanted(0);
  node.submit(next);
  REQUIRE(node.running.size() == 1);
  CHECK(node.running.front().function == "g");
}

TEST_CASE("calls that read older ones find them though the blocks in between were let go") {
  DrivenNode node(2);
  const uint32_t block = 1'024;  // tasks that are let go of together
  ChunkBuilder chunk = growing_graph_of(7, "f");
  SECTION("a reader of all of them comes while they run") {
    // The last of them ends long after the first ones, whose rows are gone by then.
    std::vector<uint64_t> all;
    for (uint32_t i = 0; i < 3 * block; ++i) {
      chunk.task();
      all.push_back(i);
    }
    node.submit(chunk.task(all));
    CHECK(node.finish_all() == 3 * block + 1);
  }
  SECTION("readers of one come again after other readers ended") {
    chunk.task().task();
    for (uint32_t i = 0; i < 2 * block; ++i) chunk.task({0});
    for (uint32_t i = 0; i < 2 * block; ++i) chunk.task();
    node.submit(chunk);
    // All but the second task, which keeps the first block.
    auto is_slow = [](const NodeHarness::SentTask& task) { return task.result.task == 1; };
    uint32_t finished = 0;
    for (auto next = node.running.begin(); next != node.running.end(); ++finished) {
      node.finish(*next);
      next = std::find_if_not(node.running.begin(), node.running.end(), is_slow);
    }
    CHECK(finished == 4 * block + 1);
    ChunkBuilder more(7, false);
    more.raw().first_task = 4 * block + 2;
    node.submit(more.task({0}));
    CHECK(node.finish_all() == 2);
  }
  RequestId request = node.get({object(7, 0)});
  CHECK(node.answers[request.number].size() == 1);
}

}  // namespace raylet
