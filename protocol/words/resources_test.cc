#include "protocol/words/resources.h"

#include <catch2/catch.hpp>
#include <limits>

namespace raylet {
namespace {

Resources of(const std::string& name, double amount) {
  Resources resources;
  REQUIRE(resources.set(name, amount).ok());
  return resources;
}

}  // namespace

TEST_CASE("ten tenths of a CPU are one CPU, exactly") {
  Resources sum;
  for (int i = 0; i < 10; ++i) sum.add(of("CPU", 0.1));
  REQUIRE(sum == of("CPU", 1));
  REQUIRE(sum.to_string() == "CPU 1");
}

TEST_CASE("what was taken and given back leaves no trace") {
  Resources node = of("CPU", 2);
  node.subtract(of("CPU", 2));
  REQUIRE(node.empty());
  node.add(of("CPU", 2));
  REQUIRE(node == of("CPU", 2));
}

TEST_CASE("a wish fits only if each of its parts does") {
  Resources node = of("CPU", 2);
  Resources wish = of("CPU", 1);
  REQUIRE(node.fits(wish));
  wish.add(of("GPU", 1));
  REQUIRE_FALSE(node.fits(wish));
  REQUIRE(node.fits(Resources{}));
}

TEST_CASE("amounts that make no sense are refused") {
  Resources r;
  REQUIRE_FALSE(r.set("CPU", -1).ok());
  REQUIRE_FALSE(r.set("CPU", std::numeric_limits<double>::quiet_NaN()).ok());
  REQUIRE_FALSE(r.set("CPU", 0.00001).ok());
  REQUIRE_FALSE(r.set("CPU", 1e300).ok());
  REQUIRE_FALSE(r.set("", 1).ok());
  REQUIRE(r.empty());
  REQUIRE(r.set("memory", 24e9).ok());
}

}  // namespace raylet
