// HeadLink: a raylet's conversation with the head. It registers the node, sends heartbeats, and carries out
// the core's Persist and FindName effects, whose answers it returns as Persisted and NameFound events.
//
// What always holds:
//   * A Persist is answered exactly once: Persisted without failure when the head has it on disk, with one
//     when the head refused it for a reason that lasts. While the head or Redis is away it waits, is tried
//     again with backoff for ever, and the node works on.
//   * Records and names are asked for in the order that wish_queue.h says. A graph that ends before its record
//     leaves never touches Redis.
//   * A head that has forgotten the node, or a job whose driver is here, is told again.
//   * When the head says that this incarnation is not the newest one, on_stale is called once and nothing
//     is sent any more.
//
// Lives on the loop's thread; gRPC's threads only post. Handlers are called from the loop, never from within
// persist() or find_name().
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "daemons/kit/loop.h"
#include "daemons/raylet/core/effects.h"
#include "daemons/raylet/core/events.h"
#include "daemons/raylet/head_requests.h"
#include "protocol/words/ids.h"
#include "protocol/words/resources.h"
#include "protocol/words/time.h"

namespace raylet {

class HeadLink {
 public:
  static constexpr Duration kBackoffMin = std::chrono::milliseconds(50);
  static constexpr Duration kBackoffMax = std::chrono::seconds(2);
  // Records on their way to the head at once, and their bytes; one larger record goes alone.
  static constexpr size_t kCallsMax = 64;
  static constexpr size_t kCallBytesMax = 32 << 20;

  struct Options {
    std::string address;  // of the head: unix:/path or host:port
    std::string token;    // empty on a unix socket
    NodeIdentity self;
  };

  // What a heartbeat tells; asked for at each.
  struct Usage {
    Resources available;
    uint64_t store_used_bytes = 0;
  };

  struct Handlers {
    std::function<void(Event)> on_event;  // Persisted, NameFound
    std::function<Usage()> usage;
    // Another life of this node has registered: this one must stop. `reason` is for the log.
    std::function<void(std::string reason)> on_stale;
  };

  struct Report {
    bool connected = false;   // registered, and the last call was answered
    std::string cluster;      // 16 bytes; empty until registered
    uint64_t epoch = 0;       // which life of the head
    size_t waiting_count = 0; // Persists without an answer
    uint64_t waiting_bytes = 0;  // of their graph chunks, as they came over the wire
    uint64_t calls_total = 0;
    uint64_t retries_total = 0;
    std::string last_error;   // empty while connected
  };

  // Starts at once. `loop` and the handlers outlive the link.
  HeadLink(Loop& loop, Options options, Handlers handlers);
  // Calls under way are cancelled; their handlers are not called any more.
  ~HeadLink();
  HeadLink(const HeadLink&) = delete;
  HeadLink& operator=(const HeadLink&) = delete;

  void persist(Persist effect);
  void find_name(FindName effect);

  // Clean exit: tells the head that this node leaves, once what must last was answered, and calls `done` at
  // the latest after `wait_max`. No heartbeat follows.
  void leave(Duration wait_max, std::function<void()> done);

  Report report() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace raylet
