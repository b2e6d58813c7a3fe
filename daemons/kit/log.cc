#include "daemons/kit/log.h"

#include <google/protobuf/stubs/logging.h>
#include <spdlog/sinks/stdout_sinks.h>

namespace raylet {

Status set_up_log(const std::string& component, const std::string& level) {
  spdlog::level::level_enum parsed = spdlog::level::from_str(level);
  if (parsed == spdlog::level::off && level != "off") {
    return invalid("--log-level must be one of trace, debug, info, warn, error, off; not '" + level + "'");
  }
  auto logger = spdlog::stderr_logger_mt(component);
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %n[%P] %v");
  logger->set_level(parsed);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(logger);
  // What it finds wrong in a message is answered where the message is decoded. Its own lines say neither who
  // sent the message nor which one it was, and anybody could fill the log with them.
  google::protobuf::SetLogHandler(nullptr);
  return Done{};
}

}  // namespace raylet
