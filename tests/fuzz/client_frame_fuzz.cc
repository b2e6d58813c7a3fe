// What a driver or worker may send: bytes -> ClientFrame -> event. Never more than a refusal.
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "daemons/raylet/frame_codec.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  google::protobuf::SetLogHandler(nullptr);  // it has something to say about most inputs
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace raylet;
  v1::ClientFrame frame;
  if (!frame.ParseFromArray(data, static_cast<int>(size))) return 0;
  FrameSubject subject = subject_of(frame);
  Result<std::optional<Event>> event = decode_client_frame(SessionId{1}, std::move(frame), size);
  if (!event.ok()) {
    MUST(!event.error().message.empty());
    MUST(encode_refusal(subject, event.error()).refusal().failure().code() != v1::ERROR_NONE);
    return 0;
  }
  if (!event->has_value()) return 0;
  if (auto* results = std::get_if<ResultsArrived>(&**event)) {
    for (const TaskResult& result : results->results) {
      MUST((result.status == TaskResult::Status::kOk) || result.returns.empty());
    }
  }
  return 0;
}
