// RedisLink: one connection to Redis on the loop, connected again for ever.
//
// Redis being away is normal weather: the link tries again with backoff, from kBackoffMin to kBackoffMax,
// until it is destroyed. Commands are pipelined; Redis answers in their order. When the connection is lost,
// commands without an answer are forgotten (whether Redis carried them out is unknown) and on_lost is called
// once; whoever sent them must find out by on_connected's time.
//
// hiredis' asynchronous interface does the protocol. It owns the socket's descriptor; Asio only waits on it
// and lets go of it before hiredis closes it.
//
// Lives on the loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemons/kit/loop.h"
#include "protocol/words/result.h"
#include "protocol/words/time.h"

struct redisReply;

namespace raylet {

class RedisLink {
 public:
  static constexpr Duration kBackoffMin = std::chrono::milliseconds(20);
  static constexpr Duration kBackoffMax = std::chrono::seconds(1);
  static constexpr Duration kConnectWaitMax = std::chrono::seconds(5);

  struct Handlers {
    std::function<void()> on_connected;
    std::function<void(std::string reason)> on_lost;  // after on_connected, or when connecting failed
  };
  // Called from the loop with Redis' answer, an error reply included. The reply is hiredis' to free.
  using OnReply = std::function<void(const redisReply& reply)>;

  // `address` is unix:/path or host:port; an Error says what is wrong with it. Connects at once.
  static Result<std::unique_ptr<RedisLink>> open(Loop& loop, const std::string& address, Handlers handlers);
  // No handler is called any more.
  ~RedisLink();

  bool connected() const;
  const std::string& address() const;

  // Does nothing unless connected: on_lost has said so, or will.
  void send(const std::vector<std::string_view>& arguments, OnReply on_reply);

  // Gives this connection up, as if it had been lost, and connects again after the backoff.
  void drop(std::string reason);
  // The connection is good for its purpose: the next backoff starts from the beginning.
  void settle();

 private:
  class Connection;
  struct State;
  RedisLink() = default;
  std::shared_ptr<State> state_;
};

}  // namespace raylet
