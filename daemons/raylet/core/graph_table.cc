#include "daemons/raylet/core/graph_table.h"

#include <algorithm>

#include "protocol/words/check.h"

namespace raylet {

Graph& GraphTable::add(const GraphId& id) {
  uint32_t slot;
  if (free_.empty()) {
    slot = static_cast<uint32_t>(slots_.size());
    slots_.push_back(nullptr);
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  slots_[slot] = std::make_unique<Graph>();
  Graph& graph = *slots_[slot];
  graph.id = id;
  graph.slot = slot;
  graph.sequence = next_sequence_++;
  graph.options.emplace_back();
  MUST(by_id_.emplace(id, slot).second, "a graph id twice");
  return graph;
}

void GraphTable::remove(Graph& graph) {
  by_id_.erase(graph.id);
  uint32_t slot = graph.slot;
  slots_[slot].reset();
  free_.push_back(slot);
}

Graph* GraphTable::find(const GraphId& id) {
  auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : slots_[found->second].get();
}

const Graph* GraphTable::find(const GraphId& id) const {
  auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : slots_[found->second].get();
}

Graph* GraphTable::find(const TaskRef& ref) {
  if (ref.slot >= slots_.size()) return nullptr;
  Graph* graph = slots_[ref.slot].get();
  return graph != nullptr && graph->sequence == ref.sequence ? graph : nullptr;
}

std::vector<Graph*> GraphTable::all() {
  std::vector<Graph*> graphs;
  for (auto& slot : slots_) {
    if (slot) graphs.push_back(slot.get());
  }
  std::sort(graphs.begin(), graphs.end(), [](auto* a, auto* b) { return a->sequence < b->sequence; });
  return graphs;
}

std::vector<const Graph*> GraphTable::all() const {
  std::vector<const Graph*> graphs;
  for (auto& slot : slots_) {
    if (slot) graphs.push_back(slot.get());
  }
  std::sort(graphs.begin(), graphs.end(), [](auto* a, auto* b) { return a->sequence < b->sequence; });
  return graphs;
}

}  // namespace raylet
