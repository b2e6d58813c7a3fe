// Logging: spdlog, set up once. A line is the time, the level, the component and a text with key=value
// fields whose ids can be searched for. An error line means that something is wrong that should not be;
// expected trouble (a worker that died, Redis away) is a warning.
#pragma once

#include <spdlog/spdlog.h>

#include <string>

#include "protocol/words/result.h"

namespace raylet {

// `level`: trace, debug, info, warn, error. Logs go to stderr: whoever started the process decides where
// that ends. An Error names the levels.
Status set_up_log(const std::string& component, const std::string& level);

}  // namespace raylet
