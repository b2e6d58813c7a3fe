// NodeHost: what rayletd does around its core: sessions, the step loop, and effects carried to those they are
// for. Local sockets are ordered and reliable until they close; a death is told after the last frame.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "daemons/raylet/core/node.h"
#include "tests/sim/extent_ledger.h"
#include "tests/sim/world.h"

namespace raylet::sim {

// One end of a session: a driver or a worker.
class Endpoint {
 public:
  virtual ~Endpoint() = default;
  virtual void receive(const Effect& effect) = 0;
  virtual void disconnected() = 0;  // the raylet closed it, or died
};

class NodeHost {
 public:
  explicit NodeHost(World& world) : world_(world) {}

  void start();
  void kill();
  bool is_up() const { return node_ != nullptr; }
  uint64_t life() const { return life_; }
  const Node& node() const { return *node_; }
  NodeId id() const { return {7, 7}; }

  SessionId open(Endpoint* endpoint);
  // Over the session's socket, in order.
  void say(SessionId session, Event event);
  // The peer is gone: `last_words` (a WorkerExited, say) come after its frames, and SessionClosed after them.
  void close(SessionId session, bool goodbye, std::vector<Event> last_words = {});
  // From the shell's own parts: at once.
  void post(Event event);

 private:
  struct Session {
    Endpoint* endpoint = nullptr;
    Instant heard_at;  // when the last frame of its peer arrives
    Instant told_at;
    bool closing = false;
  };

  void schedule_step();
  void step();
  void perform(Effect& effect);
  void deliver(SessionId session, Effect effect);
  void account(const Effect& effect);
  // Pins that were delivered and not given back, by object and session.
  void count_pins(const Event& event);
  void deliver_pin(SessionId session, const ObjectId& id) { ++pins_out_[id][session]; }
  void take_pins(SessionId session, const ObjectId& id, uint32_t count);
  void take_all_pins(SessionId session);
  SessionId session_of(WorkerId worker) const;
  void check();

  World& world_;
  std::unique_ptr<Node> node_;
  uint64_t life_ = 0;
  uint64_t last_session_ = 0;
  uint64_t wake_ = 0;
  bool step_due_ = false;
  std::vector<Event> inbox_;
  std::vector<Effect> effects_;
  std::map<SessionId, Session> sessions_;
  ExtentLedger ledger_;
  std::map<ObjectId, std::map<SessionId, uint32_t>> pins_out_;
  std::map<std::pair<WorkerId, uint64_t>, std::vector<ObjectId>> pinned_by_batch_;
};

}  // namespace raylet::sim
