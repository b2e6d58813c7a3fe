#include "daemons/raylet/local_door.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "daemons/kit/log.h"

namespace raylet {
namespace {

constexpr auto kRetryWhenExhausted = std::chrono::milliseconds(50);

}  // namespace

Result<std::unique_ptr<LocalDoor>> LocalDoor::open(Loop& loop, const std::string& path, Handlers handlers) {
  Result<FileDescriptor> listener = listen_at(path);
  if (!listener.ok()) return listener.error();
  return std::unique_ptr<LocalDoor>(new LocalDoor(loop, path, std::move(*listener), std::move(handlers)));
}

LocalDoor::LocalDoor(Loop& loop, std::string path, FileDescriptor listener, Handlers handlers)
    : path_(std::move(path)),
      handlers_(std::move(handlers)),
      listener_(loop, std::move(listener)),
      retry_(loop, [this] { wait(); }) {
  wait();
}

LocalDoor::~LocalDoor() {
  listener_.close();
  unlink(path_.c_str());
}

void LocalDoor::wait() {
  listener_.when_readable([this] { accept_one(); });
}

void LocalDoor::accept_one() {
  FileDescriptor socket(accept4(listener_.number(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.valid() && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
    log::warn("no room for a connection errno={}", errno);
    retry_.set_after(kRetryWhenExhausted);
    return;
  }
  if (socket.valid()) {
    Result<PeerCredentials> peer = peer_credentials(socket.number());
    if (!peer.ok() || (peer->uid != geteuid() && peer->uid != 0)) {
      log::warn("connection refused reason=another_user uid={}", peer.ok() ? peer->uid : 0);
    } else if (handlers_.connection_count() >= kConnectionsMax) {
      log::warn("connection refused reason=too_many limit={}", kConnectionsMax);
    } else {
      handlers_.on_connection(std::move(socket));
    }
  }
  wait();
}

}  // namespace raylet
