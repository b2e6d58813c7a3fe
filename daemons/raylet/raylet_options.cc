#include "daemons/raylet/raylet_options.h"

#include <iostream>
#include <nlohmann/json.hpp>

#include "daemons/kit/flags.h"

namespace raylet {
namespace {

constexpr uint64_t kStoreBytesMin = 1 << 20;

Status set_resources(double cpus, double gpus, double memory_bytes, const std::string& custom,
                     Resources* resources) {
  if (Status set = resources->set("CPU", cpus); !set.ok()) return invalid("--num-cpus: " + set.error().message);
  if (Status set = resources->set("GPU", gpus); !set.ok()) return invalid("--num-gpus: " + set.error().message);
  if (Status set = resources->set("memory", memory_bytes); !set.ok()) {
    return invalid("--memory: " + set.error().message);
  }
  return add_custom_resources(custom, resources);
}

}  // namespace

Status add_custom_resources(const std::string& json, Resources* resources) {
  if (json.empty()) return Done{};
  auto parsed = nlohmann::json::parse(json, nullptr, false);
  if (!parsed.is_object()) {
    return invalid("--resources: expected a JSON object like '{\"disk\": 2}', got '" + json + "'");
  }
  for (const auto& [name, amount] : parsed.items()) {
    if (!amount.is_number()) {
      return invalid("--resources: expected a number for '" + name + "', got " + amount.dump());
    }
    if (name == "CPU" || name == "GPU" || name == "memory") {
      return invalid("--resources: '" + name + "' has a flag of its own (--num-cpus, --num-gpus, --memory)");
    }
    if (Status set = resources->set(name, amount.get<double>()); !set.ok()) {
      return invalid("--resources: " + set.error().message);
    }
  }
  return Done{};
}

ParsedOptions parse_raylet_options(int argc, char** argv) {
  ParsedOptions parsed;
  RayletOptions& options = parsed.options;
  double cpus = 1;
  double gpus = 0;
  double memory_bytes = 0;
  std::string custom;
  CLI::App app("The raylet of a node: its workers, its resources and every graph that is submitted to it.",
               "rayletd");
  app.add_option("--session-dir", options.session_directory, "Directory of logs and sockets")->required();
  app.add_option("--head", options.head_address, "Where the head (gcs) listens: unix:/path or host:port")
      ->required();
  app.add_option("--socket", options.socket_path, "Path of the socket for local drivers")->required();
  app.add_option("--listen", options.listen_address, "Where gRPC listens: unix:/path")->required();
  auto* tcp = app.add_option("--listen-tcp", options.listen_tcp, "Also listen for gRPC at host:port");
  auto* token = app.add_option("--token-file", options.token_path, "File with the token that TCP callers bring");
  tcp->needs(token);
  app.add_option("--num-cpus", cpus, "CPUs that tasks may take; fractions to 1e-4");
  app.add_option("--num-gpus", gpus, "GPUs that tasks may take");
  app.add_option("--resources", custom, "Custom resources as JSON: {\"name\": amount}");
  app.add_option("--memory", memory_bytes, "Bytes of memory that tasks may ask for");
  app.add_option("--object-store-memory", options.object_store_bytes, "Bytes of the object store")->required();
  app.add_option("--python", options.python, "The Python interpreter of the workers")->required();
  app.add_option("--store-binary", options.store_binary, "Path of plasma-store")->required();
  app.add_option("--log-level", options.log_level, "trace, debug, info, warn, error or off");
  app.add_option("--metrics-http", options.metrics_http, "Also serve metrics over HTTP at host:port");
  app.add_flag("--null-workers", options.null_workers, "Answer every task at once with None (for benchmarks)");
  parsed.exit_code = parse_flags(app, argc, argv);
  if (parsed.exit_code) return parsed;
  Status resources = set_resources(cpus, gpus, memory_bytes, custom, &options.resources);
  if (resources.ok() && options.object_store_bytes < kStoreBytesMin) {
    resources = invalid("--object-store-memory: expected at least " + std::to_string(kStoreBytesMin) +
                        " bytes, got " + std::to_string(options.object_store_bytes));
  }
  if (!resources.ok()) {
    std::cerr << "rayletd: " << resources.error().message << "\nTry 'rayletd --help'.\n";
    parsed.exit_code = 2;
  }
  return parsed;
}

}  // namespace raylet
