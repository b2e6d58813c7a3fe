// What the head finds in Redis, which someone may have written to: a record or an error. The bytes are tried
// as they are and with a right checksum, which no fuzzer would guess.
#include <cstddef>
#include <cstdint>
#include <string>

#include "gcs/record.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace raylet;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  for (const std::string& stored : {bytes, with_checksum(bytes)}) {
    (void)decode_node(stored).ok();
    (void)decode_job(stored).ok();
    (void)decode_graph_part(stored).ok();
    (void)decode_name(stored).ok();
  }
  return 0;
}
