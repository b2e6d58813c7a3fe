#include "daemons/raylet/worker_process.h"

#include <signal.h>

#include <algorithm>

#include "daemons/kit/log.h"
#include "daemons/raylet/frame_codec.h"

namespace raylet {

WorkerProcess::WorkerProcess(Loop& loop, SegmentTable& segments, WorkerId worker, SessionId session,
                             SocketPair pair, LocalCarrier::Handlers handlers)
    : worker_(worker),
      session_(session),
      their_end_(std::move(pair.theirs)),
      carrier_(loop, segments, std::move(pair.ours), std::move(handlers)) {}

Status WorkerProcess::send_batch(const SendBatch& effect, const Bytes& setup) {
  for (const SendBatch::Located& input : effect.located_inputs) carrier_.introduce(input.at.segment);
  v1::RunBatch* message = batch_frame_.mutable_run_batch();
  message->Clear();
  encode_batch(effect, message);
  message->set_follows(sent_numbers_.empty() ? 0 : sent_numbers_.back());
  if (effect.first_of_job) {
    job = effect.job;
    if (setup && !message->mutable_setup()->ParseFromString(*setup)) message->clear_setup();
  }
  RETURN_IF_ERROR(carrier_.send(batch_frame_));
  sent_numbers_.push_back(effect.batch);
  if (sent_numbers_.size() > kSentNumbersMax) sent_numbers_.pop_front();
  return Done{};
}

std::vector<uint64_t> WorkerProcess::retract() {
  std::vector<uint64_t> numbers;
  std::vector<Packet> others;
  // What waits outside of the socket goes in as room appears, and comes out again.
  while (true) {
    Result<Received> received = receive_packet_now(their_end_.number());
    if (!received.ok()) {
      log::error("packet lost while taking back worker={} reason={}", worker_.number, received.error().message);
      continue;
    }
    if (received->kind != Received::Kind::kPacket) {
      size_t queued = carrier_.queued_packets();
      if (received->kind == Received::Kind::kClosed || queued == 0) break;
      carrier_.flush();
      if (carrier_.queued_packets() == queued) break;
      continue;
    }
    v1::ServerFrame frame;
    if (frame.ParseFromString(received->packet.frame) && frame.has_run_batch()) {
      numbers.push_back(frame.run_batch().batch());
    } else {
      others.push_back(std::move(received->packet));
    }
  }
  std::erase_if(sent_numbers_, [&](uint64_t number) {
    return std::find(numbers.begin(), numbers.end(), number) != numbers.end();
  });
  for (Packet& packet : others) {
    Status sent = carrier_.send_again(std::move(packet));
    if (!sent.ok()) log::error("frame lost worker={} reason={}", worker_.number, sent.error().message);
  }
  return numbers;
}

void WorkerProcess::interrupt(const InterruptTask& effect) {
  (void)carrier_.send(encode(effect)).ok();
  signal(SIGINT);
}

void WorkerProcess::signal(int number) {
  // The pid is ours until ChildTable has reaped it, and then the state is kGone.
  if (pid > 0 && state != State::kGone) kill(pid, number);
}

}  // namespace raylet
