// Who is in: nodes, their heartbeats and their silence, and the view of them that others read.
#include <algorithm>
#include <unordered_set>
#include <utility>

#include "gcs/cluster_state.h"

namespace raylet {

std::optional<Refused> Cluster::State::check(const NodeRecord& node) const {
  if (node.node.is_nil()) return refuse_invalid("a node needs an id that is not all zeros");
  if (node.incarnation.is_nil()) return refuse_invalid("a node needs an incarnation that is not 0");
  bool long_text = node.host.size() > options.text_bytes_max || node.address.size() > options.text_bytes_max ||
                   node.labels.size() > options.label_count_max ||
                   node.total.units().size() > options.label_count_max;
  for (const auto& [name, value] : node.labels) {
    long_text = long_text || name.size() + value.size() > options.text_bytes_max;
  }
  for (const auto& [name, units] : node.total.units()) {
    long_text = long_text || name.size() > options.text_bytes_max;
  }
  if (long_text) {
    return refuse_over_limit("a node's texts may have " + std::to_string(options.text_bytes_max) +
                             " bytes each and it may have " + std::to_string(options.label_count_max) +
                             " labels and resources");
  }
  return std::nullopt;
}

void Cluster::State::on(NodeRegistered& event) {
  NodeRecord& node = event.node;
  if (auto refused = check(node)) return reply(event.call, std::move(*refused));
  NodeTable::Standing standing = nodes.standing(node.node, node.incarnation);
  if (standing == NodeTable::Standing::kOlder) {
    return reply_about(Table::kNodes, event.call,
                       refuse(Code::kFailedPrecondition, FailureCode::kRequestInvalid,
                              "node " + node.node.hex() + " has registered a later life than incarnation " +
                                  std::to_string(node.incarnation.number) + "; this one must stop"));
  }
  NodeAccepted accepted{
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(options.node_lease).count()),
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(options.heartbeat).count())};
  if (standing == NodeTable::Standing::kSame) {
    if (nodes.find(node.node)->record != node) {
      return reply_about(Table::kNodes, event.call,
                         refuse(Code::kAlreadyExists, FailureCode::kRequestInvalid,
                                "incarnation " + std::to_string(node.incarnation.number) + " of node " +
                                    node.node.hex() + " is registered with other properties"));
    }
    heard(node.node);
    return reply_about(Table::kNodes, event.call, accepted);
  }
  if (standing == NodeTable::Standing::kUnknown && nodes.size() >= options.node_count_max) {
    return reply(event.call, refuse_over_limit("there are " + std::to_string(nodes.size()) +
                                               " nodes, which is as many as may be"));
  }
  if (backlog_full()) return reply(event.call, refuse_for_backlog());
  if (standing == NodeTable::Standing::kNewer) forget_names_of(node.node);
  say(false, "node joined node=" + node.node.hex() + " incarnation=" + std::to_string(node.incarnation.number) +
                 " address=" + node.address);
  put(Table::kNodes, node_key(node.node), make_bytes(encode(node)));
  NodeView seen;
  seen.node = node;
  seen.available = node.total;
  view.put(std::move(seen));
  nodes.put(std::move(node), now);
  reply_about(Table::kNodes, event.call, accepted);
}

void Cluster::State::heard(NodeId id) {
  NodeTable::Node* node = nodes.find(id);
  node->heard_at = now;
  if (!node->suspect) return;
  node->suspect = false;
  NodeView seen = view.nodes().at(id);
  seen.suspect = false;
  view.put(std::move(seen));
}

void Cluster::State::on(HeartbeatCame& event) {
  HeartbeatAnswer answer;
  answer.moment = ++moment;
  if (nodes.standing(event.node, event.incarnation) != NodeTable::Standing::kSame) {
    answer.view_version = view.version();
    answer.register_again = true;
    return reply(event.call, std::move(answer));
  }
  heard(event.node);
  update_usage(event);
  for (JobId job : event.jobs) {
    if (!jobs.renew(job, event.node, now)) answer.unknown_jobs.push_back(job);
  }
  drop_orphans(event);
  answer.view_version = view.version();
  reply(event.call, std::move(answer));
}

void Cluster::State::update_usage(const HeartbeatCame& event) {
  const NodeView& seen = view.nodes().at(event.node);
  // The store's use changes all the time; readers of the view care for about a percent.
  uint64_t step_bytes = seen.node.store_capacity_bytes / 64;
  uint64_t moved_bytes = event.store_used_bytes > seen.store_used_bytes
                             ? event.store_used_bytes - seen.store_used_bytes
                             : seen.store_used_bytes - event.store_used_bytes;
  if (event.available == seen.available && moved_bytes <= step_bytes) return;
  NodeView changed = seen;
  changed.available = event.available;
  changed.store_used_bytes = event.store_used_bytes;
  view.put(std::move(changed));
}

// A recorded graph that its living owner does not name any more is a leftover of a request that was delivered
// late. But heartbeats come late too, and any number of them may have been made before the graph was: one tells
// something about it only if its sender had heard from us since.
void Cluster::State::drop_orphans(const HeartbeatCame& event) {
  const std::set<GraphId>& owned = graphs.of_owner(event.node);
  if (owned.empty()) return;
  std::unordered_set<GraphId> named(event.graphs.begin(), event.graphs.end());
  std::vector<GraphId> orphans;
  for (GraphId id : owned) {
    const GraphRecordTable::Graph* graph = graphs.find(id);
    if (graph->owner_incarnation != event.incarnation) continue;  // a dead life's: ends with its job
    if (named.count(id) == 0 && event.heard_moment > graph->recorded_moment) orphans.push_back(id);
  }
  for (GraphId id : orphans) remove_graph(id);
}

void Cluster::State::on(NodeLeft& event) {
  if (nodes.standing(event.node, event.incarnation) == NodeTable::Standing::kSame) {
    say(false, "node left node=" + event.node.hex());
    remove_node(event.node);
    std::vector<JobId> ended;
    for (const auto& [id, job] : jobs.jobs()) {
      if (job.record.node == event.node) ended.push_back(id);
    }
    for (JobId job : ended) end_job(job);
  }
  reply_about(Table::kNodes, event.call, Acknowledged{});
}

void Cluster::State::remove_node(NodeId node) {
  forget_names_of(node);
  nodes.remove(node);
  view.remove(node);
  erase(Table::kNodes, node_key(node));
}

void Cluster::State::forget_names_of(NodeId node) {
  size_t before = writes.size();
  names.remove_if([&](const NameRecord& record) { return record.node == node; }, writes);
  touch_if_grown(Table::kNames, before);
}

void Cluster::State::on(ViewAsked& event) { reply(event.call, view.since(event.known_version)); }

void Cluster::State::on(WatchOpened& event) {
  if (watches.size() >= options.watch_count_max) {
    effects->emplace_back(WatchRefused{event.watch});
    return;
  }
  watches[event.watch].sent_version = event.known_version;
}

void Cluster::State::on(WatchReady& event) {
  if (auto at = watches.find(event.watch); at != watches.end()) at->second.ready = true;
}

void Cluster::State::on(WatchClosed& event) { watches.erase(event.watch); }

void Cluster::State::tell_watchers() {
  for (auto& [id, watch] : watches) {
    if (!watch.ready || (watch.opened && watch.sent_version == view.version())) continue;
    effects->emplace_back(ViewChanged{id, view.since(watch.sent_version)});
    watch = {view.version(), false, true};
  }
}

// Looks for silence twice in each heartbeat's time, which is as exact as silence can be known.
void Cluster::State::sweep() {
  if (sweep_planned && now < next_sweep) return;
  std::vector<NodeId> dead;
  std::vector<NodeId> silent;
  for (const auto& [id, node] : nodes.nodes()) {
    Duration silence = now - node.heard_at;
    if (silence >= options.node_lease) {
      dead.push_back(id);
    } else if (silence >= options.suspect_after && !node.suspect) {
      silent.push_back(id);
    }
  }
  for (NodeId id : silent) {
    nodes.find(id)->suspect = true;
    NodeView seen = view.nodes().at(id);
    seen.suspect = true;
    view.put(std::move(seen));
    say(true, "node is silent node=" + id.hex());
  }
  for (NodeId id : dead) {
    say(true, "node is given up after its lease node=" + id.hex());
    ++totals.nodes_died_total;
    remove_node(id);
  }
  std::vector<JobId> expired;
  for (const auto& [id, job] : jobs.jobs()) {
    if (now - job.renewed_at >= options.job_lease) expired.push_back(id);
  }
  for (JobId id : expired) {
    say(true, "job ended: nobody renewed its lease job=" + id.hex());
    ++totals.jobs_expired_total;
    end_job(id);
  }
  sweep_planned = nodes.size() + jobs.size() > 0;
  if (sweep_planned) {
    next_sweep = now + options.heartbeat / 2;
    effects->emplace_back(WakeHeadAt{next_sweep});
  }
}

}  // namespace raylet
