#include "daemons/kit/log.h"

#include <google/protobuf/stubs/logging.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace raylet {
namespace {

spdlog::level::level_enum spdlog_level(log::Level level) {
  switch (level) {
    case log::Level::kDebug:
      return spdlog::level::debug;
    case log::Level::kInfo:
      return spdlog::level::info;
    case log::Level::kWarn:
      return spdlog::level::warn;
    case log::Level::kError:
      break;
  }
  return spdlog::level::err;
}

}  // namespace

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

void close_log() { spdlog::shutdown(); }

void log::write(Level level, fmt::string_view text, fmt::format_args values) {
  auto* logger = spdlog::default_logger_raw();
  if (logger && logger->should_log(spdlog_level(level))) {
    logger->log(spdlog_level(level), std::string_view(fmt::vformat(text, values)));
  }
}

}  // namespace raylet
