// GrpcServer: a daemon's door: services, reflection and grpc.health.v1 on unix sockets and, if asked, TCP.
//
// Connections are accepted here and handed to gRPC, because Debian's gRPC 1.51.1 never answers again once a
// process has run out of descriptors (CVE-2023-4785): what would leave fewer than kDescriptorReserve is
// closed at once instead. A unix socket admits processes of this user only (0600, and the kernel's word on
// the peer). Over TCP every call, reflection included, needs the token as "authorization: Bearer <token>".
//
// gRPC's own threads decode and call the services, which must do no more than post to the loop.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "daemons/kit/loop.h"
#include "plasma/ipc/packet.h"
#include "protocol/words/result.h"

namespace grpc {
class Server;
class Service;
namespace experimental {
class ExternalConnectionAcceptor;
}
}  // namespace grpc

namespace raylet {

class GrpcServer {
 public:
  static constexpr int kDescriptorReserve = 128;
  static constexpr int kMessageBytesMax = 64 << 20;

  struct Options {
    std::vector<std::string> unix_addresses;  // "unix:/path"
    std::string tcp_address;                  // "host:port", port 0 for any; empty: none
    std::string token;                        // REQUIRES: not empty if there is a TCP address
    std::vector<grpc::Service*> services;     // must outlive the server
  };

  // Listens and serves; health says SERVING. An Error names the address and the reason.
  static Result<std::unique_ptr<GrpcServer>> start(Loop& loop, Options options);
  ~GrpcServer();

  // 0 without TCP.
  uint16_t tcp_port() const;
  void set_serving(bool serving);
  // No new connections. On the loop.
  void stop_listening();
  // No new calls; those under way have until the deadline. From any thread, after stop_listening().
  void shutdown(Duration grace);

 private:
  struct Listener;
  GrpcServer();
  Status listen_unix(Loop& loop, const std::string& path);
  Status listen_tcp(Loop& loop, const std::string& host_port);
  void accept(std::shared_ptr<Listener> listener);
  void accept_one(const std::shared_ptr<Listener>& listener);

  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::vector<std::shared_ptr<Listener>> listeners_;
  std::unique_ptr<grpc::Server> server_;
  uint16_t tcp_port_ = 0;
};

// Reads a token file. Refused: missing, not a regular file, of another owner, readable by others.
Result<std::string> read_token(const std::string& path);

}  // namespace raylet
