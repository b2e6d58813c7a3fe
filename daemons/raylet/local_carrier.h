// LocalCarrier: frames over a packet socket to one local process, and the store's segments that go before the
// first place in them. The peer is a driver or a worker.
#pragma once

#include <functional>
#include <set>
#include <string>

#include "daemons/kit/packet_link.h"
#include "daemons/raylet/core/effects.h"
#include "daemons/raylet/segment_table.h"
#include "protocol/wire/session.pb.h"

namespace raylet {

class LocalCarrier {
 public:
  struct Handlers {
    // `wire_bytes`: what the frame cost on the wire. Must not destroy the carrier.
    std::function<void(v1::ClientFrame frame, size_t wire_bytes)> on_frame;
    // Once, when the peer is gone or sent what is no frame (then `reason` says so). Must not destroy the carrier.
    std::function<void(std::string reason)> on_closed;
  };

  LocalCarrier(Loop& loop, SegmentTable& segments, FileDescriptor socket, Handlers handlers);

  // An Error is the frame's own fault (too large, or no memory for it); nothing was sent.
  Status send(const v1::ServerFrame& frame);
  // Sends again what came out of the peer's socket unread.
  Status send_again(Packet packet) { return link_.send(std::move(packet.frame), std::move(packet.descriptor)); }
  // REQUIRED before a frame that names a place in the segment.
  void introduce(SegmentId segment);
  // The store's segments have new descriptors: introduce them again.
  void forget_segments() { introduced_.clear(); }

  size_t queued_bytes() const { return link_.queued_bytes(); }
  size_t queued_packets() const { return link_.queued_packets(); }
  void flush() { link_.flush(); }
  void drain() { link_.drain(); }
  void close() { link_.close(); }

 private:
  void receive(Packet packet);

  SegmentTable& segments_;
  Handlers handlers_;
  std::set<SegmentId> introduced_;
  PacketLink link_;
};

}  // namespace raylet
