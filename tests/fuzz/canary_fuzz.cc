// A target that must fail: proof that the machinery finds what is wrong and reports it.
#include <cstddef>
#include <cstdint>

#include "protocol/words/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 3 && data[0] == 'b' && data[1] == 'i' && data[2] == 'r' && data[3] == 'd') {
    MUST(false, "the canary sings");
  }
  return 0;
}
