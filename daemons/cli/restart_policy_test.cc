#include "daemons/cli/restart_policy.h"

#include <catch2/catch.hpp>

using raylet::RestartPolicy;

TEST_CASE("a child that dies once is started again at once") {
  RestartPolicy policy;
  REQUIRE(policy.on_death(5'000) == 0);
}

TEST_CASE("waits double from death to death and stay bounded") {
  RestartPolicy policy;
  REQUIRE(policy.on_death(0) == 0);
  REQUIRE(policy.on_death(1) == 10);
  REQUIRE(policy.on_death(2) == 20);
  REQUIRE(policy.on_death(3) == 40);
  for (uint64_t now = 4; now < 9; ++now) REQUIRE(policy.on_death(now).value() <= RestartPolicy::kWaitMsMax);
}

TEST_CASE("a child that keeps dying is given up") {
  RestartPolicy policy;
  for (size_t death = 1; death < RestartPolicy::kDeathsMax; ++death) REQUIRE(policy.on_death(death));
  REQUIRE_FALSE(policy.on_death(100));
}

TEST_CASE("deaths long ago are forgiven") {
  RestartPolicy policy;
  for (uint64_t death = 0; death < 100; ++death) REQUIRE(policy.on_death(death * RestartPolicy::kWindowMs) == 0);
}
