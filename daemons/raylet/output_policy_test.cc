#include "daemons/raylet/output_policy.h"

#include <catch2/catch.hpp>

namespace raylet {
namespace {

Instant at_ms(int64_t ms) { return {ms * 1'000'000}; }

}  // namespace

TEST_CASE("ordinary output passes") {
  OutputPolicy policy;
  REQUIRE(policy.admit(at_ms(1'000), {"one", "two"}, false) == 2);
  REQUIRE(policy.take_dropped() == 0);
}

TEST_CASE("a flood is cut, and what was dropped is said once it is over") {
  OutputPolicy policy;
  std::vector<std::string> flood(100, std::string(1 << 20, 'x'));
  size_t passed = policy.admit(at_ms(1'000), flood, false);
  REQUIRE(passed > 0);
  REQUIRE(passed <= 5);
  REQUIRE(policy.admit(at_ms(1'500), {"still"}, false) == 0);
  REQUIRE(policy.take_dropped() == 0);
  REQUIRE(policy.admit(at_ms(2'100), {"again"}, false) == 1);
  REQUIRE(policy.take_dropped() == 100 - passed + 1);
  REQUIRE(policy.take_dropped() == 0);
}

TEST_CASE("a driver that does not keep up gets no output until it does") {
  OutputPolicy policy;
  REQUIRE(policy.admit(at_ms(1'000), {"lost"}, true) == 0);
  REQUIRE(policy.admit(at_ms(1'001), {"found"}, false) == 1);
  REQUIRE(policy.take_dropped() == 1);
}

}  // namespace raylet
