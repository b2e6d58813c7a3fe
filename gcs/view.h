// The cluster as nodes see it: who is there, alive or suspect, with what. Versioned, so that a reader asks
// for what changed since the version it has; the history of changes is bounded, and a reader that is further
// behind, or that knows a version of another life of the head, gets the snapshot.
//
// Versions grow by one with each change. They start at the epoch << 32, so that two lives never share one.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "gcs/record.h"
#include "protocol/words/ids.h"
#include "protocol/words/resources.h"

namespace raylet {

struct NodeView {
  NodeRecord node;
  Resources available;
  uint64_t store_used_bytes = 0;
  bool alive = true;
  bool suspect = false;  // silent for a while, not yet given up
  bool operator==(const NodeView&) const = default;
};

struct ViewPart {
  uint64_t version = 0;
  bool is_snapshot = false;
  uint64_t base_version = 0;     // of a delta: what it applies to
  std::vector<NodeView> nodes;   // of a snapshot all that live; of a delta those that changed, the gone as !alive
};

class View {
 public:
  View(uint64_t epoch, uint64_t history_max);

  uint64_t version() const { return version_; }
  const std::map<NodeId, NodeView>& nodes() const { return nodes_; }

  // Adds or replaces; does nothing if nothing would change.
  void put(NodeView node);
  void remove(NodeId node);
  // What a reader of `known_version` must be told; an empty delta if it is up to date.
  ViewPart since(uint64_t known_version) const;

 private:
  struct Change {
    uint64_t version = 0;
    NodeId node;
    Incarnation gone;  // nil: the node is there
  };
  void append(NodeId node, Incarnation gone);

  uint64_t version_;
  uint64_t history_max_;
  std::map<NodeId, NodeView> nodes_;
  std::deque<Change> changes_;  // of consecutive versions, the last one is version_
};

}  // namespace raylet
