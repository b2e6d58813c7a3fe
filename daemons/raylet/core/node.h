// Node: the mind of one raylet. Everything it knows changes through step(), everything it wants comes out as
// effects, and it knows no clock, socket, thread, file or log.
//
// What it decides: which task runs when and where on this node, who holds which object, what is tried again,
// what is refused. docs/life_of_a_task.md walks through it; docs/invariants.md names what validate() checks.
//
// Single-threaded; whoever calls it calls it from one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "daemons/raylet/core/effects.h"
#include "daemons/raylet/core/events.h"
#include "daemons/raylet/core/node_options.h"
#include "daemons/raylet/core/node_report.h"
#include "protocol/words/time.h"

namespace raylet {

class Node {
 public:
  explicit Node(NodeOptions options);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  // Takes in `events` in their order and appends what must be done to `effects`, which the caller reuses.
  // `now` never goes back.
  void step(Instant now, std::span<Event> events, std::vector<Effect>& effects);

  // Reading; nothing changes.
  NodeReport report(Instant now) const;
  Explanation explain(Instant now, const std::string& id) const;

  // Stops the process if the node's tables contradict each other. Linear in what the node knows: for tests.
  void validate() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace raylet
