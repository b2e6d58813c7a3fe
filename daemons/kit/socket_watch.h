// SocketWatch: owns a socket and tells when it can be read from or written to.
//
// Lives on the loop's thread. Nothing is told after close() or the watch's end.
#pragma once

#include <functional>
#include <memory>

#include "daemons/kit/loop.h"
#include "plasma/ipc/packet.h"

namespace raylet {

class SocketWatch {
 public:
  // The socket is made non-blocking.
  SocketWatch(Loop& loop, FileDescriptor socket);
  ~SocketWatch();

  // -1 after close().
  int number() const;

  // `job` once, when there is something to read (or room to write), or the peer is gone. At most one of each may
  // wait at a time. It may destroy the watch.
  void when_readable(std::function<void()> job);
  void when_writable(std::function<void()> job);

  void close();

 private:
  struct Socket;
  std::shared_ptr<Socket> socket_;
};

}  // namespace raylet
