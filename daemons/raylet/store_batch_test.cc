#include "daemons/raylet/store_batch.h"

#include <catch2/catch.hpp>

namespace raylet {
namespace {

ObjectId object(uint64_t task) { return {GraphId{1, 2}, task, 0}; }

}  // namespace

TEST_CASE("commands on different objects share a frame in any order") {
  StoreBatch batch;
  REQUIRE(batch.add(StoreFree{object(1)}));
  REQUIRE(batch.add(StorePin{object(2)}));
  REQUIRE(batch.add(StoreSeal{object(3), SlabId{1}, 0, 10, true}));
  v1::StoreCommand command = batch.take();
  REQUIRE(command.batch().freed() == object(1).binary());
  REQUIRE(command.batch().pinned() == object(2).binary());
  REQUIRE(command.batch().seals(0).id() == object(3).binary());
  REQUIRE(batch.empty());
}

TEST_CASE("an object's commands share a frame only in the order in which the store applies them") {
  StoreBatch batch;
  REQUIRE(batch.add(StoreSeal{object(1), SlabId{1}, 0, 10, true}));
  REQUIRE(batch.add(StorePin{object(1)}));
  REQUIRE(batch.add(StoreUnpin{object(1)}));
  REQUIRE_FALSE(batch.add(StorePin{object(1)}));
  batch.take();
  REQUIRE(batch.add(StorePin{object(1)}));
  REQUIRE(batch.add(StoreFree{object(1)}));
  REQUIRE_FALSE(batch.add(StoreSeal{object(1), SlabId{1}, 0, 10, true}));
}

TEST_CASE("nothing is sealed behind a slab's return in the same frame") {
  StoreBatch batch;
  REQUIRE(batch.add(StoreReturnSlab{SlabId{1}}));
  REQUIRE_FALSE(batch.add(StoreSeal{object(1), SlabId{2}, 0, 10, true}));
  REQUIRE(batch.add(StoreEndSession{SessionId{4}}));
  batch.take();
  REQUIRE(batch.add(StoreSeal{object(1), SlabId{2}, 0, 10, true}));
}

TEST_CASE("a frame has a limit") {
  StoreBatch batch;
  for (uint64_t i = 0; i < StoreBatch::kCommandsMax; ++i) REQUIRE(batch.add(StorePin{object(i)}));
  REQUIRE_FALSE(batch.add(StorePin{object(StoreBatch::kCommandsMax)}));
}

}  // namespace raylet
