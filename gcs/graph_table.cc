#include "gcs/graph_table.h"

namespace raylet {
namespace {

const std::set<GraphId>& find_or_none(const auto& index, const auto& key) {
  static const std::set<GraphId> none;
  auto at = index.find(key);
  return at == index.end() ? none : at->second;
}

void erase_from(auto& index, const auto& key, GraphId graph) {
  auto at = index.find(key);
  MUST(at != index.end() && at->second.erase(graph) == 1, "a graph that its index does not know");
  if (at->second.empty()) index.erase(at);
}

}  // namespace

GraphRecordTable::Graph* GraphRecordTable::find(GraphId graph) {
  auto at = graphs_.find(graph);
  return at == graphs_.end() ? nullptr : &at->second;
}

const std::set<GraphId>& GraphRecordTable::of_job(JobId job) const { return find_or_none(by_job_, job); }

const std::set<GraphId>& GraphRecordTable::of_owner(NodeId owner) const { return find_or_none(by_owner_, owner); }

GraphRecordTable::Added GraphRecordTable::add(const GraphPartRecord& part, Bytes stored, uint64_t moment) {
  Graph* graph = find(part.graph);
  if (graph != nullptr) {
    if (graph->job != part.job || graph->owner != part.owner) return Added::kOtherOwner;
    if (auto at = graph->parts.find(part.part); at != graph->parts.end()) {
      return *at->second == *stored ? Added::kKnown : Added::kDifferent;
    }
    bool beyond = graph->last_part ? part.last || part.part > *graph->last_part
                                   : part.last && graph->parts.rbegin()->first > part.part;
    if (beyond) return Added::kBeyondLast;
  } else {
    graph = &graphs_[part.graph];
    graph->job = part.job;
    graph->owner = part.owner;
    graph->owner_incarnation = part.owner_incarnation;
    graph->recorded_moment = moment;
    by_job_[part.job].insert(part.graph);
    by_owner_[part.owner].insert(part.graph);
  }
  if (part.last) graph->last_part = part.part;
  graph->bytes += stored->size();
  bytes_ += stored->size();
  ++part_count_;
  graph->parts.emplace(part.part, std::move(stored));
  return Added::kNew;
}

void GraphRecordTable::remove(GraphId id, std::vector<Write>& writes) {
  auto at = graphs_.find(id);
  if (at == graphs_.end()) return;
  Graph& graph = at->second;
  for (const auto& [part, stored] : graph.parts) {
    writes.push_back({Table::kGraphs, graph_part_key(id, part), nullptr});
  }
  part_count_ -= graph.parts.size();
  bytes_ -= graph.bytes;
  erase_from(by_job_, graph.job, id);
  erase_from(by_owner_, graph.owner, id);
  graphs_.erase(at);
}

GraphSummary GraphRecordTable::summary(GraphId id) const {
  const Graph& graph = graphs_.at(id);
  return {id, graph.job, graph.owner, static_cast<uint32_t>(graph.parts.size()), graph.bytes, graph.whole()};
}

void GraphRecordTable::validate() const {
  uint64_t bytes = 0;
  uint64_t parts = 0;
  for (const auto& [id, graph] : graphs_) {
    MUST(!graph.parts.empty(), "a graph without parts");
    MUST(!graph.last_part || graph.parts.rbegin()->first <= *graph.last_part, "a part after the last");
    MUST(of_job(graph.job).count(id) == 1 && of_owner(graph.owner).count(id) == 1, "a graph missing in an index");
    uint64_t graph_bytes = 0;
    for (const auto& [part, stored] : graph.parts) graph_bytes += stored->size();
    MUST(graph_bytes == graph.bytes, "a graph's bytes don't add up");
    bytes += graph_bytes;
    parts += graph.parts.size();
  }
  MUST(bytes == bytes_ && parts == part_count_, "the bytes of all graphs don't add up");
  size_t indexed = 0;
  for (const auto& [job, graphs] : by_job_) indexed += graphs.size();
  MUST(indexed == graphs_.size(), "the index by job names graphs that are gone");
  indexed = 0;
  for (const auto& [owner, graphs] : by_owner_) indexed += graphs.size();
  MUST(indexed == graphs_.size(), "the index by owner names graphs that are gone");
}

}  // namespace raylet
