#include "daemons/kit/socket_watch.h"

#include <utility>

#include "daemons/kit/asio.h"

namespace raylet {

using Descriptor = asio::posix::stream_descriptor;

struct SocketWatch::Socket : std::enable_shared_from_this<SocketWatch::Socket> {
  Socket(Loop& loop, FileDescriptor file) : descriptor(loop.io(), file.release()) {}

  // A wait that is over may still be on its way here when the watch has gone.
  void wait(Descriptor::wait_type what, std::function<void()> job) {
    descriptor.async_wait(what, [weak = weak_from_this(), job = std::move(job)](boost::system::error_code error) {
      auto alive = weak.lock();
      if (!error && alive && alive->descriptor.is_open()) job();
    });
  }

  Descriptor descriptor;
};

SocketWatch::SocketWatch(Loop& loop, FileDescriptor socket)
    : socket_(std::make_shared<Socket>(loop, std::move(socket))) {
  socket_->descriptor.non_blocking(true);
}

SocketWatch::~SocketWatch() { close(); }

int SocketWatch::number() const { return socket_->descriptor.native_handle(); }

void SocketWatch::when_readable(std::function<void()> job) {
  socket_->wait(Descriptor::wait_read, std::move(job));
}

void SocketWatch::when_writable(std::function<void()> job) {
  socket_->wait(Descriptor::wait_write, std::move(job));
}

void SocketWatch::close() {
  boost::system::error_code ignored;
  socket_->descriptor.close(ignored);
}

}  // namespace raylet
