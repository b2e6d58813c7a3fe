// Scenarios of workers and drivers, and what their coming and going means: this happens to a node, so exactly that
// must be done.
#include <catch2/catch.hpp>

#include "daemons/raylet/core/node_scenes.h"

namespace raylet {

TEST_CASE("a node keeps as many workers warm as it has slots") {
  NodeHarness node(options_with(2));
  node.tell(Tick{});
  CHECK(node.all<StartWorker>().size() == 2);
  CHECK(node.facts().workers.size() == 2);
}

TEST_CASE("a worker that dies has its task run again, until it has died too often") {
  DrivenNode node(1);
  node.submit(graph_of(7, "f").task().wanted(0));
  RequestId request = node.get({object(7, 0)});
  for (uint32_t attempt = 0; attempt < 4; ++attempt) {
    REQUIRE(node.running.size() == 1);
    CHECK(node.running.front().attempt == attempt);
    node.kill(node.running.front().worker, 11);
    node.pass(std::chrono::seconds(5));
  }
  CHECK(node.running.empty());
  REQUIRE(node.answers[request.number].size() == 1);
  const Failure& failure = node.answers[request.number][0].failure;
  CHECK(failure.code == FailureCode::kWorkerCrashed);
  CHECK(failure.message.find("signal 11") != std::string::npos);
  CHECK(failure.task_name == "f");
}

TEST_CASE("a driver that dies leaves nothing behind") {
  DrivenNode node(2);
  node.submit(graph_of(7, "f").task().task({0}).wanted(1));
  node.tell(PutArrived{node.session, object(50, 0), make_bytes("big"), {}});
  node.tell(SessionClosed{node.session});
  NodeReport report = node.facts();
  CHECK(report.graphs.empty());
  CHECK(report.object_count == 0);
  CHECK(report.drivers.empty());
  CHECK(report.workers.size() == 2);  // fresh ones
}

TEST_CASE("a worker that waits inside a task gives its CPU to another") {
  DrivenNode node(1);
  node.submit(graph_of(7, "outer").task().wanted(0));
  auto outer = node.running.front();
  SessionId worker = node.workers.at(outer.worker.number);
  node.submit(worker, growing_graph_of(8, "inner").task());
  CHECK(node.running.size() == 1);
  RequestId request = node.get(worker, {object(8, 0)});
  node.tell(WorkerBlocked{worker, true});
  REQUIRE(node.running.size() == 2);
  CHECK(node.running.back().function == "inner");
  node.finish(node.running.back(), "inside");
  REQUIRE(node.answers[request.number].size() == 1);
  node.tell(WorkerBlocked{worker, false});
  node.finish_all();
  CHECK(node.ended.contains(GraphId{0, 7}));
}

TEST_CASE("a job that wants a worker while another's are idle gets a fresh one") {
  NodeHarness node(options_with(1));
  SessionId first = node.driver(1), second = node.driver(2);
  node.submit(first, graph_of(7, "f").task().wanted(0));
  node.finish_all();
  node.submit(second, graph_of(8, "g").task().wanted(0));
  REQUIRE(node.running.size() == 1);
  node.finish_all();
  CHECK(node.ended.size() == 2);
}

TEST_CASE("cancelling a task also cancels what it submitted, and nothing that others did") {
  DrivenNode node(2);
  ChunkBuilder chunk = graph_of(7, "outer");
  chunk.task().task().wanted(0).wanted(1);
  chunk.raw().fail_fast = false;
  node.submit(chunk);
  REQUIRE(node.running.size() == 2);
  auto outer = node.running.front();
  SessionId worker = node.workers.at(outer.worker.number);
  ChunkBuilder inner = growing_graph_of(8, "inner");
  inner.task();
  inner.raw().submitted_by_batch = outer.batch;
  inner.raw().submitted_by_position = outer.position;
  node.submit(worker, inner);
  RequestId of_inner = node.get(worker, {object(8, 0)});
  RequestId of_outer = node.get({object(7, 0)});
  RequestId of_other = node.get({object(7, 1)});
  node.tell(CancelAsked{node.session, {}, object(7, 0), false, true, RequestId{99}});
  CHECK(node.all<Acknowledge>().size() == 1);
  REQUIRE(node.answers[of_inner.number].size() == 1);
  CHECK(node.answers[of_inner.number][0].failure.code == FailureCode::kTaskCancelled);
  REQUIRE(node.answers[of_outer.number].size() == 1);
  CHECK(node.all<InterruptTask>().size() == 1);
  CHECK(node.answers[of_other.number].empty());
}

TEST_CASE("a forced cancel kills the worker and does not try the task again") {
  DrivenNode node(1);
  node.submit(graph_of(7, "f").task().wanted(0));
  node.tell(CancelAsked{node.session, GraphId{0, 7}, {}, true, true, {}});
  CHECK(node.all<StopWorker>().size() == 1);
  CHECK(node.running.empty());
  CHECK(node.ended[GraphId{0, 7}].code == FailureCode::kTaskCancelled);
  CHECK(node.workers.size() == 1);
}

TEST_CASE("what waits unread behind a long task is handed to an idle worker") {
  DrivenNode node(2);
  node.submit(graph_of(6, "f").task().wanted(0));
  node.finish_all(200);
  ChunkBuilder chunk = graph_of(7, "f");
  for (int i = 0; i < 40; ++i) chunk.task();
  chunk.wanted(0);
  node.submit(chunk);
  // Both workers have two batches; one of them gets stuck in its first task.
  WorkerId stuck = node.running.front().worker;
  auto others = [&] {
    for (const auto& task : node.running) {
      if (task.worker != stuck) return true;
    }
    return false;
  };
  while (others()) {
    for (const auto& task : node.running) {
      if (task.worker == stuck) continue;
      node.finish(task, "v", 200);
      break;
    }
  }
  node.pass(std::chrono::milliseconds(20));
  node.pass(std::chrono::milliseconds(1));
  CHECK(node.all<RetractBatches>().size() == 1);
  CHECK(others());
  node.finish_all(200);
  CHECK(node.ended.contains(GraphId{0, 7}));
}

TEST_CASE("a worker is explained by its number, also with what it is before it") {
  DrivenNode node(1);
  node.submit(graph_of(7, "f").task().wanted(0));
  std::string number = std::to_string(node.running.front().worker.number);
  for (const std::string& id : {number, "worker:" + number}) {
    Explanation why = node.explain(id);
    CHECK(why.kind == "worker");
    CHECK(why.reason == "It runs f.");
  }
  CHECK(!node.explain("worker:99").found);
}

}  // namespace raylet
