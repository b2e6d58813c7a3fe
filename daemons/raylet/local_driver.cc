#include "daemons/raylet/local_driver.h"

#include "daemons/raylet/frame_codec.h"

namespace raylet {

LocalDriver::LocalDriver(Loop& loop, SessionHost& host, FileDescriptor socket)
    : DriverSession(loop, host, true),
      carrier_(loop, host.segments(), std::move(socket),
               {[this](v1::ClientFrame frame, size_t wire_bytes) { take(std::move(frame), wire_bytes); },
                [this](std::string reason) { lost(reason); }}) {}

void LocalDriver::answer(const AnswerGet& effect) {
  for (const ObjectAnswer& answer : effect.answers) {
    if (answer.kind == ObjectAnswer::Kind::kLocated) carrier_.introduce(answer.at.segment);
  }
  for (const v1::ServerFrame& frame : encode_answers(effect)) send(frame);
}

void LocalDriver::grant(const GrantSlab& effect) {
  if (effect.failure.code == FailureCode::kNone) carrier_.introduce(effect.at.segment);
  send(encode(effect));
}

size_t LocalDriver::queued_bytes() const {
  return carrier_.queued_bytes() + carrier_.queued_packets() * kPacketCostBytes;
}

bool LocalDriver::take_own(v1::ClientFrame& frame) {
  if (!frame.has_put_piece()) return false;
  refuse(frame, "pieces are for sessions over gRPC; write the value to a slab");
  return true;
}

}  // namespace raylet
