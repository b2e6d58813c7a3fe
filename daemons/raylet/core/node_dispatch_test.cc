// Scenarios of which task runs when: this happens to a node, so exactly that must be done.
#include <catch2/catch.hpp>

#include "daemons/raylet/core/node_scenes.h"

namespace raylet {

TEST_CASE("a task that wants more than the node has waits, and a warning says so once") {
  DrivenNode node(1);
  ChunkBuilder chunk(7);
  uint32_t option = chunk.option(wishing(4));
  chunk.function(1, "f").task({}, 1, 1, option).task({}, 1, 1, option).wanted(0);
  node.submit(chunk);
  CHECK(node.running.empty());
  REQUIRE(node.all<TellDriver>().size() == 1);
  CHECK(node.all<TellDriver>()[0].text.find("CPU 4") != std::string::npos);
  Explanation why = node.explain(object(7, 0).hex());
  CHECK(why.found);
  CHECK(why.reason.find("no node can run it") != std::string::npos);
}

TEST_CASE("roots that make data wait while the store is under pressure, but one may always run") {
  DrivenNode node(2);
  node.tell(StoreUsageChanged{1000, 900});
  ChunkBuilder chunk(7);
  TaskOptions producer = wishing(1);
  producer.data_producer = true;
  uint32_t option = chunk.option(producer);
  chunk.function(1, "load").task({}, 1, 1, option).task({}, 1, 1, option).wanted(0).wanted(1);
  node.submit(chunk);
  CHECK(node.running.size() == 1);
  CHECK(node.explain(object(7, 1).hex()).reason.find("Memory is short") != std::string::npos);
  node.tell(StoreUsageChanged{1000, 100});
  CHECK(node.running.size() == 2);
  CHECK(node.finish_all() == 2);
}

TEST_CASE("a task that wants much is not starved by small ones") {
  DrivenNode node(2);
  ChunkBuilder small = graph_of(7, "small");
  for (int i = 0; i < 100; ++i) small.task();
  node.submit(small);
  ChunkBuilder large(8);
  uint32_t option = large.option(wishing(2));
  large.function(2, "large").task({}, 2, 1, option).wanted(0);
  node.submit(large);
  // Each small one takes a second, and as one ends the next takes its place.
  auto runs_large = [&] { return !node.running.empty() && node.running.front().function == "large"; };
  int ended = 0;
  while (!runs_large()) {
    REQUIRE(++ended < 30);
    node.pass(std::chrono::seconds(1));
    node.finish(node.running.front(), "v", 1'000'000);
  }
  CHECK(ended > 4);
  while (!node.running.empty()) node.finish(node.running.front(), "v", 1'000'000);
  CHECK(node.ended.size() == 2);
}

TEST_CASE("a job that waits for a worker of its own gets one, though as many are blocked as may be") {
  NodeOptions options = options_with(1);
  options.blocked_workers_per_slot_max = 1;
  NodeHarness node(options);
  SessionId first = node.driver(1);
  SessionId second = node.driver(2);
  node.submit(first, graph_of(7, "outer").task().wanted(0));
  REQUIRE(node.running.size() == 1);
  node.tell(WorkerBlocked{node.workers.at(node.running.front().worker.number), true});
  ChunkBuilder others = graph_of(8, "other");
  for (int i = 0; i < 20; ++i) others.task();
  node.submit(second, others);
  node.submit(first, graph_of(9, "inner").task().wanted(0));
  for (int seconds = 0; seconds < 30; ++seconds) {
    node.pass(std::chrono::seconds(1));
    auto now_running = node.running;
    for (const auto& task : now_running) {
      if (task.function != "outer") node.finish(task, "v", 1'000'000);
    }
  }
  CHECK(node.ended.contains(GraphId{0, 8}));
  CHECK(node.ended.contains(GraphId{0, 9}));
}

TEST_CASE("nobody is held up for a task that has room and lacks only a worker of its job") {
  NodeOptions options = options_with(1);
  options.blocked_workers_per_slot_max = 1;
  NodeHarness node(options);
  SessionId first = node.driver(1);
  SessionId second = node.driver(2);
  node.submit(first, graph_of(7, "outer").task().wanted(0));
  node.tell(WorkerBlocked{node.workers.at(node.running.front().worker.number), true});
  ChunkBuilder others = graph_of(8, "other");
  for (int i = 0; i < 20; ++i) others.task();
  node.submit(second, others);
  node.answers_starts = false;  // the machine is slow
  node.submit(first, graph_of(9, "inner").task().wanted(0));
  for (int seconds = 0; seconds < 30; ++seconds) {
    node.pass(std::chrono::seconds(1));
    auto now_running = node.running;
    for (const auto& task : now_running) {
      if (task.function == "other") node.finish(task, "v", 1'000'000);
    }
  }
  CHECK(node.ended.contains(GraphId{0, 8}));
  CHECK(!node.ended.contains(GraphId{0, 9}));
}

TEST_CASE("what was kept free for a task that wants much is used as soon as that task is cancelled") {
  DrivenNode node(2);
  ChunkBuilder small = graph_of(7, "small");
  for (int i = 0; i < 6; ++i) small.task();
  node.submit(small);
  ChunkBuilder large = growing_graph_of(8, "large");
  uint32_t option = large.option(wishing(2));
  node.submit(large.task({}, 1, 1, option));
  for (int seconds : {1, 4}) {
    node.pass(std::chrono::seconds(seconds));
    node.finish(node.running.front(), "v", 1'000'000);
  }
  REQUIRE(node.running.size() == 1);
  const CancelAsked cancel{node.session, {}, object(8, 0)};
  SECTION("while one CPU of the two is free") { node.tell(cancel); }
  SECTION("at the moment at which it could have run") {
    auto last = node.running.front();
    ResultsArrived result{node.workers.at(last.worker.number), last.batch, {node.result_of(last, "v", 1'000'000)}};
    node.running.clear();
    node.step({cancel, result});
  }
  CHECK(node.running.size() == 2);
}

TEST_CASE("a task that has no room for as long as an actor lives holds nobody up") {
  DrivenNode node(2);
  ChunkBuilder actor = growing_graph_of(6, "Counter", FunctionDef::Kind::kActorClass);
  uint32_t half = actor.option(wishing(0.5));
  node.submit(actor.task({}, 1, 1, half));
  node.finish_all();
  ChunkBuilder large = growing_graph_of(8, "large");
  uint32_t option = large.option(wishing(2));
  node.submit(large.task({}, 1, 1, option));
  ChunkBuilder small = graph_of(7, "small");
  for (int i = 0; i < 20; ++i) small.task();
  node.submit(small);
  for (int seconds = 0; seconds < 20 && !node.running.empty(); ++seconds) {
    node.pass(std::chrono::seconds(1));
    node.finish(node.running.front(), "v", 1'000'000);
  }
  CHECK(node.ended.contains(GraphId{0, 7}));
  node.tell(KillActorAsked{node.session, object(6, 0), true});
  REQUIRE(node.running.size() == 1);
  CHECK(node.running.front().function == "large");
}

TEST_CASE("a worker that went on though others had taken its place is given the next place, and then all go on") {
  DrivenNode node(2);
  node.submit(graph_of(7, "outer").task().wanted(0));
  const SessionId outer = node.workers.at(node.running.front().worker.number);
  node.tell(WorkerBlocked{outer, true});
  ChunkBuilder others = graph_of(8, "other");
  for (int i = 0; i < 6; ++i) others.task();
  node.submit(others);
  node.tell(WorkerBlocked{outer, false});
  REQUIRE(node.running.size() == 3);
  node.finish(node.running.back(), "v", 1'000'000);
  CHECK(node.running.size() == 2);
  node.finish(node.running.back(), "v", 1'000'000);
  CHECK(node.running.size() == 2);
}

TEST_CASE("a task that could run at once and waits for a worker says so") {
  NodeOptions options = options_with(1);
  options.blocked_workers_per_slot_max = 0;
  options.workers_max = 1;
  NodeHarness node(options);
  SessionId first = node.driver(1);
  SessionId second = node.driver(2);
  node.submit(first, graph_of(7, "outer").task().wanted(0));
  node.tell(WorkerBlocked{node.workers.at(node.running.front().worker.number), true});
  node.submit(second, graph_of(8, "other").task().wanted(0));
  CHECK(node.explain(object(8, 0).hex()).reason.find("waits for a worker of its job") != std::string::npos);
}

TEST_CASE("a kind of task that waits for room is given it also while another job's kinds come and go") {
  DrivenNode node(2);
  SessionId other = node.driver(2);
  ChunkBuilder small = graph_of(7, "small");
  for (int i = 0; i < 40; ++i) small.task();
  node.submit(small);
  ChunkBuilder large(8);
  uint32_t option = large.option(wishing(2));
  node.submit(other, large.function(2, "large").task({}, 2, 1, option).wanted(0));
  for (uint64_t i = 0; i < 30 && node.running.front().function != "large"; ++i) {
    node.pass(std::chrono::seconds(1));
    ChunkBuilder passing(100 + i);
    uint32_t half = passing.option(wishing(0.5));
    node.submit(passing.function(3, "passing").task({}, 3, 1, half));
    node.finish(node.running.front(), "v", 1'000'000);
  }
  CHECK(node.running.front().function == "large");
}

}  // namespace raylet
