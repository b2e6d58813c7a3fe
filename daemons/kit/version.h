// The version of everything in this repository.
#pragma once

namespace raylet {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace raylet
