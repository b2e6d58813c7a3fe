// Packets: whole frames, with at most one descriptor each, over a unix socket of type SOCK_SEQPACKET.
//
// A packet is one byte of kind and then
//   kind 0: the frame itself, at most kPacketBytesMax;
//   kind 1: 8 bytes, little-endian: the size of a frame that lies in a memfd passed with this packet.
// A packet of kind 0 may carry a descriptor that the frame talks about (a segment, a worker's socket).
// So a frame is never in two packets, which is what lets a raylet take back what a worker has not read.
// A packet with another kind, more than one descriptor, a truncated control message, or a memfd that is
// smaller than it says is an error, and the connection must be closed: the peer is not one of ours.
//
// Functions here never block when the socket is non-blocking, and never raise SIGPIPE.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "protocol/words/result.h"

namespace raylet {

constexpr size_t kPacketBytesMax = 64 << 10;
// Most frames are far smaller. A batch carries the small inputs of its tasks, and one task may have 8,000 of
// 64 KiB.
constexpr size_t kFrameBytesMax = 512 << 20;

// An owned descriptor; closed with its owner.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int number) : number_(number) {}
  FileDescriptor(FileDescriptor&& other) noexcept : number_(other.release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();

  int number() const { return number_; }
  bool valid() const { return number_ >= 0; }
  int release();
  // A second descriptor of the same file, close-on-exec. Invalid if the process has no descriptor left.
  FileDescriptor duplicate() const;

 private:
  int number_ = -1;
};

struct Packet {
  std::string frame;
  FileDescriptor descriptor;  // invalid unless one came along with a frame of kind 0
};

// A frame made ready to be sent, once, maybe later: a frame too large for a packet is written to its memfd
// when it is made, not when it is sent.
class OutgoingPacket {
 public:
  // An error if the frame is larger than kFrameBytesMax or memory for the memfd can't be had.
  // REQUIRES: a frame that goes by memfd carries no descriptor.
  static Result<OutgoingPacket> make(std::string frame, FileDescriptor descriptor = {});

  size_t size_bytes() const { return frame_bytes_; }

  enum class Sent { kYes, kWouldBlock, kPeerGone };
  Sent send(int socket);

 private:
  std::string bytes_;  // kind and content
  FileDescriptor descriptor_;
  size_t frame_bytes_ = 0;
};

struct Received {
  enum class Kind { kPacket, kWouldBlock, kClosed };
  Kind kind = Kind::kWouldBlock;
  Packet packet;
};

// An Error means that the peer broke the rules above, or that this process is out of descriptors.
Result<Received> receive_packet(int socket);
// The same, and never blocks, whatever another holder of the same end has made of it.
Result<Received> receive_packet_now(int socket);

// A connected pair, both close-on-exec, both non-blocking.
struct SocketPair {
  FileDescriptor ours;
  FileDescriptor theirs;
};
Result<SocketPair> make_socket_pair();

// A listening socket at `path`, mode 0600. An error names the path and the reason: too long (107 bytes is
// the most a unix socket's name can have), in use by a live process, not writable.
Result<FileDescriptor> listen_at(const std::string& path);

// The kernel's word on who is at the other end.
struct PeerCredentials {
  int pid = 0;
  unsigned uid = 0;
};
Result<PeerCredentials> peer_credentials(int socket);

}  // namespace raylet
