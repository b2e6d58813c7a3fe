// What anyone may ask the head: a conversation of requests, each a kind, a size and bytes. The head answers or
// refuses every one, and its tables hold after each.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemons/head/head_codec.h"
#include "gcs/cluster.h"

namespace raylet {
namespace {

template <typename Request>
std::optional<HeadEvent> event_of(const std::string& bytes) {
  Request request;
  if (!request.ParseFromString(bytes)) return std::nullopt;
  Result<HeadEvent> event = decode(request);
  if (!event.ok()) return std::nullopt;
  return *std::move(event);
}

std::optional<HeadEvent> event_of(uint8_t kind, const std::string& bytes) {
  switch (kind % 13) {
    case 0: return event_of<v1::RegisterNodeRequest>(bytes);
    case 1: return event_of<v1::HeartbeatRequest>(bytes);
    case 2: return event_of<v1::GetClusterViewRequest>(bytes);
    case 3: return event_of<v1::LeaveNodeRequest>(bytes);
    case 4: return event_of<v1::RegisterJobRequest>(bytes);
    case 5: return event_of<v1::EndJobRequest>(bytes);
    case 6: return event_of<v1::ListJobsRequest>(bytes);
    case 7: return event_of<v1::RecordGraphRequest>(bytes);
    case 8: return event_of<v1::EndGraphRequest>(bytes);
    case 9: return event_of<v1::ListGraphsRequest>(bytes);
    case 10: return event_of<v1::RegisterNameRequest>(bytes);
    case 11: return event_of<v1::FindNameRequest>(bytes);
    default: return event_of<v1::ForgetNameRequest>(bytes);
  }
}

}  // namespace
}  // namespace raylet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace raylet;
  ClusterOptions options;
  options.node_count_max = options.job_count_max = options.name_count_max = 3;
  options.graph_bytes_max = 1'000;
  options.unwritten_bytes_max = 2'000;
  Cluster cluster(options);
  Instant now;
  std::vector<HeadEffect> effects;
  for (size_t at = 0; at + 2 <= size;) {
    uint8_t kind = data[at];
    size_t length = std::min<size_t>(data[at + 1], size - at - 2);
    std::string bytes(reinterpret_cast<const char*>(data + at + 2), length);
    at += 2 + length;
    std::optional<HeadEvent> event = event_of(kind, bytes);
    if (!event) event = HeadTick{};
    now = now + std::chrono::milliseconds(kind);
    effects.clear();
    cluster.step(now, std::span(&*event, 1), effects);
    cluster.validate();
    for (const HeadEffect& effect : std::vector<HeadEffect>(effects)) {
      const auto* writes = std::get_if<PersistWrites>(&effect);
      if (writes == nullptr || kind < 64) continue;  // some acknowledgements never come
      HeadEvent written = WritesPersisted{writes->ticket};
      cluster.step(now, std::span(&written, 1), effects);
      cluster.validate();
    }
  }
  return 0;
}
