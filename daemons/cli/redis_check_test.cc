#include "daemons/cli/redis_check.h"

#include <catch2/catch.hpp>

using namespace raylet;

TEST_CASE("a Redis that keeps everything passes") {
  REQUIRE(
      check_redis_settings({{"appendonly", "yes"}, {"appendfsync", "always"}, {"maxmemory-policy", "noeviction"}})
          .ok());
}

TEST_CASE("a Redis that may lose records is complained about by the setting and the command that mends it") {
  const auto status = check_redis_settings(
      {{"appendonly", "yes"}, {"appendfsync", "everysec"}, {"maxmemory-policy", "noeviction"}});
  REQUIRE_FALSE(status.ok());
  REQUIRE(status.error().message.find("appendfsync = everysec") != std::string::npos);
  REQUIRE(status.error().message.find("CONFIG SET appendfsync always") != std::string::npos);
  REQUIRE_FALSE(check_redis_settings({}).ok());
}

TEST_CASE("no Redis at the address is said so") {
  const auto status = check_redis("unix:/tmp/there-is-no-redis-here.sock");
  REQUIRE_FALSE(status.ok());
  REQUIRE(status.error().message.find("no Redis answers at unix:/tmp/there-is-no-redis-here.sock") == 0);
  REQUIRE_FALSE(check_redis("nonsense").ok());
}
