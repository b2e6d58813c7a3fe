#include "daemons/cli/node_plan.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "daemons/cli/sizes.h"
#include "protocol/words/resources.h"

namespace raylet {
namespace {

Status check_amounts(const NodePlan& plan) {
  Resources checked;
  if (auto status = checked.set("CPU", plan.cpus); !status.ok())
    return invalid("--num-cpus: " + status.error().message);
  if (auto status = checked.set("GPU", plan.gpus); !status.ok())
    return invalid("--num-gpus: " + status.error().message);
  return Done{};
}

Command redis_command(const SessionPaths& paths, const Programs& programs) {
  // Every acknowledged write is on disk; nothing is ever evicted; nobody but this user gets in.
  return {"redis",
          {programs.redis_server,
           "--port",
           "0",
           "--unixsocket",
           paths.redis_socket,
           "--unixsocketperm",
           "600",
           "--dir",
           paths.redis_directory,
           "--appendonly",
           "yes",
           "--appendfsync",
           "always",
           "--save",
           "",
           "--maxmemory-policy",
           "noeviction",
           "--daemonize",
           "no",
           "--enable-debug-command",
           "no",
           "--enable-module-command",
           "no",
           "--protected-mode",
           "yes",
           "--logfile",
           ""}};
}

}  // namespace

SessionPaths::SessionPaths(std::string session_directory) : directory(std::move(session_directory)) {
  const auto in = [&](const char* name) { return directory + "/" + name; };
  node_json = in("node.json");
  supervisor_pid = in("supervisor.pid");
  token = in("token");
  logs = in("logs");
  redis_directory = in("redis");
  raylet_socket = in("raylet.sock");
  raylet_grpc = in("raylet.grpc");
  gcs_grpc = in("gcs.grpc");
  store_grpc = in("store.grpc");
  redis_socket = in("redis.sock");
}

Result<NodePlan> plan_node(const StartOptions& options, const Machine& machine, const Programs& programs,
                           const std::string& session_directory, const std::string& python_path) {
  if (session_directory.empty() || session_directory.front() != '/') {
    return invalid(fmt::format("--session-dir: expected an absolute path, got \"{}\"", session_directory));
  }
  if (session_directory.size() > kSessionDirectoryBytesMax) {
    return invalid(fmt::format(
        "--session-dir: expected at most {} bytes (unix sockets in it must have short names), got {}: \"{}\"",
        kSessionDirectoryBytesMax, session_directory.size(), session_directory));
  }
  NodePlan plan{.paths = SessionPaths(session_directory)};
  const SessionPaths& paths = plan.paths;

  plan.cpus = options.num_cpus.value_or(machine.cpus);
  plan.gpus = options.num_gpus.value_or(0);
  RETURN_IF_ERROR(check_amounts(plan));
  plan.object_store_bytes = options.object_store_memory_bytes.value_or(
      std::max(kObjectStoreBytesMin,
               static_cast<uint64_t>(static_cast<double>(machine.memory_available_bytes) * kObjectStoreShare)));
  if (plan.object_store_bytes < kObjectStoreBytesMin) {
    return invalid(fmt::format("--object-store-memory: expected at least {}, got {}",
                               format_size(kObjectStoreBytesMin), format_size(plan.object_store_bytes)));
  }
  const uint64_t left = machine.memory_available_bytes > plan.object_store_bytes
                            ? machine.memory_available_bytes - plan.object_store_bytes
                            : 0;
  plan.memory_bytes = options.memory_bytes.value_or(left);

  plan.own_redis = options.redis_address.empty();
  plan.redis_address = plan.own_redis ? "unix:" + paths.redis_socket : options.redis_address;
  if (plan.own_redis) plan.redis = redis_command(paths, programs);

  plan.gcs = {"gcs",
              {programs.gcs, "--redis", plan.redis_address, "--listen", "unix:" + paths.gcs_grpc, "--session-dir",
               paths.directory, "--log-level", options.log_level}};

  nlohmann::json resources = nlohmann::json::object();
  for (const auto& [name, amount] : options.resources) resources[name] = amount;
  plan.rayletd = {"rayletd",
                  {programs.rayletd,
                   "--session-dir",
                   paths.directory,
                   "--head",
                   "unix:" + paths.gcs_grpc,
                   "--socket",
                   paths.raylet_socket,
                   "--listen",
                   "unix:" + paths.raylet_grpc,
                   "--num-cpus",
                   fmt::format("{}", plan.cpus),
                   "--num-gpus",
                   fmt::format("{}", plan.gpus),
                   "--resources",
                   resources.dump(),
                   "--memory",
                   std::to_string(plan.memory_bytes),
                   "--object-store-memory",
                   std::to_string(plan.object_store_bytes),
                   "--python",
                   programs.python,
                   "--store-binary",
                   programs.plasma_store,
                   "--log-level",
                   options.log_level}};
  if (options.null_workers) plan.rayletd.arguments.push_back("--null-workers");
  if (!options.listen.empty()) {
    auto address = parse_host_port(options.listen);
    if (!address.ok()) return invalid("--listen: " + address.error().message);
    plan.tcp_address = options.listen;
    for (const std::string& argument :
         {std::string("--listen-tcp"), options.listen, std::string("--token-file"), paths.token}) {
      plan.rayletd.arguments.push_back(argument);
    }
  }

  // Last, so that whatever the user put there wins.
  if (!programs.client_directory.empty()) {
    plan.python_path =
        python_path.empty() ? programs.client_directory : python_path + ":" + programs.client_directory;
  } else {
    plan.python_path = python_path;
  }
  return plan;
}

}  // namespace raylet
