// What a local peer may write into its socket: packets of any kind and size, with and without descriptors.
// The input is a list of packets: a byte of flags, two bytes of length, the packet.
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "plasma/ipc/packet.h"

namespace {

void send_packet(int socket, const uint8_t* bytes, size_t size, int descriptors, uint64_t memfd_bytes) {
  char control[CMSG_SPACE(3 * sizeof(int))] = {};
  iovec part{const_cast<uint8_t*>(bytes), size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  int passed[3] = {-1, -1, -1};
  if (descriptors > 0) {
    for (int i = 0; i < descriptors; ++i) {
      passed[i] = memfd_create("fuzz", MFD_CLOEXEC);
      if (ftruncate(passed[i], static_cast<off_t>(memfd_bytes)) != 0) return;
    }
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(static_cast<size_t>(descriptors) * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(static_cast<size_t>(descriptors) * sizeof(int));
    std::memcpy(CMSG_DATA(header), passed, static_cast<size_t>(descriptors) * sizeof(int));
  }
  sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  for (int descriptor : passed) {
    if (descriptor >= 0) close(descriptor);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace raylet;
  Result<SocketPair> pair = make_socket_pair();
  if (!pair.ok()) return 0;
  bool closed = false;
  while (size >= 3 && !closed) {
    uint8_t flags = data[0];
    size_t length = std::min<size_t>(static_cast<size_t>(data[1] | data[2] << 8), size - 3);
    send_packet(pair->theirs.number(), data + 3, length, (flags & 1) ? 1 + (flags >> 1) % 3 : 0, flags >> 3);
    data += 3 + length;
    size -= 3 + length;
    Result<Received> received = receive_packet(pair->ours.number());
    if (!received.ok()) {
      MUST(!received.error().message.empty());
      break;  // the rule: close the connection
    }
    closed = received->kind == Received::Kind::kClosed;
    if (received->kind == Received::Kind::kPacket) MUST(received->packet.frame.size() <= kFrameBytesMax);
  }
  return 0;
}
