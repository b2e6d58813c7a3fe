#include "daemons/raylet/core/scratch_map.h"

#include <catch2/catch.hpp>

#include <map>

#include "protocol/words/rng.h"

namespace raylet {
namespace {

TEST_CASE("a scratch map holds what was put since it was last cleared, however much that is") {
  Rng rng(3);
  ScratchMap map;
  CHECK(map.find(1) == nullptr);
  for (int round = 0; round < 20; ++round) {
    map.clear();
    std::map<uint64_t, uint32_t> expected;
    for (int i = 0; i < 1500; ++i) {
      uint64_t key = rng.below(1000) << 32 | rng.below(4);
      auto [at, fresh] = expected.try_emplace(key, static_cast<uint32_t>(i));
      uint32_t& value = map.at(key, static_cast<uint32_t>(i));
      REQUIRE(value == at->second);
      value = at->second = at->second + 1;
    }
    for (uint64_t key = 0; key < 4000; ++key) {
      uint64_t wide = (key >> 2) << 32 | (key & 3);
      const uint32_t* found = map.find(wide);
      auto at = expected.find(wide);
      REQUIRE((found == nullptr) == (at == expected.end()));
      if (found != nullptr) REQUIRE(*found == at->second);
    }
  }
}

}  // namespace
}  // namespace raylet
