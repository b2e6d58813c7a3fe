#include "daemons/kit/flags.h"

#include <iostream>

#include "daemons/kit/version.h"

namespace raylet {

std::optional<int> parse_flags(CLI::App& app, int argc, char** argv) {
  app.set_version_flag("--version", app.get_name() + " " + kVersion);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& said) {
    return app.exit(said);
  } catch (const CLI::ParseError& error) {
    std::cerr << app.get_name() << ": " << error.what() << "\nTry '" << app.get_name() << " --help'.\n";
    return 2;
  }
  return std::nullopt;
}

}  // namespace raylet
