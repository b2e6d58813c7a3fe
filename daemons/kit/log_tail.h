// The last words of a process: the end of the file that its output went to.
#pragma once

#include <string>

namespace raylet {

// At most `bytes_max` of the end of a file, from a line's start where there is one; empty if it can't be read.
std::string read_tail(const std::string& path, size_t bytes_max);

}  // namespace raylet
