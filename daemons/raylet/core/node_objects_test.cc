// Scenarios of objects: values, the store, and what is made again: this happens to a node, so exactly that must be
// done.
#include <catch2/catch.hpp>

#include "daemons/raylet/core/node_scenes.h"

namespace raylet {

TEST_CASE(
    "a result in the store is sealed before it is used, pinned for who gets it, and freed after the last pin") {
  DrivenNode node(1);
  node.tell(StoreUsageChanged{1 << 30, 0});
  node.submit(graph_of(7, "f").task().task({0}).wanted(0));
  SessionId worker = node.seal_front();
  CHECK(node.stored.contains(object(7, 0)));
  CHECK(node.store_pins[object(7, 0)] == 1);  // the reader's batch
  node.finish(node.running.front());
  RequestId request = node.get({object(7, 0)});
  REQUIRE(node.answers[request.number].size() == 1);
  CHECK(node.answers[request.number][0].at.size_bytes == 1000);
  node.release({object(7, 0)});
  node.tell(ReferencesChanged{worker, {}, {}, {{object(7, 0), 1}}});
  CHECK(node.stored.size() == 1);
  node.tell(ReferencesChanged{node.session, {}, {}, {{object(7, 0), 1}}});
  CHECK(node.stored.empty());
  CHECK(node.facts().graphs.empty());
}

TEST_CASE("what was evicted is made again when it is asked for, with what it is made of") {
  DrivenNode node(1);
  auto make_one = [&] { node.tell(ReferencesChanged{node.seal_front(), {}, {}, {{object(7, 0), 1}}}); };
  node.submit(graph_of(7, "f").task().task({0}).wanted(1));
  make_one();
  make_one();
  CHECK(node.stored == std::set<ObjectId>{object(7, 1)});
  node.tell(ObjectsEvicted{{object(7, 1)}});
  CHECK(node.stored.empty());
  CHECK(node.running.empty());
  RequestId request = node.get({object(7, 1)});
  REQUIRE(node.running.size() == 2);  // as one batch: the second takes the first one's result from there
  CHECK(node.running.front().result == object(7, 0));
  CHECK(node.running.front().attempt == 1);
  make_one();
  make_one();
  REQUIRE(node.answers[request.number].size() == 1);
  CHECK(node.answers[request.number][0].kind == ObjectAnswer::Kind::kLocated);
}

TEST_CASE("nobody has heard of the object") {
  DrivenNode node(1);
  RequestId request = node.get({object(9, 0)});
  REQUIRE(node.answers[request.number].size() == 1);
  CHECK(node.answers[request.number][0].failure.code == FailureCode::kObjectUnknown);
}

TEST_CASE("a put is held by who put it and can be an input") {
  DrivenNode node(1);
  node.tell(PutArrived{node.session, object(50, 0), make_bytes("big"), {}});
  node.submit(graph_of(7, "f").task().external(object(50, 0)).wanted(0));
  node.release({object(50, 0)});
  REQUIRE(node.running.size() == 1);
  CHECK(node.facts().object_count == 2);
  node.finish_all();
  CHECK(node.facts().object_count == 1);
}

TEST_CASE("several results of one task are held and freed one by one") {
  DrivenNode node(1);
  node.submit(graph_of(7, "split").task({}, 1, 3).wanted(0));
  node.finish_all();
  CHECK(node.facts().object_count == 3);
  node.release({object(7, 0, 1)});
  CHECK(node.facts().object_count == 2);
  RequestId request = node.get({object(7, 0, 2), object(7, 0, 1)});
  REQUIRE(node.answers[request.number].size() == 2);
  node.release({object(7, 0, 0), object(7, 0, 2)});
  CHECK(node.facts().object_count == 0);
}

TEST_CASE("a seal in a slab that the session does not lease closes the session and harms nobody") {
  DrivenNode node(1);
  node.tell(PutArrived{node.session, object(50, 0), SealedBytes{SlabId{99}, 0, 10}, {}});
  CHECK(node.all<CloseSession>().size() == 1);
  CHECK(node.stored.empty());
}

TEST_CASE("an object larger than the store is refused with both sizes") {
  DrivenNode node(1);
  node.tell(StoreUsageChanged{1000, 0});
  node.tell(SlabAsked{node.session, RequestId{1}, 5000});
  REQUIRE(node.all<GrantSlab>().size() == 1);
  const Failure failure = node.all<GrantSlab>()[0].failure;
  CHECK(failure.code == FailureCode::kObjectTooLarge);
  CHECK(failure.message.find("5000") != std::string::npos);
  CHECK(failure.message.find("1000") != std::string::npos);
}

TEST_CASE("what was made of something from outside of its graph is not given up by the store") {
  DrivenNode node(1);
  node.tell(PutArrived{node.session, object(50, 0), make_bytes("input"), {}});
  node.submit(graph_of(7, "f").task().external(object(50, 0)).task({0}).wanted(1));
  node.release({object(50, 0)});
  node.finish(node.running.front());
  node.seal_front();
  REQUIRE(node.all<StoreSeal>().size() == 1);
  CHECK(!node.all<StoreSeal>()[0].remakable);
  node.tell(ObjectsEvicted{{object(7, 1)}});
  CHECK(node.stored.contains(object(7, 1)));
  // Nothing could be made again by it, so the graph need not be kept.
  CHECK(node.facts().graphs.empty());
}

TEST_CASE("a store that lost everything has what is needed made again, and fails what was put") {
  DrivenNode node(1);
  node.tell(SlabAsked{node.session, RequestId{1}, 1 << 20});
  node.tell(PutArrived{node.session, object(50, 0), SealedBytes{node.slabs[1].first, 0, 100}, {}});
  node.submit(graph_of(7, "f").task().wanted(0));
  node.seal_front();
  node.tell(StoreDied{});
  node.stored.clear();
  node.tell(StoreReturned{false});
  RequestId of_put = node.get({object(50, 0)});
  REQUIRE(node.answers[of_put.number].size() == 1);
  CHECK(node.answers[of_put.number][0].failure.code == FailureCode::kObjectLost);
  node.submit(growing_graph_of(9, "f").task().external(object(50, 0)));
  RequestId of_reader = node.get({object(9, 0)});
  REQUIRE(node.answers[of_reader.number].size() == 1);
  CHECK(node.answers[of_reader.number][0].failure.code == FailureCode::kObjectLost);
  RequestId of_task = node.get({object(7, 0)});
  REQUIRE(node.running.size() == 1);
  node.seal_front();
  REQUIRE(node.answers[of_task.number].size() == 1);
  CHECK(node.answers[of_task.number][0].kind == ObjectAnswer::Kind::kLocated);
}

TEST_CASE("an explanation shows sizes as people read them") {
  NodeOptions options = options_with(1);
  REQUIRE(options.resources.set("memory", uint64_t{4} << 30).ok());
  DrivenNode node(options);
  node.tell(PutArrived{node.session, object(50, 0), make_bytes(std::string(64 << 10, 'x')), {}});
  CHECK(node.explain(object(50, 0).hex()).reason == "It is there, 64.0 KiB.");
  ChunkBuilder chunk(7);
  TaskOptions wish;
  REQUIRE(wish.resources.set("memory", uint64_t{8} << 30).ok());
  uint32_t option = chunk.option(wish);
  node.submit(chunk.function(1, "f").task({}, 1, 1, option).wanted(0));
  CHECK(node.explain(object(7, 0).hex()).reason.find("memory 8.00 GiB") != std::string::npos);
}

}  // namespace raylet
