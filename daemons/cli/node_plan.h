// NodePlan: exactly which programs a node starts, with which arguments, and where everything is. Made once
// from what the user asked for and what the machine has, without touching anything.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "daemons/cli/machine.h"
#include "daemons/cli/start_options.h"
#include "protocol/words/result.h"

namespace raylet {

struct Programs {
  std::string gcs, rayletd, plasma_store, redis_server;  // paths
  std::string python;
  std::string client_directory;  // holds the package `ray`; empty when it is installed
};

// Where things are in a session directory.
struct SessionPaths {
  explicit SessionPaths(std::string session_directory);

  std::string directory;
  std::string node_json, supervisor_pid, token, logs, redis_directory;
  std::string raylet_socket;  // SOCK_SEQPACKET
  std::string raylet_grpc, gcs_grpc, store_grpc, redis_socket;

  std::string log(const std::string& component) const { return logs + "/" + component + ".log"; }
};

// The longest session directory whose sockets still have names the kernel takes (107 bytes).
inline constexpr size_t kSessionDirectoryBytesMax = 90;

struct Command {
  std::string component;               // of the log: redis, gcs, rayletd
  std::vector<std::string> arguments;  // with the program's path first
};

struct NodePlan {
  SessionPaths paths;
  std::string redis_address;  // unix:/path or host:port
  bool own_redis = true;
  Command redis, gcs, rayletd;
  double cpus = 0, gpus = 0;
  uint64_t memory_bytes = 0;
  uint64_t object_store_bytes = 0;
  std::string tcp_address;  // host:port; empty: none
  std::string python_path;  // PYTHONPATH of the children; empty: as it is
};

inline constexpr double kObjectStoreShare = 0.3;                      // of available memory
inline constexpr uint64_t kObjectStoreBytesMin = uint64_t{64} << 20;  // one segment

// `session_directory` is absolute. An error names the flag that asks for what can't be.
Result<NodePlan> plan_node(const StartOptions& options, const Machine& machine, const Programs& programs,
                           const std::string& session_directory, const std::string& python_path);

}  // namespace raylet
