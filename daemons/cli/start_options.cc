#include "daemons/cli/start_options.h"

#include <fmt/core.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "protocol/words/resources.h"

namespace raylet {

Result<std::map<std::string, double>> parse_resources(const std::string& json) {
  const auto parsed = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) {
    return invalid(fmt::format("--resources: expected a JSON object such as '{{\"ssd\": 2}}', got {}", json));
  }
  std::map<std::string, double> amounts;
  Resources checked;
  for (const auto& [name, amount] : parsed.items()) {
    if (name == "CPU" || name == "GPU" || name == "memory") {
      return invalid(
          fmt::format("--resources: {} has a flag of its own: use --num-cpus, --num-gpus, --memory", name));
    }
    if (!amount.is_number()) {
      return invalid(fmt::format("--resources: expected a number for \"{}\", got {}", name, amount.dump()));
    }
    if (auto status = checked.set(name, amount.get<double>()); !status.ok()) {
      return invalid("--resources: " + status.error().message);
    }
    amounts[name] = amount.get<double>();
  }
  return amounts;
}

Result<HostPort> parse_host_port(const std::string& text) {
  const auto wrong = [&] {
    return invalid(fmt::format("expected host:port such as 127.0.0.1:6380, got \"{}\"", text));
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return wrong();
  HostPort address{text.substr(0, colon), 0};
  if (address.host.front() == '[' && address.host.back() == ']') {
    address.host = address.host.substr(1, address.host.size() - 2);
  }
  const char* start = text.data() + colon + 1;
  const char* stop = text.data() + text.size();
  const auto [end, error] = std::from_chars(start, stop, address.port);
  if (error != std::errc() || end != stop || address.host.empty()) return wrong();
  return address;
}

}  // namespace raylet
