#include "daemons/cli/redis_check.h"

#include <fmt/core.h>
#include <hiredis/hiredis.h>

#include <memory>
#include <utility>

#include "daemons/cli/start_options.h"

namespace raylet {
namespace {

struct Setting {
  const char* name;
  const char* needed;
  const char* why;
};

constexpr Setting kSettings[] = {
    {"appendonly", "yes", "records must survive its death"},
    {"appendfsync", "always", "what it acknowledges must be on disk"},
    {"maxmemory-policy", "noeviction", "it must never drop records for room"},
};

using Context = std::unique_ptr<redisContext, decltype(&redisFree)>;
using Reply = std::unique_ptr<redisReply, decltype(&freeReplyObject)>;

Error unreachable(const std::string& address, const std::string& why) {
  return {Code::kUnavailable,
          fmt::format("no Redis answers at {} ({}); start it, or leave --redis-address away and "
                      "Raylet starts one of its own",
                      address, why)};
}

}  // namespace

Status check_redis_settings(const std::map<std::string, std::string>& settings) {
  for (const Setting& setting : kSettings) {
    const auto found = settings.find(setting.name);
    const std::string value = found == settings.end() ? "(unknown)" : found->second;
    if (value == setting.needed) continue;
    return Error{
        Code::kFailedPrecondition,
        fmt::format(
            "Redis has {} = {}, but {} is needed: {}. Set it: redis-cli CONFIG SET {} {} (and in redis.conf)",
            setting.name, value, setting.needed, setting.why, setting.name, setting.needed)};
  }
  return Done{};
}

Status check_redis(const std::string& address) {
  const timeval wait{kRedisWaitMs / 1000, kRedisWaitMs % 1000 * 1000};
  redisContext* raw = nullptr;
  if (address.rfind("unix:", 0) == 0) {
    raw = redisConnectUnixWithTimeout(address.c_str() + 5, wait);
  } else {
    auto parsed = parse_host_port(address);
    if (!parsed.ok()) return invalid("--redis-address: " + parsed.error().message + " (or unix:/path)");
    raw = redisConnectWithTimeout(parsed->host.c_str(), parsed->port, wait);
  }
  const Context context(raw, &redisFree);
  if (context == nullptr) return unreachable(address, "out of memory");
  if (context->err != 0) return unreachable(address, context->errstr);
  redisSetTimeout(context.get(), wait);

  std::map<std::string, std::string> settings;
  for (const Setting& setting : kSettings) {
    const Reply reply(static_cast<redisReply*>(redisCommand(context.get(), "CONFIG GET %s", setting.name)),
                      &freeReplyObject);
    if (reply == nullptr) return unreachable(address, context->errstr);
    if (reply->type == REDIS_REPLY_ERROR) {
      return Error{Code::kFailedPrecondition,
                   fmt::format("Redis at {} refused CONFIG GET {}: {}. Raylet has to see that setting", address,
                               setting.name, reply->str)};
    }
    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2) settings[setting.name] = reply->element[1]->str;
  }
  auto status = check_redis_settings(settings);
  if (!status.ok()) return Error{status.error().code, fmt::format("{}: {}", address, status.error().message)};
  return status;
}

}  // namespace raylet
