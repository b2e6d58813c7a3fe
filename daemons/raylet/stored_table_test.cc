#include "daemons/raylet/stored_table.h"

#include <catch2/catch.hpp>

namespace raylet {
namespace {

ObjectId object(uint64_t task) { return {GraphId{1, 2}, task, 0}; }

}  // namespace

TEST_CASE("a sealed object lies where its slab lies") {
  StoredTable table;
  table.add_slab(SlabId{1}, SessionId{7}, {SegmentId{3}, 1'000, 500});
  REQUIRE(table.seal({object(1), SlabId{1}, 100, 50, true}));
  REQUIRE(table.objects().at(object(1)).at == StoredAt{SegmentId{3}, 1'100, 50});
  REQUIRE(table.objects().at(object(1)).remakable);
  REQUIRE_FALSE(table.objects().at(object(1)).pinned);
}

TEST_CASE("what does not fit its slab, has no slab or is there already is not sealed") {
  StoredTable table;
  table.add_slab(SlabId{1}, SessionId{7}, {SegmentId{3}, 1'000, 500});
  REQUIRE_FALSE(table.seal({object(1), SlabId{1}, 451, 50, true}));
  REQUIRE_FALSE(table.seal({object(1), SlabId{1}, ~uint64_t{0}, 50, true}));
  REQUIRE_FALSE(table.seal({object(1), SlabId{2}, 0, 50, true}));
  REQUIRE(table.seal({object(1), SlabId{1}, 450, 50, true}));
  REQUIRE_FALSE(table.seal({object(1), SlabId{1}, 0, 10, true}));
  REQUIRE(table.objects().size() == 1);
}

TEST_CASE("a session's slabs go with it, its sealed objects stay") {
  StoredTable table;
  table.add_slab(SlabId{1}, SessionId{7}, {SegmentId{3}, 0, 500});
  table.add_slab(SlabId{2}, SessionId{8}, {SegmentId{3}, 500, 500});
  REQUIRE(table.seal({object(1), SlabId{1}, 0, 10, true}));
  table.end_session(SessionId{7});
  REQUIRE(table.slabs().size() == 1);
  REQUIRE(table.slabs().contains(SlabId{2}));
  REQUIRE(table.objects().contains(object(1)));
}

TEST_CASE("a slab that is sealed to its last byte has ended") {
  StoredTable table;
  table.add_slab(SlabId{1}, SessionId{7}, {SegmentId{3}, 0, 192});
  REQUIRE(table.seal({object(1), SlabId{1}, 0, 100, false}));
  REQUIRE(table.slabs().contains(SlabId{1}));
  REQUIRE(table.seal({object(2), SlabId{1}, 128, 40, false}));
  REQUIRE(table.slabs().empty());
  REQUIRE(table.objects().size() == 2);
}

TEST_CASE("only a slab that the store has can be returned, and once") {
  StoredTable table;
  table.add_slab(SlabId{1}, SessionId{7}, {SegmentId{3}, 0, 64});
  table.add_slab(SlabId{2}, SessionId{7}, {SegmentId{3}, 64, 64});
  REQUIRE(table.seal({object(1), SlabId{1}, 0, 64, false}));
  REQUIRE_FALSE(table.return_slab(SlabId{1}));
  REQUIRE(table.return_slab(SlabId{2}));
  REQUIRE_FALSE(table.return_slab(SlabId{2}));
  table.add_slab(SlabId{3}, SessionId{7}, {SegmentId{3}, 64, 64});
  table.clear();  // another store
  REQUIRE_FALSE(table.return_slab(SlabId{3}));
}

TEST_CASE("pins are kept until they are taken off, and a freed object is gone") {
  StoredTable table;
  table.add_slab(SlabId{1}, SessionId{7}, {SegmentId{3}, 0, 500});
  REQUIRE(table.seal({object(1), SlabId{1}, 0, 10, false}));
  table.pin(object(1));
  REQUIRE(table.objects().at(object(1)).pinned);
  table.unpin(object(1));
  REQUIRE_FALSE(table.objects().at(object(1)).pinned);
  table.free(object(1));
  table.pin(object(1));
  REQUIRE(table.objects().empty());
}

}  // namespace raylet
