// LocalDoor: accepts local drivers on the raylet's socket: processes of this user only, at most
// kConnectionsMax at a time.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "daemons/kit/socket_watch.h"
#include "plasma/ipc/packet.h"

namespace raylet {

class LocalDoor {
 public:
  static constexpr size_t kConnectionsMax = 1'024;

  struct Handlers {
    std::function<void(FileDescriptor socket)> on_connection;
    std::function<size_t()> connection_count;
  };

  // An Error names the path and the reason.
  static Result<std::unique_ptr<LocalDoor>> open(Loop& loop, const std::string& path, Handlers handlers);
  // Removes the socket's file.
  ~LocalDoor();

 private:
  LocalDoor(Loop& loop, std::string path, FileDescriptor listener, Handlers handlers);
  void wait();
  void accept_one();

  std::string path_;
  Handlers handlers_;
  SocketWatch listener_;
  Alarm retry_;
};

}  // namespace raylet
