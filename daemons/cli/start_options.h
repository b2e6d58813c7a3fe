// What the user asked `raylet start` for. Everything unset is chosen by node_plan.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "protocol/words/result.h"

namespace raylet {

struct StartOptions {
  bool head = false;
  bool block = false;         // stay in the foreground
  bool private_node = false;  // of one driver: silent, foreground, the directory goes at the end
  int lifeline_fd = -1;       // everything stops when this pipe reads its end
  std::optional<double> num_cpus;
  std::optional<double> num_gpus;
  std::map<std::string, double> resources;
  std::optional<uint64_t> memory_bytes;
  std::optional<uint64_t> object_store_memory_bytes;
  std::string session_directory;  // empty: a new one below /tmp
  std::string redis_address;      // empty: a Redis of our own
  std::string listen;             // host:port; empty: unix sockets only
  std::string python;             // empty: the checkout's, or python3
  std::string log_level = "info";
  bool null_workers = false;  // the scheduler alone, for benchmarks
};

// A JSON object of amounts, {"tpu": 1, "ssd": 0.5}. Names that have a flag of their own are refused.
Result<std::map<std::string, double>> parse_resources(const std::string& json);

// "host:port" or "[v6]:port"; what is wrong with it, if anything.
struct HostPort {
  std::string host;
  uint16_t port = 0;
};
Result<HostPort> parse_host_port(const std::string& text);

}  // namespace raylet
