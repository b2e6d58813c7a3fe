#include "plasma/ipc/packet.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace raylet {
namespace {

constexpr char kKindInPacket = 0;
constexpr char kKindInMemfd = 1;
constexpr size_t kMemfdHeaderBytes = 8;

std::string errno_text() { return std::strerror(errno); }

Status write_all(int file, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t written = write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Error{Code::kResourceExhausted, "no memory for a large frame: " + errno_text()};
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return Done{};
}

Result<std::string> read_memfd(int file, uint64_t size_bytes) {
  struct stat status {};
  if (fstat(file, &status) != 0 || status.st_size < 0 || static_cast<uint64_t>(status.st_size) < size_bytes) {
    return invalid("a large frame's memory is smaller than it says");
  }
  std::string frame(size_bytes, '\0');
  size_t done = 0;
  while (done < size_bytes) {
    ssize_t got = pread(file, frame.data() + done, size_bytes - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return invalid("a large frame's memory could not be read");
    done += static_cast<size_t>(got);
  }
  return frame;
}

uint64_t read_little_endian(const char* bytes) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = (value << 8) | static_cast<unsigned char>(bytes[i]);
  return value;
}

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    if (number_ >= 0) close(number_);
    number_ = other.release();
  }
  return *this;
}

FileDescriptor::~FileDescriptor() {
  if (number_ >= 0) close(number_);
}

int FileDescriptor::release() { return std::exchange(number_, -1); }

FileDescriptor FileDescriptor::duplicate() const {
  return FileDescriptor(number_ < 0 ? -1 : fcntl(number_, F_DUPFD_CLOEXEC, 3));
}

Result<OutgoingPacket> OutgoingPacket::make(std::string frame, FileDescriptor descriptor) {
  if (frame.size() > kFrameBytesMax) {
    return Error{Code::kResourceExhausted, "a frame of " + std::to_string(frame.size()) +
                                               " bytes is larger than " + std::to_string(kFrameBytesMax) +
                                               "; send it in parts"};
  }
  OutgoingPacket packet;
  packet.frame_bytes_ = frame.size();
  if (frame.size() < kPacketBytesMax) {
    packet.bytes_.reserve(frame.size() + 1);
    packet.bytes_.push_back(kKindInPacket);
    packet.bytes_ += frame;
    packet.descriptor_ = std::move(descriptor);
    return packet;
  }
  MUST(!descriptor.valid(), "a large frame can't carry a descriptor");
  FileDescriptor memory(memfd_create("raylet-frame", MFD_CLOEXEC));
  if (!memory.valid()) return Error{Code::kResourceExhausted, "no memfd for a large frame: " + errno_text()};
  RETURN_IF_ERROR(write_all(memory.number(), frame));
  packet.bytes_.push_back(kKindInMemfd);
  for (size_t i = 0; i < kMemfdHeaderBytes; ++i)
    packet.bytes_.push_back(static_cast<char>(frame.size() >> (8 * i)));
  packet.descriptor_ = std::move(memory);
  return packet;
}

OutgoingPacket::Sent OutgoingPacket::send(int socket) {
  iovec part{bytes_.data(), bytes_.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (descriptor_.valid()) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    int number = descriptor_.number();
    std::memcpy(CMSG_DATA(header), &number, sizeof number);
  }
  while (true) {
    if (sendmsg(socket, &message, MSG_NOSIGNAL) >= 0) return Sent::kYes;
    if (errno == EINTR) continue;
    // ETOOMANYREFS: too many descriptors of this user are in flight; they drain as the peer reads.
    bool later = errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ETOOMANYREFS;
    return later ? Sent::kWouldBlock : Sent::kPeerGone;
  }
}

namespace {

Result<Received> receive(int socket, int flags) {
  // One byte more than the largest packet, so that a larger one shows as truncated.
  thread_local std::string buffer(kPacketBytesMax + 1, '\0');
  iovec part{buffer.data(), buffer.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t size;
  do {
    size = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags);
  } while (size < 0 && errno == EINTR);
  Received received;
  if (size < 0) {
    received.kind =
        errno == EAGAIN || errno == EWOULDBLOCK ? Received::Kind::kWouldBlock : Received::Kind::kClosed;
    return received;
  }
  FileDescriptor descriptor;
  size_t descriptor_count = 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int number;
      std::memcpy(&number, CMSG_DATA(header) + i * sizeof(int), sizeof number);
      descriptor = FileDescriptor(number);  // closes the one before, if the peer sent several
      ++descriptor_count;
    }
  }
  if (size == 0) {
    received.kind = Received::Kind::kClosed;
    return received;
  }
  if ((message.msg_flags & MSG_TRUNC) != 0) return invalid("a packet is larger than a packet may be");
  if ((message.msg_flags & MSG_CTRUNC) != 0 || descriptor_count > 1) {
    return invalid("a packet carries more than one descriptor, or this process has none left");
  }
  received.kind = Received::Kind::kPacket;
  const char* content = buffer.data() + 1;
  size_t content_bytes = static_cast<size_t>(size) - 1;
  if (buffer[0] == kKindInPacket) {
    received.packet.frame.assign(content, content_bytes);
    received.packet.descriptor = std::move(descriptor);
    return received;
  }
  if (buffer[0] != kKindInMemfd) return invalid("a packet of an unknown kind");
  if (content_bytes != kMemfdHeaderBytes || !descriptor.valid())
    return invalid("a large frame came without its memory");
  uint64_t frame_bytes = read_little_endian(content);
  if (frame_bytes > kFrameBytesMax)
    return invalid("a frame of " + std::to_string(frame_bytes) + " bytes is too large");
  Result<std::string> frame = read_memfd(descriptor.number(), frame_bytes);
  if (!frame.ok()) return frame.error();
  received.packet.frame = std::move(*frame);
  return received;
}

}  // namespace

Result<Received> receive_packet(int socket) { return receive(socket, 0); }
Result<Received> receive_packet_now(int socket) { return receive(socket, MSG_DONTWAIT); }

Result<SocketPair> make_socket_pair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    return Error{Code::kResourceExhausted, "no socket pair: " + errno_text()};
  }
  return SocketPair{FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

Result<FileDescriptor> listen_at(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return invalid("the socket path " + path + " has " + std::to_string(path.size()) +
                   " bytes, at most 107 are possible; choose a shorter session directory");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  FileDescriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return Error{Code::kResourceExhausted, "no socket: " + errno_text()};
  auto* plain = reinterpret_cast<sockaddr*>(&address);
  if (bind(socket.number(), plain, sizeof address) != 0 && errno == EADDRINUSE) {
    // A file may be left of a process that was killed. Only one that nobody answers at may go.
    FileDescriptor probe(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (connect(probe.number(), plain, sizeof address) == 0) {
      return Error{Code::kAlreadyExists,
                   "another process listens at " + path + "; stop it or choose another directory"};
    }
    unlink(path.c_str());
    if (bind(socket.number(), plain, sizeof address) != 0) {
      return Error{Code::kPermissionDenied, "can't listen at " + path + ": " + errno_text()};
    }
  } else if (struct stat status {}; stat(path.c_str(), &status) != 0) {
    return Error{Code::kPermissionDenied, "can't listen at " + path + ": " + errno_text()};
  }
  if (chmod(path.c_str(), 0600) != 0 || listen(socket.number(), SOMAXCONN) != 0) {
    return Error{Code::kPermissionDenied, "can't listen at " + path + ": " + errno_text()};
  }
  return socket;
}

Result<PeerCredentials> peer_credentials(int socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return Error{Code::kUnavailable, "who is at the other end of a socket can't be told: " + errno_text()};
  }
  return PeerCredentials{credentials.pid, credentials.uid};
}

}  // namespace raylet
