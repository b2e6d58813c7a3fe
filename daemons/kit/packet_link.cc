#include "daemons/kit/packet_link.h"

namespace raylet {

PacketLink::PacketLink(Loop& loop, FileDescriptor socket, Handlers handlers)
    : socket_(loop, std::move(socket)), handlers_(std::move(handlers)) {
  wait_readable();
}

PacketLink::~PacketLink() = default;

Status PacketLink::send(std::string frame, FileDescriptor descriptor) {
  if (closed_) return Done{};
  Result<OutgoingPacket> packet = OutgoingPacket::make(std::move(frame), std::move(descriptor));
  if (!packet.ok()) return packet.error();
  if (outgoing_.empty() && !writing_) {
    OutgoingPacket::Sent sent = packet->send(socket());
    // A peer that is gone shows when its last packets were read; reading tells the owner.
    if (sent != OutgoingPacket::Sent::kWouldBlock) return Done{};
  }
  queued_bytes_ += packet->size_bytes();
  outgoing_.push_back(std::move(*packet));
  wait_writable();
  return Done{};
}

void PacketLink::pause() { paused_ = true; }

void PacketLink::resume() {
  paused_ = false;
  wait_readable();
}

void PacketLink::drain() {
  std::weak_ptr<Alive> alive = alive_;
  while (!alive.expired() && !closed_ && read_one()) {
  }
}

void PacketLink::flush() {
  if (!closed_) write_queued();
}

void PacketLink::close() {
  if (closed_) return;
  closed_ = true;
  socket_.close();
}

void PacketLink::wait_readable() {
  if (reading_ || paused_ || closed_) return;
  reading_ = true;
  socket_.when_readable([this, alive = std::weak_ptr(alive_)] {
    reading_ = false;
    for (int i = 0; i < kPacketsPerTurnMax; ++i) {
      if (paused_ || !read_one()) break;
      if (alive.expired()) return;
    }
    if (!alive.expired()) wait_readable();
  });
}

bool PacketLink::read_one() {
  Result<Received> received = receive_packet(socket());
  if (!received.ok()) {
    fail(received.error().message);
    return false;
  }
  switch (received->kind) {
    case Received::Kind::kWouldBlock:
      return false;
    case Received::Kind::kClosed:
      fail("the peer closed the connection");
      return false;
    case Received::Kind::kPacket: {
      std::weak_ptr<Alive> alive = alive_;
      handlers_.on_packet(std::move(received->packet));
      return !alive.expired() && !closed_;
    }
  }
  return false;
}

void PacketLink::wait_writable() {
  if (writing_ || closed_) return;
  writing_ = true;
  socket_.when_writable([this] {
    writing_ = false;
    write_queued();
  });
}

void PacketLink::write_queued() {
  while (!outgoing_.empty()) {
    switch (outgoing_.front().send(socket())) {
      case OutgoingPacket::Sent::kYes:
        queued_bytes_ -= outgoing_.front().size_bytes();
        outgoing_.pop_front();
        break;
      case OutgoingPacket::Sent::kWouldBlock:
        wait_writable();
        return;
      case OutgoingPacket::Sent::kPeerGone:
        outgoing_.clear();
        queued_bytes_ = 0;
        return;
    }
  }
}

void PacketLink::fail(std::string reason) {
  if (closed_) return;
  close();
  // The handler may destroy this link and with it the handlers; keep the one that runs.
  auto on_closed = std::move(handlers_.on_closed);
  if (on_closed) on_closed(std::move(reason));
}

}  // namespace raylet
