// Scenarios of actors: this happens to a node, so exactly that must be done.
#include <catch2/catch.hpp>

#include "daemons/raylet/core/node_scenes.h"

namespace raylet {

TEST_CASE("calls of an actor run in order on its own worker, and it ends when nobody holds it") {
  DrivenNode node(1);
  node.submit(counter_of(7));
  node.submit(calls_of(object(7, 0), 8, 3));
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
  node.release({object(7, 0)});
  CHECK(!node.workers.contains(worker.number));
}

TEST_CASE("an actor's name is written down before its constructor runs, and whoever asks finds its handle") {
  DrivenNode node(1);
  node.answers_persist = false;
  ChunkBuilder chunk(7, false);
  TaskOptions named = wishing(1);
  named.actor_name = "counter";
  named.actor_handle = make_bytes("handle");
  uint32_t option = chunk.option(named);
  chunk.function(1, "Counter", FunctionDef::Kind::kActorClass).task({}, 1, 1, option);
  chunk.raw().hold_all = true;
  node.submit(chunk);
  CHECK(node.running.empty());
  std::vector<Persist> persists = node.all<Persist>();
  REQUIRE(std::holds_alternative<RecordName>(persists.back().record));
  node.tell(Persisted{persists.back().ticket, {}, {}});
  CHECK(node.running.size() == 1);
  node.finish_all();
  node.tell(FindActorAsked{node.session, RequestId{9}, "counter", ""});
  REQUIRE(node.all<AnswerFindActor>().size() == 1);
  CHECK(*node.all<AnswerFindActor>()[0].handle == "handle");
  node.tell(KillActorAsked{node.session, object(7, 0), true});
  node.tell(FindActorAsked{node.session, RequestId{10}, "counter", ""});
  CHECK(node.all<AnswerFindActor>()[1].failure.code == FailureCode::kActorNotFound);
}

TEST_CASE("calls of an actor whose worker dies fail with the reason") {
  DrivenNode node(1);
  node.submit(counter_of(7));
  node.finish_all();
  node.submit(calls_of(object(7, 0), 8, 2));
  REQUIRE(!node.running.empty());
  RequestId request = node.get({object(8, 0), object(8, 1)});
  node.kill(node.running.front().worker, 9);
  REQUIRE(node.answers[request.number].size() == 2);
  for (const auto& answer : node.answers[request.number]) {
    CHECK(answer.failure.code == FailureCode::kActorDied);
    CHECK(answer.failure.message.find("signal 9") != std::string::npos);
  }
}

}  // namespace raylet
