#include "protocol/words/size_text.h"

#include <catch2/catch.hpp>

using raylet::format_size;

TEST_CASE("a size has three digits and the largest unit that it fills") {
  CHECK(format_size(0) == "0 B");
  CHECK(format_size(999) == "999 B");
  CHECK(format_size(64 << 10) == "64.0 KiB");
  CHECK(format_size(uint64_t{3} << 29) == "1.50 GiB");
}
