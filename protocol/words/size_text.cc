#include "protocol/words/size_text.h"

#include <array>
#include <cstdio>

namespace raylet {

std::string format_size(uint64_t size_bytes) {
  static constexpr std::array<const char*, 6> kNames = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double size = static_cast<double>(size_bytes);
  size_t unit = 0;
  while (size >= 1000 && unit + 1 < kNames.size()) {
    size /= 1024;
    ++unit;
  }
  if (unit == 0) return std::to_string(size_bytes) + " B";
  char text[40];
  std::snprintf(text, sizeof text, "%.*f %s", size < 10 ? 2 : size < 100 ? 1 : 0, size, kNames[unit]);
  return text;
}

}  // namespace raylet
