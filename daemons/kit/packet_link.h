// PacketLink: one end of a SEQPACKET socket on the loop: packets in as they come, packets out in order.
//
// Lives on the loop's thread. on_closed may destroy the link, on_packet must not (close it
// and destroy it later). After on_closed nothing is called any more.
// The outgoing queue is bounded: a peer that does not read is told off by the owner, who sees the queue grow.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "daemons/kit/socket_watch.h"
#include "plasma/ipc/packet.h"

namespace raylet {

class PacketLink {
 public:
  struct Handlers {
    std::function<void(Packet)> on_packet;
    // Once: the peer closed, or broke the rules (then `reason` says how).
    std::function<void(std::string reason)> on_closed;
  };

  // How many packets are read before other links have their turn.
  static constexpr int kPacketsPerTurnMax = 64;

  PacketLink(Loop& loop, FileDescriptor socket, Handlers handlers);
  ~PacketLink();

  // Sends now if nothing waits and the socket has room, else queues. An Error is the frame's own fault.
  Status send(std::string frame, FileDescriptor descriptor = {});

  size_t queued_packets() const { return outgoing_.size(); }
  size_t queued_bytes() const { return queued_bytes_; }
  int socket() const { return socket_.number(); }

  // Stops reading until resume(); what the peer sends waits in its socket.
  void pause();
  void resume();

  // Reads whatever has come, without waiting; for the last words of a dead peer.
  void drain();
  // Sends what is queued as far as the socket has room.
  void flush();
  void close();

 private:
  struct Alive {};
  void wait_readable();
  void wait_writable();
  bool read_one();  // false: nothing more now, or closed
  void write_queued();
  void fail(std::string reason);

  SocketWatch socket_;
  Handlers handlers_;
  std::deque<OutgoingPacket> outgoing_;
  size_t queued_bytes_ = 0;
  bool reading_ = false;
  bool writing_ = false;
  bool paused_ = false;
  bool closed_ = false;
  std::shared_ptr<Alive> alive_ = std::make_shared<Alive>();
};

}  // namespace raylet
