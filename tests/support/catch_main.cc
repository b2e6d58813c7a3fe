// Catch2's main() takes seven seconds to compile, so every test links this one copy of it.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
