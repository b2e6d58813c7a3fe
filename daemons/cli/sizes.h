// Sizes as people write them: "2GB", "512MiB", "1.5G", "65536". KB, MB, GB, TB are powers of 1000, KiB ... TiB
// and the bare letters K, M, G, T powers of 1024. Case does not matter.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/words/result.h"
#include "protocol/words/size_text.h"

namespace raylet {

inline constexpr uint64_t kSizeBytesMax = uint64_t{1} << 48;

// In bytes. Refuses what is negative, not a number, of an unknown unit or above kSizeBytesMax.
Result<uint64_t> parse_size(std::string_view text);

// "3.2 s", "4 min 10 s", "2 h 5 min", "3 d 4 h".
std::string format_duration(uint64_t duration_ms);

}  // namespace raylet
