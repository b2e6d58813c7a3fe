#include "plasma/ipc/packet.h"

#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>

namespace raylet {
namespace {

Received roundtrip(const SocketPair& pair, std::string frame, FileDescriptor descriptor = {}) {
  Result<OutgoingPacket> packet = OutgoingPacket::make(std::move(frame), std::move(descriptor));
  REQUIRE(packet.ok());
  REQUIRE(packet->send(pair.ours.number()) == OutgoingPacket::Sent::kYes);
  Result<Received> received = receive_packet(pair.theirs.number());
  REQUIRE(received.ok());
  return std::move(*received);
}

}  // namespace

TEST_CASE("a frame arrives whole, whether it fits a packet or not") {
  SocketPair pair = std::move(*make_socket_pair());
  for (size_t size : {size_t{0}, size_t{1}, kPacketBytesMax - 1, kPacketBytesMax, size_t{5} << 20}) {
    std::string frame(size, 'x');
    REQUIRE(roundtrip(pair, frame).packet.frame == frame);
  }
}

TEST_CASE("a descriptor arrives with its frame") {
  SocketPair pair = std::move(*make_socket_pair());
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  Received received = roundtrip(pair, "segment", FileDescriptor(ends[1]));
  REQUIRE(received.packet.descriptor.valid());
  REQUIRE(write(received.packet.descriptor.number(), "!", 1) == 1);
  char byte;
  REQUIRE(read(ends[0], &byte, 1) == 1);
  close(ends[0]);
}

TEST_CASE("an empty socket would block and a closed one is closed") {
  SocketPair pair = std::move(*make_socket_pair());
  REQUIRE(receive_packet(pair.theirs.number())->kind == Received::Kind::kWouldBlock);
  pair.ours = FileDescriptor();
  REQUIRE(receive_packet(pair.theirs.number())->kind == Received::Kind::kClosed);
}

TEST_CASE("a packet that breaks the rules is an error, not a crash") {
  SocketPair pair = std::move(*make_socket_pair());
  for (const std::string& packet :
       {std::string("\7abc"), std::string("\1abc"), std::string("\1") + std::string(8, '\1'),
        std::string(kPacketBytesMax + 100, '\0')}) {
    REQUIRE(send(pair.ours.number(), packet.data(), packet.size(), 0) == static_cast<ssize_t>(packet.size()));
    REQUIRE_FALSE(receive_packet(pair.theirs.number()).ok());
  }
}

TEST_CASE("what is too large to be a frame is refused before it is sent") {
  REQUIRE_FALSE(OutgoingPacket::make(std::string(kFrameBytesMax + 1, 'x')).ok());
}

TEST_CASE("a second listener at a live socket is refused, a dead one's file is taken over") {
  std::string path = "/tmp/raylet-packet-test-" + std::to_string(getpid());
  {
    Result<FileDescriptor> first = listen_at(path);
    REQUIRE(first.ok());
    REQUIRE(listen_at(path).error().code == Code::kAlreadyExists);
  }
  REQUIRE(listen_at(path).ok());
  unlink(path.c_str());
  REQUIRE_FALSE(listen_at("/nonexistent/raylet").ok());
  REQUIRE_FALSE(listen_at("/tmp/" + std::string(200, 'x')).ok());
}

}  // namespace raylet
