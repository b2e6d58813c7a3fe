#include "daemons/cli/sizes.h"

#include <fmt/core.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <utility>

namespace raylet {
namespace {

constexpr double kKi = 1024, kK = 1000;

constexpr std::array<std::pair<std::string_view, double>, 14> kUnits = {{
    {"", 1},
    {"B", 1},
    {"K", kKi},
    {"KB", kK},
    {"KIB", kKi},
    {"M", kKi * kKi},
    {"MB", kK * kK},
    {"MIB", kKi * kKi},
    {"G", kKi * kKi * kKi},
    {"GB", kK * kK * kK},
    {"GIB", kKi * kKi * kKi},
    {"T", kKi * kKi * kKi * kKi},
    {"TB", kK * kK * kK * kK},
    {"TIB", kKi * kKi * kKi * kKi},
}};

Error not_a_size(std::string_view text) {
  return invalid(fmt::format("expected a size such as 2GB, 512MiB or 65536 (bytes), got \"{}\"", text));
}

}  // namespace

Result<uint64_t> parse_size(std::string_view text) {
  const std::string copy(text);
  if (copy.empty() || (copy[0] != '.' && (copy[0] < '0' || copy[0] > '9')) || copy.find_first_of("xX") == 1) {
    return not_a_size(text);
  }
  char* end = nullptr;
  const double number = std::strtod(copy.c_str(), &end);
  while (*end == ' ') ++end;
  std::string unit;
  for (; *end != '\0'; ++end) unit += *end >= 'a' && *end <= 'z' ? static_cast<char>(*end - 'a' + 'A') : *end;
  for (const auto& [name, factor] : kUnits) {
    if (name != unit) continue;
    const double size = number * factor;
    if (!std::isfinite(size) || size > static_cast<double>(kSizeBytesMax)) {
      return invalid(fmt::format("expected a size of at most 256TiB, got \"{}\"", text));
    }
    return static_cast<uint64_t>(size);
  }
  return not_a_size(text);
}

std::string format_duration(uint64_t duration_ms) {
  const uint64_t seconds = duration_ms / 1000;
  if (duration_ms < 1000) return fmt::format("{} ms", duration_ms);
  if (seconds < 60) return fmt::format("{:.1f} s", static_cast<double>(duration_ms) / 1000);
  if (seconds < 3600) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
  if (seconds < 86'400) return fmt::format("{} h {} min", seconds / 3600, seconds / 60 % 60);
  return fmt::format("{} d {} h", seconds / 86'400, seconds / 3600 % 24);
}

}  // namespace raylet
