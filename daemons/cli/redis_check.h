// Whether an existing Redis (--redis-address) keeps what it acknowledges.
#pragma once

#include <map>
#include <string>

#include "protocol/words/result.h"

namespace raylet {

// Settings without which acknowledged records could be lost, by name. The pure part: an error names the
// setting, its value, what is needed and the command that sets it.
Status check_redis_settings(const std::map<std::string, std::string>& settings);

// Connects, asks and checks. `address` is host:port or unix:/path. Waits at most kRedisWaitMs for it.
inline constexpr int kRedisWaitMs = 3'000;
Status check_redis(const std::string& address);

}  // namespace raylet
