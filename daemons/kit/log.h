// Logging: a line is the time, the level, the component and a text with key=value fields whose ids can be
// searched for. An error line means that something is wrong that should not be; expected trouble (a worker that
// died, Redis away) is a warning.
//
// From any thread. spdlog writes the lines, and only log.cc sees it: whoever includes it and logs takes 5 s longer
// to compile.
#pragma once

#include <fmt/core.h>

#include <string>
#include <utility>

#include "protocol/words/result.h"

namespace raylet {

// Once, before the first line. `level`: trace, debug, info, warn, error, off. Logs go to stderr: whoever started
// the process decides where that ends. An Error names the levels.
Status set_up_log(const std::string& component, const std::string& level);

// Once, after the last line.
void close_log();

namespace log {

enum class Level { kDebug, kInfo, kWarn, kError };

void write(Level level, fmt::string_view text, fmt::format_args values);

template <typename... Values>
void debug(fmt::format_string<Values...> text, Values&&... values) {
  write(Level::kDebug, text, fmt::make_format_args(values...));
}

template <typename... Values>
void info(fmt::format_string<Values...> text, Values&&... values) {
  write(Level::kInfo, text, fmt::make_format_args(values...));
}

template <typename... Values>
void warn(fmt::format_string<Values...> text, Values&&... values) {
  write(Level::kWarn, text, fmt::make_format_args(values...));
}

template <typename... Values>
void error(fmt::format_string<Values...> text, Values&&... values) {
  write(Level::kError, text, fmt::make_format_args(values...));
}

}  // namespace log
}  // namespace raylet
