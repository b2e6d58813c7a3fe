#include "daemons/kit/grpc_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "daemons/kit/log.h"
#include "daemons/kit/socket_watch.h"

namespace raylet {
namespace {

constexpr Duration kRetryWhenExhausted = std::chrono::milliseconds(50);

std::string errno_text() { return std::strerror(errno); }

// How many descriptors this process may have, after asking for as many as it is allowed.
int descriptor_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  rlimit wish = limit;
  wish.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &wish) == 0) limit = wish;
  return static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1 << 20));
}

// Takes as long for a wrong token as for a right one.
bool equal_in_constant_time(std::string_view a, std::string_view b) {
  unsigned char difference = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < a.size(); ++i)
    difference |= static_cast<unsigned char>(a[i] ^ b[i % std::max<size_t>(b.size(), 1)]);
  return difference == 0;
}

// Ends every call from TCP that does not bring the token.
class TokenCheck : public grpc::experimental::Interceptor {
 public:
  TokenCheck(grpc::experimental::ServerRpcInfo* info, const std::string& expected)
      : info_(info), expected_(expected) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    using Hook = grpc::experimental::InterceptionHookPoints;
    if (methods->QueryInterceptionHookPoint(Hook::POST_RECV_INITIAL_METADATA)) {
      bool local = info_->server_context()->peer().rfind("unix:", 0) == 0;
      auto* metadata = methods->GetRecvInitialMetadata();
      auto found = metadata->find("authorization");
      refused_ = !local && (found == metadata->end() ||
                            !equal_in_constant_time({found->second.data(), found->second.size()}, expected_));
      if (refused_) info_->server_context()->TryCancel();
    }
    if (refused_ && methods->QueryInterceptionHookPoint(Hook::PRE_SEND_STATUS)) {
      methods->ModifySendStatus(
          {grpc::StatusCode::UNAUTHENTICATED, "bring the cluster's token as 'authorization: Bearer ...'"});
    }
    methods->Proceed();
  }

 private:
  grpc::experimental::ServerRpcInfo* info_;
  const std::string& expected_;
  bool refused_ = false;
};

class TokenCheckFactory : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit TokenCheckFactory(std::string token) : expected_("Bearer " + std::move(token)) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(grpc::experimental::ServerRpcInfo* info) override {
    return new TokenCheck(info, expected_);
  }

 private:
  std::string expected_;
};

}  // namespace

struct GrpcServer::Listener {
  Listener(Loop& loop, FileDescriptor file, bool is_unix, std::string path)
      : loop(loop), socket(loop, std::move(file)), is_unix(is_unix), path(std::move(path)) {}
  ~Listener() {
    if (is_unix) unlink(path.c_str());
  }
  Loop& loop;
  SocketWatch socket;
  bool is_unix;
  std::string path;
};

Result<std::unique_ptr<GrpcServer>> GrpcServer::start(Loop& loop, Options options) {
  MUST(options.tcp_address.empty() || !options.token.empty(), "a TCP door needs a token");
  grpc::EnableDefaultHealthCheckService(true);
  static const bool reflection_once = [] {
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    return true;
  }();
  (void)reflection_once;
  std::unique_ptr<GrpcServer> server(new GrpcServer());
  // Listening comes first: a taken address must not leave a half-built gRPC server behind.
  for (const std::string& address : options.unix_addresses) {
    if (address.rfind("unix:", 0) != 0) return invalid("expected unix:/path, not '" + address + "'");
    RETURN_IF_ERROR(server->listen_unix(loop, address.substr(5)));
  }
  if (!options.tcp_address.empty()) RETURN_IF_ERROR(server->listen_tcp(loop, options.tcp_address));

  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(kMessageBytesMax);
  builder.SetMaxSendMessageSize(kMessageBytesMax);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1'000);
  for (grpc::Service* service : options.services) builder.RegisterService(service);
  if (!options.token.empty()) {
    std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> checks;
    checks.push_back(std::make_unique<TokenCheckFactory>(options.token));
    builder.experimental().SetInterceptorCreators(std::move(checks));
  }
  server->acceptor_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, grpc::InsecureServerCredentials());
  server->server_ = builder.BuildAndStart();
  if (!server->server_) return Error{Code::kInternal, "gRPC could not start its server"};
  for (auto& listener : server->listeners_) server->accept(listener);
  return server;
}

GrpcServer::GrpcServer() = default;

GrpcServer::~GrpcServer() {
  stop_listening();
  shutdown(Duration::zero());
}

uint16_t GrpcServer::tcp_port() const { return tcp_port_; }

void GrpcServer::set_serving(bool serving) {
  if (auto* health = server_->GetHealthCheckService()) health->SetServingStatus(serving);
}

void GrpcServer::stop_listening() {
  for (auto& listener : listeners_) listener->socket.close();
  listeners_.clear();
}

void GrpcServer::shutdown(Duration grace) {
  if (server_) {
    server_->Shutdown(std::chrono::system_clock::now() +
                      std::chrono::duration_cast<std::chrono::system_clock::duration>(grace));
    server_.reset();
  }
}

Status GrpcServer::listen_unix(Loop& loop, const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return invalid("the socket path " + path + " is longer than 107 bytes; choose a shorter session directory");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  FileDescriptor file(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  FileDescriptor probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  auto* plain = reinterpret_cast<sockaddr*>(&address);
  if (connect(probe.number(), plain, sizeof address) == 0) {
    return Error{Code::kAlreadyExists,
                 "another process listens at " + path + "; stop it or choose another directory"};
  }
  unlink(path.c_str());
  if (bind(file.number(), plain, sizeof address) != 0 || chmod(path.c_str(), 0600) != 0 ||
      ::listen(file.number(), SOMAXCONN) != 0) {
    return Error{Code::kPermissionDenied, "can't listen at " + path + ": " + errno_text()};
  }
  listeners_.push_back(std::make_shared<Listener>(loop, std::move(file), true, path));
  return Done{};
}

Status GrpcServer::listen_tcp(Loop& loop, const std::string& host_port) {
  size_t colon = host_port.rfind(':');
  if (colon == std::string::npos) return invalid("expected host:port, not '" + host_port + "'");
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  std::string host = host_port.substr(0, colon);
  if (int code = getaddrinfo(host.c_str(), host_port.substr(colon + 1).c_str(), &hints, &found); code != 0) {
    return invalid("can't listen at " + host_port + ": " + gai_strerror(code));
  }
  std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  FileDescriptor file(socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  int yes = 1;
  setsockopt(file.number(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(file.number(), found->ai_addr, found->ai_addrlen) != 0 || ::listen(file.number(), SOMAXCONN) != 0) {
    return Error{Code::kUnavailable,
                 "can't listen at " + host_port + ": " + errno_text() + "; choose another port"};
  }
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  getsockname(file.number(), reinterpret_cast<sockaddr*>(&bound), &size);
  tcp_port_ = ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(bound).sin6_port
                                                : reinterpret_cast<sockaddr_in&>(bound).sin_port);
  listeners_.push_back(std::make_shared<Listener>(loop, std::move(file), false, host_port));
  return Done{};
}

void GrpcServer::accept(std::shared_ptr<Listener> listener) {
  listener->socket.when_readable([this, listener] { accept_one(listener); });
}

void GrpcServer::accept_one(const std::shared_ptr<Listener>& listener) {
  static const int limit = descriptor_limit();
  FileDescriptor file(accept4(listener->socket.number(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!file.valid() && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
    listener->loop.after(kRetryWhenExhausted, [this, weak = std::weak_ptr(listener)] {
      if (auto open = weak.lock()) accept(open);
    });
    return;
  }
  // The kernel gives the lowest free number, so a high one means that at least as many are in use.
  bool room = file.valid() && file.number() < limit - kDescriptorReserve;
  if (room && listener->is_unix) {
    Result<PeerCredentials> peer = peer_credentials(file.number());
    room = peer.ok() && (peer->uid == geteuid() || peer->uid == 0);
  }
  if (room && !listener->is_unix) {
    int yes = 1;
    setsockopt(file.number(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  }
  if (room) {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
    connection.listener_fd = listener->socket.number();
    connection.fd = file.release();
    acceptor_->HandleNewConnection(&connection);
  } else if (file.valid()) {
    log::warn("connection refused address={} reason=descriptors_or_user", listener->path);
  }
  accept(listener);
}

Result<std::string> read_token(const std::string& path) {
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat status {};
  if (!file.valid() || fstat(file.number(), &status) != 0) {
    return Error{Code::kNotFound, "can't read the token file " + path + ": " + errno_text()};
  }
  if (!S_ISREG(status.st_mode) || status.st_uid != geteuid() || (status.st_mode & 077) != 0) {
    return Error{Code::kPermissionDenied, "the token file " + path + " must be a file of yours with mode 0600"};
  }
  char text[512];
  ssize_t size = read(file.number(), text, sizeof text);
  std::string token(text, size > 0 ? static_cast<size_t>(size) : 0);
  while (!token.empty() && (token.back() == '\n' || token.back() == ' ')) token.pop_back();
  if (token.size() < 16) return invalid("the token in " + path + " has fewer than 16 characters");
  return token;
}

}  // namespace raylet
