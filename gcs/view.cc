#include "gcs/view.h"

namespace raylet {

View::View(uint64_t epoch, uint64_t history_max) : version_(epoch << 32), history_max_(history_max) {}

void View::put(NodeView node) {
  NodeId id = node.node.node;
  auto [at, added] = nodes_.try_emplace(id, node);
  if (!added && at->second == node) return;
  at->second = std::move(node);
  append(id, {});
}

void View::remove(NodeId node) {
  auto at = nodes_.find(node);
  if (at == nodes_.end()) return;
  Incarnation gone = at->second.node.incarnation;
  nodes_.erase(at);
  append(node, gone);
}

ViewPart View::since(uint64_t known_version) const {
  ViewPart part;
  part.version = version_;
  uint64_t oldest_base = version_ - changes_.size();
  if (known_version < oldest_base || known_version > version_) {
    part.is_snapshot = true;
    for (const auto& [id, node] : nodes_) part.nodes.push_back(node);
    return part;
  }
  part.base_version = known_version;
  std::map<NodeId, Incarnation> changed;
  for (size_t i = changes_.size() - (version_ - known_version); i < changes_.size(); ++i) {
    changed[changes_[i].node] = changes_[i].gone;
  }
  for (const auto& [id, gone] : changed) {
    if (auto at = nodes_.find(id); at != nodes_.end()) {
      part.nodes.push_back(at->second);
    } else {
      NodeView absent;
      absent.node.node = id;
      absent.node.incarnation = gone;
      absent.alive = false;
      part.nodes.push_back(std::move(absent));
    }
  }
  return part;
}

void View::append(NodeId node, Incarnation gone) {
  changes_.push_back({++version_, node, gone});
  if (changes_.size() > history_max_) changes_.pop_front();
}

}  // namespace raylet
