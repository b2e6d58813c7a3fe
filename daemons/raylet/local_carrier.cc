#include "daemons/raylet/local_carrier.h"

#include "daemons/kit/log.h"

namespace raylet {

LocalCarrier::LocalCarrier(Loop& loop, SegmentTable& segments, FileDescriptor socket, Handlers handlers)
    : segments_(segments),
      handlers_(std::move(handlers)),
      link_(loop, std::move(socket),
            {[this](Packet packet) { receive(std::move(packet)); },
             [this](std::string reason) { handlers_.on_closed(std::move(reason)); }}) {}

void LocalCarrier::receive(Packet packet) {
  v1::ClientFrame frame;
  if (!frame.ParseFromString(packet.frame)) {
    link_.close();
    handlers_.on_closed("a packet of " + std::to_string(packet.frame.size()) + " bytes is not a frame");
    return;
  }
  handlers_.on_frame(std::move(frame), packet.frame.size());
}

Status LocalCarrier::send(const v1::ServerFrame& frame) {
  std::string bytes;
  if (frame.ByteSizeLong() > kFrameBytesMax || !frame.SerializeToString(&bytes)) {
    return Error{Code::kResourceExhausted, "a frame of " + std::to_string(frame.ByteSizeLong()) +
                                               " bytes is larger than " + std::to_string(kFrameBytesMax)};
  }
  return link_.send(std::move(bytes));
}

void LocalCarrier::introduce(SegmentId segment) {
  if (!introduced_.insert(segment).second) return;
  const SegmentTable::Segment* found = segments_.find(segment);
  MUST(found != nullptr, "a place in a segment that the store never named");
  v1::ServerFrame frame;
  frame.mutable_segment()->set_segment(segment.number);
  frame.mutable_segment()->set_size_bytes(found->size_bytes);
  FileDescriptor duplicate = found->descriptor.duplicate();
  if (!duplicate.valid()) log::error("no descriptor left to pass on segment={}", segment.number);
  Status sent = link_.send(frame.SerializeAsString(), std::move(duplicate));
  if (!sent.ok()) log::error("segment not passed on segment={} reason={}", segment.number, sent.error().message);
}

}  // namespace raylet
