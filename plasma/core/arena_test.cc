#include "plasma/core/arena.h"

#include <catch2/catch.hpp>
#include <map>

#include "protocol/words/rng.h"

namespace raylet::plasma {

TEST_CASE("the lowest hole that is large enough is taken") {
  Arena arena(64 * 100);
  REQUIRE(arena.allocate(640, 64) == 0);
  REQUIRE(arena.allocate(640, 64) == 640);
  REQUIRE(arena.allocate(640, 64) == 1280);
  arena.release(0, 640);
  CHECK(arena.allocate(704, 64) == 1920);
  CHECK(arena.allocate(128, 64) == 0);
  CHECK(arena.allocate(512, 64) == 128);
  arena.validate();
}

TEST_CASE("aligned extents leave a gap that small ones fill") {
  Arena arena(3 * 4096);
  REQUIRE(arena.allocate(64, 64) == 0);
  REQUIRE(arena.allocate(4096, 4096) == 4096);
  CHECK(arena.allocate(4096, 4096) == 8192);
  CHECK_FALSE(arena.allocate(4096, 4096));
  CHECK(arena.allocate(4032, 64) == 64);
  CHECK(arena.free_bytes() == 0);
  arena.validate();
}

TEST_CASE("neighbours that are freed become one hole") {
  Arena arena(64 * 3);
  for (uint64_t i = 0; i < 3; ++i) REQUIRE(arena.allocate(64, 64) == 64 * i);
  arena.release(0, 64);
  arena.release(128, 64);
  CHECK_FALSE(arena.allocate(128, 64));
  arena.release(64, 64);
  CHECK(arena.empty());
  CHECK(arena.taken_end() == 0);
  CHECK(arena.allocate(192, 64) == 0);
}

TEST_CASE("only what is free can be taken by name") {
  Arena arena(64 * 10);
  CHECK(arena.take(128, 64));
  CHECK_FALSE(arena.take(64, 128));
  CHECK(arena.take(64, 64));
  CHECK_FALSE(arena.take(64 * 9, 128));
  CHECK(arena.taken_end() == 192);
  arena.validate();
}

TEST_CASE("a random life of an arena loses no byte") {
  Rng rng(1);
  Arena arena(64 * 4096);
  std::map<uint64_t, uint64_t> taken;
  uint64_t taken_bytes = 0;
  for (int round = 0; round < 20'000; ++round) {
    if (rng.chance(0.55)) {
      uint64_t size = 64 * (1 + rng.below(100));
      std::optional<uint64_t> offset = arena.allocate(size, rng.chance(0.2) ? 4096 : 64);
      if (!offset) continue;
      auto next = taken.lower_bound(*offset);
      REQUIRE((next == taken.end() || next->first >= *offset + size));
      if (next != taken.begin()) REQUIRE(std::prev(next)->first + std::prev(next)->second <= *offset);
      taken.emplace(*offset, size);
      taken_bytes += size;
    } else if (!taken.empty()) {
      auto victim = std::next(taken.begin(), static_cast<long>(rng.below(taken.size())));
      arena.release(victim->first, victim->second);
      taken_bytes -= victim->second;
      taken.erase(victim);
    }
    if (round % 100 == 0) arena.validate();
    REQUIRE(arena.free_bytes() == arena.size_bytes() - taken_bytes);
  }
}

}  // namespace raylet::plasma
