// Command-line flags in the same manner for every program: CLI11 with --help and --version, exit code 0 for
// those and 2 for a flag that makes no sense, with what was expected on stderr.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

namespace raylet {

// Adds --version. Nothing: go on; a number: exit with it, everything was said.
std::optional<int> parse_flags(CLI::App& app, int argc, char** argv);

}  // namespace raylet
