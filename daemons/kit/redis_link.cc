#include "daemons/kit/redis_link.h"

#include <hiredis/async.h>
#include <hiredis/hiredis.h>

#include <algorithm>
#include <charconv>

#include "daemons/kit/asio.h"

namespace raylet {

// The adapter that hiredis 0.14 lacks: its wishes to read and write as waits on an Asio descriptor. Deleted
// by hiredis' cleanup hook, which is the last thing hiredis does before it closes the descriptor.
class RedisLink::Connection {
 public:
  static void attach(redisAsyncContext* context, asio::io_context& io) {
    auto* connection = new Connection(context, io);
    context->ev.data = connection;
    context->ev.addRead = [](void* self) { static_cast<Connection*>(self)->want(true, true); };
    context->ev.delRead = [](void* self) { static_cast<Connection*>(self)->want(true, false); };
    context->ev.addWrite = [](void* self) { static_cast<Connection*>(self)->want(false, true); };
    context->ev.delWrite = [](void* self) { static_cast<Connection*>(self)->want(false, false); };
    context->ev.cleanup = [](void* self) { delete static_cast<Connection*>(self); };
  }

 private:
  Connection(redisAsyncContext* context, asio::io_context& io) : context_(context), socket_(io, context->c.fd) {}
  ~Connection() { socket_.release(); }

  struct Wish {
    bool wanted = false;
    bool waiting = false;
  };

  void want(bool read, bool wanted) {
    Wish& wish = read ? read_ : write_;
    wish.wanted = wanted;
    if (!wanted || wish.waiting) return;
    wish.waiting = true;
    auto direction = read ? asio::posix::descriptor_base::wait_read : asio::posix::descriptor_base::wait_write;
    socket_.async_wait(direction, [this, alive = std::weak_ptr(alive_), read](boost::system::error_code) {
      if (alive.expired()) return;
      Wish& mine = read ? read_ : write_;
      mine.waiting = false;
      if (!mine.wanted) return;
      // Either call may end in this object's deletion.
      read ? redisAsyncHandleRead(context_) : redisAsyncHandleWrite(context_);
    });
  }

  redisAsyncContext* context_;
  asio::posix::stream_descriptor socket_;
  Wish read_;
  Wish write_;
  std::shared_ptr<int> alive_ = std::make_shared<int>();
};

struct RedisLink::State : std::enable_shared_from_this<RedisLink::State> {
  State(Loop& given_loop, std::string given_address, Handlers given_handlers)
      : loop(given_loop),
        address(std::move(given_address)),
        handlers(std::move(given_handlers)),
        retry(loop, [this] { connect(); }),
        connect_deadline(loop, [this] { lose("no connection within 5 s"); }) {}

  Loop& loop;
  std::string address;
  std::string unix_path;  // or
  std::string host;
  int port = 0;
  Handlers handlers;
  redisAsyncContext* context = nullptr;
  bool connected = false;
  Duration backoff = kBackoffMin;
  Alarm retry;
  Alarm connect_deadline;

  void connect() {
    redisAsyncContext* fresh =
        unix_path.empty() ? redisAsyncConnect(host.c_str(), port) : redisAsyncConnectUnix(unix_path.c_str());
    if (fresh == nullptr) return lose("out of memory");
    context = fresh;
    if (fresh->err != 0) return lose(fresh->errstr);
    fresh->data = this;
    Connection::attach(fresh, loop.io());
    redisAsyncSetConnectCallback(fresh, [](const redisAsyncContext* which, int status) {
      if (auto* state = static_cast<State*>(which->data)) state->on_connect(which, status);
    });
    redisAsyncSetDisconnectCallback(fresh, [](const redisAsyncContext* which, int) {
      auto* state = static_cast<State*>(which->data);
      if (state == nullptr || state->context != which) return;
      state->context = nullptr;  // hiredis frees it after this call
      state->lose(which->errstr != nullptr && *which->errstr != 0 ? which->errstr : "connection closed");
    });
    connect_deadline.set_after(kConnectWaitMax);
  }

  void on_connect(const redisAsyncContext* which, int status) {
    if (context != which) return;
    if (status != REDIS_OK) {
      std::string why = which->errstr;
      context = nullptr;  // hiredis frees it after this call
      return lose(std::move(why));
    }
    connect_deadline.clear();
    if (unix_path.empty()) redisEnableKeepAlive(&context->c);
    connected = true;
    handlers.on_connected();
  }

  void lose(std::string reason) {
    connect_deadline.clear();
    connected = false;
    if (redisAsyncContext* old = std::exchange(context, nullptr)) {
      old->data = nullptr;
      redisAsyncFree(old);
    }
    retry.set_after(backoff);
    backoff = std::min(backoff * 2, kBackoffMax);
    handlers.on_lost(std::move(reason));
  }

  // A command under way: hiredis calls back exactly once for each, without a reply if the connection is lost.
  struct Pending {
    std::weak_ptr<State> state;
    OnReply on_reply;
  };
  static void on_reply(redisAsyncContext* which, void* reply, void* data) {
    std::unique_ptr<Pending> pending(static_cast<Pending*>(data));
    std::shared_ptr<State> state = pending->state.lock();
    if (reply == nullptr || state == nullptr || state->context != which) return;
    pending->on_reply(*static_cast<redisReply*>(reply));
  }
};

Result<std::unique_ptr<RedisLink>> RedisLink::open(Loop& loop, const std::string& address, Handlers handlers) {
  auto link = std::unique_ptr<RedisLink>(new RedisLink);
  link->state_ = std::make_shared<State>(loop, address, std::move(handlers));
  State& state = *link->state_;
  constexpr std::string_view kUnix = "unix:";
  if (address.compare(0, kUnix.size(), kUnix) == 0) {
    state.unix_path = address.substr(kUnix.size());
    if (state.unix_path.empty() || state.unix_path.size() > 107) {
      return invalid("Redis' unix socket must have a path of 1 to 107 bytes, not '" + state.unix_path + "'");
    }
  } else {
    size_t colon = address.rfind(':');
    const char* end = address.data() + address.size();
    auto parsed = colon == std::string::npos ? std::from_chars_result{end, std::errc::invalid_argument}
                                             : std::from_chars(address.data() + colon + 1, end, state.port);
    if (colon == 0 || parsed.ec != std::errc{} || parsed.ptr != end || state.port < 1 || state.port > 65535) {
      return invalid("Redis' address must be unix:/path or host:port, not '" + address + "'");
    }
    state.host = address.substr(0, colon);
  }
  // Not at once: the caller has not got the link yet.
  loop.post([weak = std::weak_ptr(link->state_)] {
    if (auto alive = weak.lock()) alive->connect();
  });
  return link;
}

RedisLink::~RedisLink() {
  if (!state_) return;
  state_->retry.clear();
  state_->connect_deadline.clear();
  if (redisAsyncContext* old = std::exchange(state_->context, nullptr)) {
    old->data = nullptr;
    redisAsyncFree(old);
  }
}

bool RedisLink::connected() const { return state_->connected; }

const std::string& RedisLink::address() const { return state_->address; }

void RedisLink::send(const std::vector<std::string_view>& arguments, OnReply on_reply) {
  if (!state_->connected) return;
  std::vector<const char*> texts;
  std::vector<size_t> sizes;
  for (std::string_view argument : arguments) {
    texts.push_back(argument.data());
    sizes.push_back(argument.size());
  }
  auto* pending = new State::Pending{state_, std::move(on_reply)};
  int sent = redisAsyncCommandArgv(state_->context, &State::on_reply, pending, static_cast<int>(texts.size()),
                                   texts.data(), sizes.data());
  if (sent != REDIS_OK) {
    delete pending;
    drop("hiredis can't take the command");
  }
}

void RedisLink::drop(std::string reason) {
  if (state_->context != nullptr) state_->lose(std::move(reason));
}

void RedisLink::settle() { state_->backoff = kBackoffMin; }

}  // namespace raylet
