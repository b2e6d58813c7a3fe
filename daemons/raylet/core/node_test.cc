// Scenarios: this happens to a node, so exactly that must be done.
#include <catch2/catch.hpp>

#include "daemons/raylet/core/node_harness.h"

namespace raylet {
namespace {

ObjectId object(uint64_t graph, uint64_t task, uint32_t index = 0) { return {GraphId{0, graph}, task, index}; }

TEST_CASE("a node keeps as many workers warm as it has slots") {
  NodeHarness node(options_with(2));
  node.tell(Tick{});
  CHECK(node.all<StartWorker>().size() == 2);
  CHECK(node.node.report(node.now).workers.size() == 2);
}

TEST_CASE("a graph of one task gives its result to the driver that wants it") {
  NodeHarness node(options_with(2));
  SessionId driver = node.driver();
  ChunkBuilder chunk(7);
  chunk.function(1, "inc").task().wanted(0);
  node.submit(driver, chunk);
  REQUIRE(node.running.size() == 1);
  CHECK(node.running.front().function == "inc");
  RequestId request = node.get(driver, {object(7, 0)});
  CHECK(node.answers[request.number].empty());
  node.finish(node.running.front(), "42");
  REQUIRE(node.answers[request.number].size() == 1);
  CHECK(*node.answers[request.number][0].value == "42");
  REQUIRE(node.ended.count(GraphId{0, 7}) == 1);
  CHECK(node.ended[GraphId{0, 7}].code == FailureCode::kNone);
  CHECK(node.all<GiveCredit>().size() == 1);
  node.tell(ReferencesChanged{driver, {}, {object(7, 0)}, {}});
  CHECK(node.node.report(node.now).object_count == 0);
  CHECK(node.node.report(node.now).graphs.empty());
}

TEST_CASE("a task runs when its dependencies are there and not before") {
  NodeHarness node(options_with(2));
  SessionId driver = node.driver();
  ChunkBuilder chunk(7);
  chunk.function(1, "f").task().task().task({0, 1}).wanted(2);
  node.submit(driver, chunk);
  REQUIRE(node.running.size() == 2);
  node.finish(node.running.front());
  REQUIRE(node.running.size() == 1);
  node.finish(node.running.front());
  REQUIRE(node.running.size() == 1);
  CHECK(node.running.front().result == object(7, 2));
  node.finish_all();
  CHECK(node.ended.size() == 1);
  // Only the wanted result is left.
  CHECK(node.node.report(node.now).object_count == 1);
}

TEST_CASE("a chain of short tasks goes to one worker at one go") {
  NodeHarness node(options_with(2));
  SessionId driver = node.driver();
  ChunkBuilder chunk(7);
  chunk.function(1, "f").task();
  for (uint64_t i = 1; i < 300; ++i) chunk.task({i - 1});
  chunk.wanted(299);
  node.submit(driver, chunk);
  REQUIRE(node.running.size() == 1);  // its length is not known
  node.finish(node.running.front(), "v", 1);
  CHECK(node.running.size() == 256);
  uint64_t batches = node.node.report(node.now).batches_sent_total;
  CHECK(node.finish_all(1) == 299);
  CHECK(node.node.report(node.now).batches_sent_total <= batches + 2);
  CHECK(node.ended.size() == 1);
}

TEST_CASE("many tasks into one finish, and nothing but the wanted result stays") {
  NodeHarness node(options_with(2));
  SessionId driver = node.driver();
  ChunkBuilder chunk(7);
  chunk.function(1, "f").function(2, "sum");
  std::vector<uint64_t> all;
  for (uint64_t i = 0; i < 3000; ++i) {
    chunk.task();
    all.push_back(i);
  }
  chunk.task(all, 2).wanted(3000);
  node.validates = false;
  node.submit(driver, chunk);
  CHECK(node.finish_all() == 3001);
  node.node.validate();
  CHECK(node.node.report(node.now).object_count == 1);
  CHECK(node.ended.size() == 1);
}

TEST_CASE("a failed task cancels the rest of a fail_fast graph, and every wanted object answers with its failure") {
  NodeHarness node(options_with(2));
  SessionId driver = node.driver();
  ChunkBuilder chunk(7);
  chunk.function(1, "f").task().task().task({0}).task({1}).wanted(2).wanted(3);
  node.submit(driver, chunk);
  RequestId request = node.get(driver, {object(7, 2), object(7, 3)});
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
  node.tell(ReferencesChanged{driver, {}, {object(7, 2), object(7, 3)}, {}});
  CHECK(node.node.report(node.now).object_count == 0);
  CHECK(node.node.report(node.now).graphs.empty());
}

TEST_CASE("a graph that runs before it is whole keeps its results for the tasks that are still to arrive") {
  NodeOptions options = options_with(2);
  options.open_early_tasks = 1;
  NodeHarness node(options);
  SessionId driver = node.driver();
  ChunkBuilder start(7);
  start.function(1, "f").task().task().task({0});
  start.raw().last = false;
  node.submit(driver, start);
  CHECK(node.finish_all() == 3);
  CHECK(node.ended.empty());
  CHECK(node.node.report(node.now).object_count == 3);
  ChunkBuilder rest(7);
  rest.raw().first_task = 3;
  rest.task({0, 1}).task({3}).wanted(4);
  node.submit(driver, rest);
  CHECK(node.finish_all() == 2);
  REQUIRE(node.ended.count(GraphId{0, 7}) == 1);
  CHECK(node.ended[GraphId{0, 7}].code == FailureCode::kNone);
  CHECK(node.node.report(node.now).object_count == 1);
}

TEST_CASE("a graph that is cancelled before it is whole leaves nothing behind") {
  NodeOptions options = options_with(2);
  options.open_early_tasks = 1;
  NodeHarness node(options);
  SessionId driver = node.driver();
  ChunkBuilder start(7);
  start.function(1, "f").task().task().task({0});
  start.raw().last = false;
  node.submit(driver, start);
  node.finish(node.running.front());
  node.tell(CancelAsked{driver, GraphId{0, 7}, {}, false, false, {}});
  node.finish_all();
  CHECK(node.ended.count(GraphId{0, 7}) == 1);
  CHECK(node.node.report(node.now).object_count == 0);
  CHECK(node.node.report(node.now).graphs.empty());
}

TEST_CASE("a worker that dies has its task run again, until it has died too often") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  ChunkBuilder chunk(7);
  chunk.function(1, "f").task().wanted(0);
  node.submit(driver, chunk);
  RequestId request = node.get(driver, {object(7, 0)});
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

TEST_CASE("a result in the store is sealed before it is used, pinned for who gets it, and freed after the last pin") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  node.tell(StoreUsageChanged{1 << 30, 0});
  ChunkBuilder chunk(7);
  chunk.function(1, "f").task().task({0}).wanted(0);
  node.submit(driver, chunk);
  auto task = node.running.front();
  SessionId worker = node.workers.at(task.worker.number);
  node.tell(SlabAsked{worker, RequestId{5}, 1 << 20});
  REQUIRE(node.slabs.count(5) == 1);
  TaskResult result = NodeHarness::result_of(task, "", 5);
  result.returns[0].payload = SealedBytes{node.slabs[5].first, 0, 1000};
  node.report(task, std::move(result));
  CHECK(node.stored.contains(object(7, 0)));
  CHECK(node.store_pins[object(7, 0)] == 1);  // the reader's batch
  node.finish(node.running.front());
  RequestId request = node.get(driver, {object(7, 0)});
  REQUIRE(node.answers[request.number].size() == 1);
  CHECK(node.answers[request.number][0].at.size_bytes == 1000);
  node.tell(ReferencesChanged{driver, {}, {object(7, 0)}, {}});
  node.tell(ReferencesChanged{worker, {}, {}, {{object(7, 0), 1}}});
  CHECK(node.stored.size() == 1);
  node.tell(ReferencesChanged{driver, {}, {}, {{object(7, 0), 1}}});
  CHECK(node.stored.empty());
  CHECK(node.node.report(node.now).graphs.empty());
}

TEST_CASE("what was evicted is made again when it is asked for, with what it is made of") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  ChunkBuilder chunk(7);
  chunk.function(1, "f").task().task({0}).wanted(1);
  node.submit(driver, chunk);
  auto seal_front = [&] {
    auto task = node.running.front();
    SessionId worker = node.workers.at(task.worker.number);
    node.tell(SlabAsked{worker, RequestId{5}, 1 << 20});
    TaskResult result = NodeHarness::result_of(task, "", 5);
    result.returns[0].payload = SealedBytes{node.slabs[5].first, 0, 1000};
    node.report(task, std::move(result));
    node.tell(ReferencesChanged{worker, {}, {}, {{object(7, 0), 1}}});
  };
  seal_front();
  seal_front();
  CHECK(node.stored == std::set<ObjectId>{object(7, 1)});
  node.tell(ObjectsEvicted{{object(7, 1)}});
  CHECK(node.stored.empty());
  CHECK(node.running.empty());
  RequestId request = node.get(driver, {object(7, 1)});
  REQUIRE(node.running.size() == 2);  // as one batch: the second takes the first one's result from there
  CHECK(node.running.front().result == object(7, 0));
  CHECK(node.running.front().attempt == 1);
  seal_front();
  seal_front();
  REQUIRE(node.answers[request.number].size() == 1);
  CHECK(node.answers[request.number][0].kind == ObjectAnswer::Kind::kLocated);
}

TEST_CASE("a cycle is refused by naming a task on it") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  ChunkBuilder chunk(7);
  chunk.function(1, "f").task().task({0, 2}).task({1}).wanted(2);
  node.submit(driver, chunk);
  REQUIRE(node.all<Refuse>().size() == 1);
  CHECK(node.all<Refuse>()[0].failure.code == FailureCode::kGraphInvalid);
  CHECK(node.ended[GraphId{0, 7}].code == FailureCode::kGraphInvalid);
  CHECK(node.running.empty());
}

TEST_CASE("nobody has heard of the object") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  RequestId request = node.get(driver, {object(9, 0)});
  REQUIRE(node.answers[request.number].size() == 1);
  CHECK(node.answers[request.number][0].failure.code == FailureCode::kObjectUnknown);
}

TEST_CASE("a graph sent twice runs once") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  ChunkBuilder chunk(7);
  chunk.function(1, "f").task().wanted(0);
  node.submit(driver, chunk);
  node.submit(driver, chunk);
  CHECK(node.all<Refuse>().empty());
  CHECK(node.finish_all() == 1);
}

TEST_CASE("a graph that is sent again after it was let go, while its results are held, does not run again") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  for (int i = 0; i < 2; ++i) {
    ChunkBuilder chunk(7);
    chunk.function(1, "f").task().wanted(0);
    node.submit(driver, chunk);
    node.finish_all();
    CHECK(node.all<ReportGraphEnd>().size() == static_cast<size_t>(i + 1));
    CHECK(node.all<SendBatch>().size() == 1);
    CHECK(node.all<GiveCredit>().size() == static_cast<size_t>(i + 1));
  }
  CHECK(node.node.report(node.now).object_count == 1);
}

TEST_CASE("a put is held by who put it and can be an input") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  node.tell(PutArrived{driver, object(50, 0), make_bytes("big"), {}});
  ChunkBuilder chunk(7);
  chunk.function(1, "f").task().external(object(50, 0)).wanted(0);
  node.submit(driver, chunk);
  node.tell(ReferencesChanged{driver, {}, {object(50, 0)}, {}});
  REQUIRE(node.running.size() == 1);
  CHECK(node.node.report(node.now).object_count == 2);
  node.finish_all();
  CHECK(node.node.report(node.now).object_count == 1);
}

TEST_CASE("a driver that dies leaves nothing behind") {
  NodeHarness node(options_with(2));
  SessionId driver = node.driver();
  ChunkBuilder chunk(7);
  chunk.function(1, "f").task().task({0}).wanted(1);
  node.submit(driver, chunk);
  node.tell(PutArrived{driver, object(50, 0), make_bytes("big"), {}});
  node.tell(SessionClosed{driver});
  NodeReport report = node.node.report(node.now);
  CHECK(report.graphs.empty());
  CHECK(report.object_count == 0);
  CHECK(report.drivers.empty());
  CHECK(report.workers.size() == 2);  // fresh ones
}

TEST_CASE("a worker that waits inside a task gives its CPU to another") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  ChunkBuilder chunk(7);
  chunk.function(1, "outer").task().wanted(0);
  node.submit(driver, chunk);
  auto outer = node.running.front();
  SessionId worker = node.workers.at(outer.worker.number);
  ChunkBuilder inner(8, false);
  inner.function(1, "inner").task();
  inner.raw().hold_all = true;
  node.submit(worker, inner);
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

TEST_CASE("calls of an actor run in order on its own worker, and it ends when nobody holds it") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  ChunkBuilder chunk(7, false);
  chunk.function(1, "Counter", FunctionDef::Kind::kActorClass).task();
  chunk.raw().hold_all = true;
  node.submit(driver, chunk);
  ChunkBuilder calls(8, false);
  TaskOptions of_actor;
  of_actor.actor = object(7, 0);
  uint32_t option = calls.option(of_actor);
  calls.function(2, "add", FunctionDef::Kind::kActorMethod);
  for (int i = 0; i < 3; ++i) calls.task({}, 2, 1, option);
  calls.raw().hold_all = true;
  node.submit(driver, calls);
  REQUIRE(node.running.size() == 1);
  WorkerId worker = node.running.front().worker;
  node.finish(node.running.front());
  uint64_t expected = 0;
  while (!node.running.empty()) {
    CHECK(node.running.front().worker == worker);
    CHECK(node.running.front().result == object(8, expected++));
    node.finish(node.running.front());
  }
  CHECK(expected == 3);
  CHECK(node.workers.size() == 2);
  node.tell(ReferencesChanged{driver, {}, {object(7, 0)}, {}});
  CHECK(!node.workers.contains(worker.number));
}

TEST_CASE("a job that wants a worker while another's are idle gets a fresh one") {
  NodeHarness node(options_with(1));
  SessionId first = node.driver(1), second = node.driver(2);
  ChunkBuilder a(7), b(8);
  a.function(1, "f").task().wanted(0);
  b.function(1, "g").task().wanted(0);
  node.submit(first, a);
  node.finish_all();
  node.submit(second, b);
  REQUIRE(node.running.size() == 1);
  node.finish_all();
  CHECK(node.ended.size() == 2);
}

TEST_CASE("cancelling a task also cancels what it submitted, and nothing that others did") {
  NodeHarness node(options_with(2));
  SessionId driver = node.driver();
  ChunkBuilder chunk(7);
  chunk.function(1, "outer").task().task().wanted(0).wanted(1);
  chunk.raw().fail_fast = false;
  node.submit(driver, chunk);
  REQUIRE(node.running.size() == 2);
  auto outer = node.running.front();
  SessionId worker = node.workers.at(outer.worker.number);
  ChunkBuilder inner(8, false);
  inner.function(1, "inner").task();
  inner.raw().hold_all = true;
  inner.raw().submitted_by_batch = outer.batch;
  inner.raw().submitted_by_position = outer.position;
  node.submit(worker, inner);
  RequestId of_inner = node.get(worker, {object(8, 0)});
  RequestId of_outer = node.get(driver, {object(7, 0)});
  RequestId of_other = node.get(driver, {object(7, 1)});
  node.tell(CancelAsked{driver, {}, object(7, 0), false, true, RequestId{99}});
  CHECK(node.all<Acknowledge>().size() == 1);
  REQUIRE(node.answers[of_inner.number].size() == 1);
  CHECK(node.answers[of_inner.number][0].failure.code == FailureCode::kTaskCancelled);
  REQUIRE(node.answers[of_outer.number].size() == 1);
  CHECK(node.all<InterruptTask>().size() == 1);
  CHECK(node.answers[of_other.number].empty());
}

TEST_CASE("calls that read older ones find them though the blocks in between were let go") {
  NodeHarness node(options_with(2));
  SessionId driver = node.driver();
  const uint32_t block = 1'024;  // tasks that are let go of together
  SECTION("a reader of all of them comes while they run") {
    // The last of them ends long after the first ones, whose rows are gone by then.
    ChunkBuilder chunk(7, false);
    chunk.function(1, "f");
    std::vector<uint64_t> all;
    for (uint32_t i = 0; i < 3 * block; ++i) {
      chunk.task();
      all.push_back(i);
    }
    chunk.task(all);
    chunk.raw().hold_all = true;
    node.submit(driver, chunk);
    CHECK(node.finish_all() == 3 * block + 1);
  }
  SECTION("readers of one come again after other readers ended") {
    ChunkBuilder chunk(7, false);
    chunk.function(1, "f").task().task();
    for (uint32_t i = 0; i < 2 * block; ++i) chunk.task({0});
    for (uint32_t i = 0; i < 2 * block; ++i) chunk.task();
    chunk.raw().hold_all = true;
    node.submit(driver, chunk);
    // All but the second task, which keeps the first block.
    auto is_slow = [](const NodeHarness::SentTask& task) { return task.result.task == 1; };
    uint32_t finished = 0;
    for (auto next = node.running.begin(); next != node.running.end(); ++finished) {
      node.finish(*next);
      next = std::find_if_not(node.running.begin(), node.running.end(), is_slow);
    }
    CHECK(finished == 4 * block + 1);
    ChunkBuilder more(7, false);
    more.task({0});
    more.raw().first_task = 4 * block + 2;
    node.submit(driver, more);
    CHECK(node.finish_all() == 2);
  }
  RequestId request = node.get(driver, {object(7, 0)});
  CHECK(node.answers[request.number].size() == 1);
}

TEST_CASE("a forced cancel kills the worker and does not try the task again") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  ChunkBuilder chunk(7);
  chunk.function(1, "f").task().wanted(0);
  node.submit(driver, chunk);
  node.tell(CancelAsked{driver, GraphId{0, 7}, {}, true, true, {}});
  CHECK(node.all<StopWorker>().size() == 1);
  CHECK(node.running.empty());
  CHECK(node.ended[GraphId{0, 7}].code == FailureCode::kTaskCancelled);
  CHECK(node.workers.size() == 1);
}

TEST_CASE("a task that wants more than the node has waits, and a warning says so once") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  ChunkBuilder chunk(7);
  TaskOptions wish;
  REQUIRE(wish.resources.set("CPU", 4).ok());
  uint32_t option = chunk.option(wish);
  chunk.function(1, "f").task({}, 1, 1, option).task({}, 1, 1, option).wanted(0);
  node.submit(driver, chunk);
  CHECK(node.running.empty());
  REQUIRE(node.all<TellDriver>().size() == 1);
  CHECK(node.all<TellDriver>()[0].text.find("CPU 4") != std::string::npos);
  Explanation why = node.node.explain(node.now, object(7, 0).hex());
  CHECK(why.found);
  CHECK(why.reason.find("no node can run it") != std::string::npos);
}

TEST_CASE("roots that make data wait while the store is under pressure, but one may always run") {
  NodeHarness node(options_with(2));
  SessionId driver = node.driver();
  node.tell(StoreUsageChanged{1000, 900});
  ChunkBuilder chunk(7);
  TaskOptions producer;
  REQUIRE(producer.resources.set("CPU", 1).ok());
  producer.data_producer = true;
  uint32_t option = chunk.option(producer);
  chunk.function(1, "load").task({}, 1, 1, option).task({}, 1, 1, option).wanted(0).wanted(1);
  node.submit(driver, chunk);
  CHECK(node.running.size() == 1);
  CHECK(node.node.explain(node.now, object(7, 1).hex()).reason.find("Memory is short") != std::string::npos);
  node.tell(StoreUsageChanged{1000, 100});
  CHECK(node.running.size() == 2);
  CHECK(node.finish_all() == 2);
}

TEST_CASE("what waits unread behind a long task is handed to an idle worker") {
  NodeHarness node(options_with(2));
  SessionId driver = node.driver();
  ChunkBuilder warm(6);
  warm.function(1, "f").task().wanted(0);
  node.submit(driver, warm);
  node.finish_all(200);
  ChunkBuilder chunk(7);
  chunk.function(1, "f");
  for (int i = 0; i < 40; ++i) chunk.task();
  chunk.wanted(0);
  node.submit(driver, chunk);
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

TEST_CASE("an actor's name is written down before its constructor runs, and whoever asks finds its handle") {
  NodeHarness node(options_with(1));
  node.answers_persist = false;
  SessionId driver = node.driver();
  ChunkBuilder chunk(7, false);
  TaskOptions named;
  REQUIRE(named.resources.set("CPU", 1).ok());
  named.actor_name = "counter";
  named.actor_handle = make_bytes("handle");
  uint32_t option = chunk.option(named);
  chunk.function(1, "Counter", FunctionDef::Kind::kActorClass).task({}, 1, 1, option);
  chunk.raw().hold_all = true;
  node.submit(driver, chunk);
  CHECK(node.running.empty());
  std::vector<Persist> persists = node.all<Persist>();
  REQUIRE(std::holds_alternative<RecordName>(persists.back().record));
  node.tell(Persisted{persists.back().ticket, {}, {}});
  CHECK(node.running.size() == 1);
  node.finish_all();
  node.tell(FindActorAsked{driver, RequestId{9}, "counter", ""});
  REQUIRE(node.all<AnswerFindActor>().size() == 1);
  CHECK(*node.all<AnswerFindActor>()[0].handle == "handle");
  node.tell(KillActorAsked{driver, object(7, 0), true});
  node.tell(FindActorAsked{driver, RequestId{10}, "counter", ""});
  CHECK(node.all<AnswerFindActor>()[1].failure.code == FailureCode::kActorNotFound);
}

TEST_CASE("calls of an actor whose worker dies fail with the reason") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  ChunkBuilder chunk(7, false);
  chunk.function(1, "Counter", FunctionDef::Kind::kActorClass).task();
  chunk.raw().hold_all = true;
  node.submit(driver, chunk);
  node.finish_all();
  ChunkBuilder calls(8, false);
  TaskOptions of_actor;
  of_actor.actor = object(7, 0);
  uint32_t option = calls.option(of_actor);
  calls.function(2, "add", FunctionDef::Kind::kActorMethod).task({}, 2, 1, option).task({}, 2, 1, option);
  calls.raw().hold_all = true;
  node.submit(driver, calls);
  REQUIRE(!node.running.empty());
  RequestId request = node.get(driver, {object(8, 0), object(8, 1)});
  node.kill(node.running.front().worker, 9);
  REQUIRE(node.answers[request.number].size() == 2);
  for (const auto& answer : node.answers[request.number]) {
    CHECK(answer.failure.code == FailureCode::kActorDied);
    CHECK(answer.failure.message.find("signal 9") != std::string::npos);
  }
}

TEST_CASE("several results of one task are held and freed one by one") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  ChunkBuilder chunk(7);
  chunk.function(1, "split").task({}, 1, 3).wanted(0);
  node.submit(driver, chunk);
  node.finish_all();
  CHECK(node.node.report(node.now).object_count == 3);
  node.tell(ReferencesChanged{driver, {}, {object(7, 0, 1)}, {}});
  CHECK(node.node.report(node.now).object_count == 2);
  RequestId request = node.get(driver, {object(7, 0, 2), object(7, 0, 1)});
  REQUIRE(node.answers[request.number].size() == 2);
  node.tell(ReferencesChanged{driver, {}, {object(7, 0, 0), object(7, 0, 2)}, {}});
  CHECK(node.node.report(node.now).object_count == 0);
}

TEST_CASE("a seal in a slab that the session does not lease closes the session and harms nobody") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  node.tell(PutArrived{driver, object(50, 0), SealedBytes{SlabId{99}, 0, 10}, {}});
  CHECK(node.all<CloseSession>().size() == 1);
  CHECK(node.stored.empty());
}

TEST_CASE("an object larger than the store is refused with both sizes") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  node.tell(StoreUsageChanged{1000, 0});
  node.tell(SlabAsked{driver, RequestId{1}, 5000});
  REQUIRE(node.all<GrantSlab>().size() == 1);
  const Failure failure = node.all<GrantSlab>()[0].failure;
  CHECK(failure.code == FailureCode::kObjectTooLarge);
  CHECK(failure.message.find("5000") != std::string::npos);
  CHECK(failure.message.find("1000") != std::string::npos);
}

TEST_CASE("a graph is recorded only when it still runs after a while") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  auto recorded = [&] {
    size_t count = 0;
    for (const Persist& persist : node.all<Persist>()) count += std::holds_alternative<RecordGraph>(persist.record);
    return count;
  };
  ChunkBuilder quick(7);
  quick.function(1, "f").task();
  node.submit(driver, quick);
  node.finish_all();
  node.pass(std::chrono::seconds(1));
  CHECK(recorded() == 0);
  ChunkBuilder slow(8);
  slow.function(1, "f").task().wanted(0);
  node.submit(driver, slow);
  node.pass(std::chrono::seconds(1));
  CHECK(recorded() == 1);
  REQUIRE(!node.all<ReportProgress>().empty());
  CHECK(node.all<ReportProgress>().back().durable);
}

TEST_CASE("a graph that is sent again after it ended is told of its end and does not run again") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  ChunkBuilder chunk(7);
  chunk.function(1, "f").task().wanted(0);
  node.submit(driver, chunk);
  CHECK(node.finish_all() == 1);
  CHECK(node.node.report(node.now).graphs.empty());
  node.ended.clear();
  node.submit(driver, chunk);
  CHECK(node.running.empty());
  CHECK(node.ended.contains(GraphId{0, 7}));
  RequestId request = node.get(driver, {object(7, 0)});
  CHECK(node.answers[request.number].size() == 1);
  node.tell(ReferencesChanged{driver, {}, {object(7, 0)}, {}});
  CHECK(node.node.report(node.now).object_count == 0);
}

TEST_CASE("a task that wants much is not starved by small ones") {
  NodeHarness node(options_with(2));
  SessionId driver = node.driver();
  ChunkBuilder small(7);
  small.function(1, "small");
  for (int i = 0; i < 100; ++i) small.task();
  node.submit(driver, small);
  ChunkBuilder large(8);
  TaskOptions wish;
  REQUIRE(wish.resources.set("CPU", 2).ok());
  uint32_t option = large.option(wish);
  large.function(2, "large").task({}, 2, 1, option).wanted(0);
  node.submit(driver, large);
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

TEST_CASE("a job that waits for a worker of its own gets one, and holds nobody up meanwhile") {
  NodeOptions options = options_with(1);
  options.blocked_workers_per_slot_max = 1;
  NodeHarness node(options);
  SessionId first = node.driver(1);
  SessionId second = node.driver(2);
  ChunkBuilder outer(7);
  outer.function(1, "outer").task().wanted(0);
  node.submit(first, outer);
  REQUIRE(node.running.size() == 1);
  node.tell(WorkerBlocked{node.workers.at(node.running.front().worker.number), true});
  ChunkBuilder others(8);
  others.function(1, "other");
  for (int i = 0; i < 20; ++i) others.task();
  node.submit(second, others);
  ChunkBuilder inner(9);
  inner.function(2, "inner").task({}, 2).wanted(0);
  node.submit(first, inner);
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

TEST_CASE("chunks that were on their way when their graph was cancelled are dropped, but not their functions") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  ChunkBuilder start(7);
  start.function(1, "f").task();
  start.raw().last = false;
  node.submit(driver, start);
  node.tell(CancelAsked{driver, GraphId{0, 7}, {}, false, true, {}});
  ChunkBuilder rest(7);
  rest.raw().first_task = 1;
  rest.function(2, "g").task({}, 2);
  node.submit(driver, rest);
  CHECK(node.all<Refuse>().empty());
  CHECK(node.all<GiveCredit>().size() == 2);
  ChunkBuilder next(8);
  next.task({}, 2).wanted(0);
  node.submit(driver, next);
  REQUIRE(node.running.size() == 1);
  CHECK(node.running.front().function == "g");
}

TEST_CASE("what was made of something from outside of its graph is not given up by the store") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  node.tell(PutArrived{driver, object(50, 0), make_bytes("input"), {}});
  ChunkBuilder chunk(7);
  chunk.function(1, "f").task().external(object(50, 0)).task({0}).wanted(1);
  node.submit(driver, chunk);
  node.tell(ReferencesChanged{driver, {}, {object(50, 0)}, {}});
  node.finish(node.running.front());
  auto task = node.running.front();
  SessionId worker = node.workers.at(task.worker.number);
  node.tell(SlabAsked{worker, RequestId{5}, 1 << 20});
  TaskResult result = NodeHarness::result_of(task, "", 5);
  result.returns[0].payload = SealedBytes{node.slabs[5].first, 0, 1000};
  node.report(task, std::move(result));
  REQUIRE(node.all<StoreSeal>().size() == 1);
  CHECK(!node.all<StoreSeal>()[0].remakable);
  node.tell(ObjectsEvicted{{object(7, 1)}});
  CHECK(node.stored.contains(object(7, 1)));
  // Nothing could be made again by it, so the graph need not be kept.
  CHECK(node.node.report(node.now).graphs.empty());
}

TEST_CASE("a store that lost everything has what is needed made again, and fails what was put") {
  NodeHarness node(options_with(1));
  SessionId driver = node.driver();
  node.tell(SlabAsked{driver, RequestId{1}, 1 << 20});
  node.tell(PutArrived{driver, object(50, 0), SealedBytes{node.slabs[1].first, 0, 100}, {}});
  ChunkBuilder chunk(7);
  chunk.function(1, "f").task().wanted(0);
  node.submit(driver, chunk);
  auto seal_front = [&] {
    auto task = node.running.front();
    SessionId worker = node.workers.at(task.worker.number);
    node.tell(SlabAsked{worker, RequestId{5}, 1 << 20});
    TaskResult result = NodeHarness::result_of(task, "", 5);
    result.returns[0].payload = SealedBytes{node.slabs[5].first, 0, 1000};
    node.report(task, std::move(result));
  };
  seal_front();
  node.tell(StoreDied{});
  node.stored.clear();
  node.tell(StoreReturned{false});
  RequestId of_put = node.get(driver, {object(50, 0)});
  REQUIRE(node.answers[of_put.number].size() == 1);
  CHECK(node.answers[of_put.number][0].failure.code == FailureCode::kObjectLost);
  ChunkBuilder reader(9, false);
  reader.function(1, "f").task().external(object(50, 0));
  reader.raw().hold_all = true;
  node.submit(driver, reader);
  RequestId of_reader = node.get(driver, {object(9, 0)});
  REQUIRE(node.answers[of_reader.number].size() == 1);
  CHECK(node.answers[of_reader.number][0].failure.code == FailureCode::kObjectLost);
  RequestId of_task = node.get(driver, {object(7, 0)});
  REQUIRE(node.running.size() == 1);
  seal_front();
  REQUIRE(node.answers[of_task.number].size() == 1);
  CHECK(node.answers[of_task.number][0].kind == ObjectAnswer::Kind::kLocated);
}

}  // namespace
}  // namespace raylet
