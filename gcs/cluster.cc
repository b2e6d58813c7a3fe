#include "gcs/cluster.h"

#include <utility>

#include "gcs/cluster_state.h"

namespace raylet {

Cluster::Cluster(ClusterOptions options) : state_(std::make_unique<State>(options)) {}

Cluster::~Cluster() = default;

void Cluster::step(Instant now, std::span<HeadEvent> events, std::vector<HeadEffect>& effects) {
  State& state = *state_;
  MUST(now >= state.now, "time went back");
  state.now = now;
  state.effects = &effects;
  for (HeadEvent& event : events) {
    std::visit([&](auto& which) { state.on(which); }, event);
  }
  state.sweep();
  state.flush_writes();
  state.tell_watchers();
  state.effects = nullptr;
}

std::vector<Write> Cluster::everything() const {
  std::vector<Write> all;
  for (const auto& [id, node] : state_->nodes.nodes()) {
    all.push_back({Table::kNodes, node_key(id), make_bytes(encode(node.record))});
  }
  for (const auto& [id, job] : state_->jobs.jobs()) {
    all.push_back({Table::kJobs, job_key(id), make_bytes(encode(job.record))});
  }
  for (const auto& [id, graph] : state_->graphs.graphs()) {
    for (const auto& [part, stored] : graph.parts) {
      all.push_back({Table::kGraphs, graph_part_key(id, part), stored});
    }
  }
  for (const auto& [key, name] : state_->names.names()) {
    all.push_back({Table::kNames, name_key(key.first, key.second), make_bytes(encode(name))});
  }
  return all;
}

ClusterReport Cluster::report() const {
  const State& state = *state_;
  ClusterReport report = state.totals;
  report.epoch = state.options.epoch;
  report.view_version = state.view.version();
  report.node_count = state.nodes.size();
  for (const auto& [id, node] : state.nodes.nodes()) report.suspect_count += node.suspect;
  report.job_count = state.jobs.size();
  report.graph_count = state.graphs.size();
  report.graph_part_count = state.graphs.part_count();
  report.graph_bytes = state.graphs.bytes();
  report.name_count = state.names.size();
  report.watch_count = state.watches.size();
  report.unwritten_count = state.unwritten_count;
  report.unwritten_bytes = state.unwritten_bytes;
  for (const auto& [ticket, replies] : state.held) report.held_reply_count += replies.size();
  return report;
}

void Cluster::validate() const {
  const State& state = *state_;
  state.graphs.validate();
  state.names.validate();
  MUST(state.nodes.size() == state.view.nodes().size(), "the view and the node table differ");
  for (const auto& [id, node] : state.nodes.nodes()) {
    auto seen = state.view.nodes().find(id);
    MUST(seen != state.view.nodes().end() && seen->second.node == node.record, "a node missing in the view");
    MUST(seen->second.suspect == node.suspect, "the view is wrong about who is suspect");
  }
  for (const auto& [id, graph] : state.graphs.graphs()) {
    MUST(state.jobs.find(graph.job) != nullptr, "a graph outlived its job");
  }
  for (const auto& [key, name] : state.names.names()) {
    MUST(name.detached || state.jobs.find(name.job) != nullptr, "a name outlived its job");
  }
  uint64_t count = 0;
  uint64_t bytes = 0;
  for (const auto& batch : state.unwritten) {
    count += batch.count;
    bytes += batch.bytes;
    MUST(batch.ticket > state.persisted_ticket, "a written batch still counts as unwritten");
  }
  MUST(count == state.unwritten_count && bytes == state.unwritten_bytes, "unwritten bytes don't add up");
  for (const auto& [ticket, replies] : state.held) {
    MUST(ticket > state.persisted_ticket && ticket <= state.last_ticket, "a reply waits for nothing");
  }
  MUST(state.writes.empty(), "writes of a step stayed behind");
}

}  // namespace raylet
