// What a raylet is told on its command line, checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "protocol/words/resources.h"
#include "protocol/words/result.h"

namespace raylet {

struct RayletOptions {
  std::string session_directory;
  std::string head_address;
  std::string socket_path;
  std::string listen_address;
  std::string listen_tcp;
  std::string token_path;
  Resources resources;
  uint64_t object_store_bytes = 0;
  std::string python;
  std::string store_binary;
  std::string log_level = "info";
  std::string metrics_http;
  bool null_workers = false;
};

struct ParsedOptions {
  RayletOptions options;
  std::optional<int> exit_code;  // set: everything was said, exit with it
};
ParsedOptions parse_raylet_options(int argc, char** argv);

// {"name": amount, ...}. An Error says what is wrong with which name.
Status add_custom_resources(const std::string& json, Resources* resources);

}  // namespace raylet
