// The cluster's members: who registered as what, and when each was last heard.
//
// A node is one incarnation at a time. A larger one replaces it; a smaller one is stale and refused, also
// after the node has gone, as far back as kDepartedMax departures. A node that was read from disk counts as
// heard at that moment, so that a restarted head declares nobody dead for one full lease.
#pragma once

#include <deque>
#include <map>
#include <unordered_map>
#include <vector>

#include "gcs/record.h"
#include "protocol/words/ids.h"
#include "protocol/words/time.h"

namespace raylet {

class NodeTable {
 public:
  static constexpr size_t kDepartedMax = 10'000;

  struct Node {
    NodeRecord record;
    Instant heard_at;
    bool suspect = false;
  };

  enum class Standing { kUnknown, kOlder, kSame, kNewer };

  size_t size() const { return nodes_.size(); }
  const std::map<NodeId, Node>& nodes() const { return nodes_; }
  Node* find(NodeId node);
  const Node* find(NodeId node) const;

  // How `incarnation` stands to what is or was known of the node.
  Standing standing(NodeId node, Incarnation incarnation) const;

  // Adds or replaces. REQUIRES: standing() is not kOlder.
  void put(NodeRecord record, Instant now);
  // REQUIRES: it is there.
  void remove(NodeId node);

 private:
  std::map<NodeId, Node> nodes_;
  std::unordered_map<NodeId, Incarnation> departed_;
  std::deque<NodeId> departed_order_;
};

}  // namespace raylet
