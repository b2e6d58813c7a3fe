// What the head finds in Redis, which someone may have written to: a record or an error.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "gcs/record.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace raylet;
  std::string_view stored(reinterpret_cast<const char*>(data), size);
  (void)decode_node(stored).ok();
  (void)decode_job(stored).ok();
  (void)decode_graph_part(stored).ok();
  (void)decode_name(stored).ok();
  return 0;
}
