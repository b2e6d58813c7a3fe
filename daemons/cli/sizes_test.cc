#include "daemons/cli/sizes.h"

#include <catch2/catch.hpp>

#include "daemons/cli/machine.h"

using namespace raylet;

TEST_CASE("sizes are read as people write them") {
  REQUIRE(parse_size("65536").value() == 65'536);
  REQUIRE(parse_size("2GB").value() == 2'000'000'000);
  REQUIRE(parse_size("512MiB").value() == 512u << 20);
  REQUIRE(parse_size("1.5g").value() == (uint64_t{3} << 29));
  REQUIRE(parse_size("10 kb").value() == 10'000);
  REQUIRE(parse_size("0").value() == 0);
}

TEST_CASE("what is not a size is refused with what was expected") {
  for (const char* text : {"", "GB", "-1", "2XB", "1e999", "nan", "inf", "0x10", "3 GB or so", "300TiB", "+5"}) {
    INFO(text);
    const auto size = parse_size(text);
    REQUIRE_FALSE(size.ok());
    REQUIRE(size.error().message.find("expected a size") == 0);
    REQUIRE(size.error().message.find(text) != std::string::npos);
  }
}

TEST_CASE("durations are shown short") {
  REQUIRE(format_duration(12) == "12 ms");
  REQUIRE(format_duration(3'200) == "3.2 s");
  REQUIRE(format_duration(250'000) == "4 min 10 s");
  REQUIRE(format_duration(7'500'000) == "2 h 5 min");
}

TEST_CASE("cgroup limits of CPU and memory are understood") {
  REQUIRE(cpus_of_cpu_max("max 100000\n", 8) == 8);
  REQUIRE(cpus_of_cpu_max("250000 100000\n", 8) == 2);
  REQUIRE(cpus_of_cpu_max("50000 100000\n", 8) == 1);
  REQUIRE(cpus_of_cpu_max("", 8) == 8);
  REQUIRE(bytes_of_limit("max\n", 7) == 7);
  REQUIRE(bytes_of_limit("1073741824\n", 7) == 1 << 30);
  REQUIRE(bytes_of_limit("9223372036854771712\n", 7) == 7);
  REQUIRE(bytes_of_meminfo("MemTotal:  10 kB\nMemAvailable:   4 kB\n", "MemAvailable", 1) == 4'096);
  REQUIRE(bytes_of_meminfo("MemTotal:  10 kB\n", "MemAvailable", 1) == 1);
  REQUIRE(cgroup_path("0::/user.slice/a.scope\n") == "/user.slice/a.scope");
  REQUIRE(cgroup_path("12:memory:/docker/x\n").empty());
}
