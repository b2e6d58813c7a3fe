#include "daemons/raylet/raylet_options.h"

#include <catch2/catch.hpp>
#include <vector>

namespace raylet {
namespace {

ParsedOptions parse(std::vector<std::string> extra) {
  std::vector<std::string> words = {"rayletd",  "--session-dir", "/tmp/x",       "--head",         "unix:/tmp/h",
                                    "--socket", "/tmp/s",        "--listen",     "unix:/tmp/l",    "--python",
                                    "python3",  "--store-binary", "plasma-store"};
  words.insert(words.end(), extra.begin(), extra.end());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  return parse_raylet_options(static_cast<int>(arguments.size()), arguments.data());
}

}  // namespace

TEST_CASE("resources come from their flags, fractions and custom ones too") {
  ParsedOptions parsed = parse(
      {"--object-store-memory", "2000000", "--num-cpus", "1.5", "--resources", R"({"disk": 2, "licence": 0.25})"});
  REQUIRE_FALSE(parsed.exit_code.has_value());
  REQUIRE(parsed.options.resources.get("CPU") == 1.5);
  REQUIRE(parsed.options.resources.get("disk") == 2);
  REQUIRE(parsed.options.resources.get("licence") == 0.25);
  REQUIRE(parsed.options.resources.get("GPU") == 0);
}

TEST_CASE("a flag that makes no sense ends the program with 2") {
  REQUIRE(parse({"--object-store-memory", "2000000", "--num-cpus", "-1"}).exit_code == 2);
  REQUIRE(parse({"--object-store-memory", "2000000", "--num-cpus", "0.00001"}).exit_code == 2);
  REQUIRE(parse({"--object-store-memory", "2000000", "--colour", "red"}).exit_code == 2);
  REQUIRE(parse({"--object-store-memory", "12"}).exit_code == 2);
  REQUIRE(parse({}).exit_code == 2);
  REQUIRE(parse({"--object-store-memory", "2000000", "--listen-tcp", "localhost:0"}).exit_code == 2);
}

TEST_CASE("custom resources are an object of numbers whose names are free") {
  Resources resources;
  REQUIRE_FALSE(add_custom_resources("[1]", &resources).ok());
  REQUIRE_FALSE(add_custom_resources("{", &resources).ok());
  REQUIRE_FALSE(add_custom_resources(R"({"disk": "two"})", &resources).ok());
  REQUIRE_FALSE(add_custom_resources(R"({"CPU": 2})", &resources).ok());
  REQUIRE_FALSE(add_custom_resources(R"({"disk": -2})", &resources).ok());
  REQUIRE(resources.empty());
}

}  // namespace raylet
