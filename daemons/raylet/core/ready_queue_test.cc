#include "daemons/raylet/core/ready_queue.h"

#include <catch2/catch.hpp>

#include <set>
#include <utility>

#include "protocol/words/rng.h"

namespace raylet {
namespace {

TEST_CASE("the lowest rank comes out first, in whatever order they went in") {
  Rng rng(7);
  for (int round = 0; round < 50; ++round) {
    ReadyQueue queue;
    std::set<std::pair<uint32_t, uint32_t>> expected;
    uint32_t next_task = 0;
    uint32_t rising = 0;
    for (int i = 0; i < 2000; ++i) {
      if (expected.empty() || rng.chance(0.6)) {
        // Mostly rising, as tasks become ready; now and then out of turn.
        uint32_t rank = rng.chance(0.8) ? ++rising : static_cast<uint32_t>(rng.below(rising + 1));
        expected.insert({rank, next_task});
        queue.push({rank, next_task++});
      } else {
        ReadyQueue::Entry entry = queue.pop();
        REQUIRE(std::make_pair(entry.rank, entry.task) == *expected.begin());
        expected.erase(expected.begin());
      }
      REQUIRE(queue.size() == expected.size());
    }
    while (!expected.empty()) {
      ReadyQueue::Entry entry = queue.pop();
      REQUIRE(std::make_pair(entry.rank, entry.task) == *expected.begin());
      expected.erase(expected.begin());
    }
    REQUIRE(queue.empty());
  }
}

}  // namespace
}  // namespace raylet
