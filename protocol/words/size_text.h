// Sizes as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace raylet {

// "1.50 GiB", "512 B": three digits at most.
std::string format_size(uint64_t size_bytes);

}  // namespace raylet
