#include "gcs/node_table.h"

namespace raylet {

NodeTable::Node* NodeTable::find(NodeId node) {
  auto at = nodes_.find(node);
  return at == nodes_.end() ? nullptr : &at->second;
}

const NodeTable::Node* NodeTable::find(NodeId node) const { return const_cast<NodeTable*>(this)->find(node); }

NodeTable::Standing NodeTable::standing(NodeId node, Incarnation incarnation) const {
  if (const Node* known = find(node)) {
    if (incarnation < known->record.incarnation) return Standing::kOlder;
    return incarnation == known->record.incarnation ? Standing::kSame : Standing::kNewer;
  }
  // The same incarnation may come back after it was given up for its silence.
  auto gone = departed_.find(node);
  if (gone != departed_.end() && incarnation < gone->second) return Standing::kOlder;
  return Standing::kUnknown;
}

void NodeTable::put(NodeRecord record, Instant now) {
  MUST(standing(record.node, record.incarnation) != Standing::kOlder, "a stale incarnation in the node table");
  NodeId node = record.node;
  nodes_[node] = Node{std::move(record), now, false};
}

void NodeTable::remove(NodeId node) {
  auto at = nodes_.find(node);
  MUST(at != nodes_.end(), "removed a node that is not there");
  if (departed_.insert_or_assign(node, at->second.record.incarnation).second) departed_order_.push_back(node);
  if (departed_order_.size() > kDepartedMax) {
    departed_.erase(departed_order_.front());
    departed_order_.pop_front();
  }
  nodes_.erase(at);
}

}  // namespace raylet
