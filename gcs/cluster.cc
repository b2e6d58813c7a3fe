#include "gcs/cluster.h"

#include <algorithm>
#include <deque>
#include <unordered_set>
#include <utility>

#include "gcs/graph_table.h"
#include "gcs/job_table.h"
#include "gcs/name_table.h"
#include "gcs/node_table.h"
#include "gcs/view.h"
#include "protocol/words/overloaded.h"

namespace raylet {
namespace {

// A recorded graph that its living owner does not name in this many heartbeats in a row is a leftover of a
// request that was delivered late. One is not enough: a heartbeat may have been made before the record.
constexpr uint32_t kOrphanHeartbeats = 3;

Refused refuse(Code code, FailureCode failure, std::string message) {
  return {code, failure, std::move(message), {}};
}
Refused refuse_invalid(std::string message) {
  return refuse(Code::kInvalidArgument, FailureCode::kRequestInvalid, std::move(message));
}
Refused refuse_over_limit(std::string message) {
  return refuse(Code::kResourceExhausted, FailureCode::kLimitExceeded, std::move(message));
}
// The same request may be accepted later.
Refused refuse_for_now(std::string message) {
  return refuse(Code::kUnavailable, FailureCode::kUnavailable, std::move(message));
}

std::string quoted(const NameRecord& record) {
  return "'" + record.name + "' of namespace '" + record.name_space + "'";
}

}  // namespace

struct Cluster::State {
  struct Watch {
    uint64_t sent_version = 0;
    bool ready = true;
    bool opened = false;  // has been sent its first part
  };
  struct Unwritten {
    uint64_t ticket = 0;
    uint64_t count = 0;
    uint64_t bytes = 0;
  };

  explicit State(ClusterOptions given) : options(given), view(given.epoch, given.view_history_max) {}

  ClusterOptions options;
  NodeTable nodes;
  View view;
  JobTable jobs;
  GraphRecordTable graphs;
  NameTable names;
  std::map<WatchId, Watch> watches;

  // Tickets. `writes` are those of the step under way, which will go out under ticket last_ticket + 1.
  std::vector<Write> writes;
  uint64_t last_ticket = 0;
  uint64_t persisted_ticket = 0;
  std::map<Table, uint64_t> touched;  // the last ticket that writes to the table
  std::deque<Unwritten> unwritten;
  uint64_t unwritten_count = 0;
  uint64_t unwritten_bytes = 0;
  std::map<uint64_t, std::vector<HeadReply>> held;  // by the ticket that they wait for

  Instant next_sweep;
  bool sweep_planned = false;

  ClusterReport totals;  // of which only the totals are used
  Instant now;
  std::vector<HeadEffect>* effects = nullptr;

  // ---------------------------------------------------------------- answers and writes

  void say(bool warning, std::string text) { effects->emplace_back(Notice{warning, std::move(text)}); }

  void reply_after(uint64_t ticket, CallId call, Answer answer) {
    if (std::holds_alternative<Refused>(answer)) ++totals.refusals_total;
    if (ticket <= persisted_ticket) {
      effects->emplace_back(HeadReply{call, std::move(answer)});
    } else {
      held[ticket].push_back({call, std::move(answer)});
    }
  }
  void reply(CallId call, Answer answer) { reply_after(0, call, std::move(answer)); }
  // The answer is about `table`: it waits until what it rests on is on disk.
  void reply_about(Table table, CallId call, Answer answer) {
    reply_after(touched[table], call, std::move(answer));
  }

  void put(Table table, std::string key, Bytes value) {
    touched[table] = last_ticket + 1;
    writes.push_back({table, std::move(key), std::move(value)});
  }
  void erase(Table table, std::string key) { put(table, std::move(key), nullptr); }
  // After a table appended its own deletes to `writes`.
  void touch_if_grown(Table table, size_t size_before) {
    if (writes.size() > size_before) touched[table] = last_ticket + 1;
  }

  static uint64_t size_of(const Write& write) { return write.key.size() + size_bytes(write.value); }

  bool backlog_full() const {
    return unwritten_bytes >= options.unwritten_bytes_max ||
           unwritten_count + writes.size() >= options.unwritten_count_max;
  }
  Refused refuse_for_backlog() const {
    return refuse_for_now("Redis has not yet acknowledged " + std::to_string(unwritten_count) + " writes (" +
                          std::to_string(unwritten_bytes) + " bytes); try again when it has");
  }

  void flush_writes() {
    if (writes.empty()) return;
    Unwritten batch{++last_ticket, writes.size(), 0};
    for (const Write& write : writes) batch.bytes += size_of(write);
    unwritten_count += batch.count;
    unwritten_bytes += batch.bytes;
    unwritten.push_back(batch);
    totals.writes_total += batch.count;
    ++totals.persists_total;
    effects->emplace_back(PersistWrites{Ticket{batch.ticket}, std::exchange(writes, {})});
  }

  void on(WritesPersisted& event) {
    MUST(event.ticket.number <= last_ticket, "writes acknowledged that were never asked for");
    persisted_ticket = std::max(persisted_ticket, event.ticket.number);
    while (!unwritten.empty() && unwritten.front().ticket <= persisted_ticket) {
      unwritten_count -= unwritten.front().count;
      unwritten_bytes -= unwritten.front().bytes;
      unwritten.pop_front();
    }
    while (!held.empty() && held.begin()->first <= persisted_ticket) {
      for (HeadReply& reply : held.begin()->second) effects->emplace_back(std::move(reply));
      held.erase(held.begin());
    }
  }

  // ---------------------------------------------------------------- nodes

  std::optional<Refused> check(const NodeRecord& node) const {
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

  void on(NodeRegistered& event) {
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

  void heard(NodeId id) {
    NodeTable::Node* node = nodes.find(id);
    node->heard_at = now;
    if (!node->suspect) return;
    node->suspect = false;
    NodeView seen = view.nodes().at(id);
    seen.suspect = false;
    view.put(std::move(seen));
  }

  void on(HeartbeatCame& event) {
    HeartbeatAnswer answer;
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

  void update_usage(const HeartbeatCame& event) {
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

  void drop_orphans(const HeartbeatCame& event) {
    const std::set<GraphId>& owned = graphs.of_owner(event.node);
    if (owned.empty()) return;
    std::unordered_set<GraphId> named(event.graphs.begin(), event.graphs.end());
    std::vector<GraphId> orphans;
    for (GraphId id : owned) {
      GraphRecordTable::Graph* graph = graphs.find(id);
      if (graph->owner_incarnation != event.incarnation) continue;  // a dead life's: ends with its job
      if (named.count(id) > 0) {
        graph->missed_heartbeats = 0;
      } else if (++graph->missed_heartbeats >= kOrphanHeartbeats) {
        orphans.push_back(id);
      }
    }
    for (GraphId id : orphans) remove_graph(id);
  }

  void on(NodeLeft& event) {
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

  void remove_node(NodeId node) {
    forget_names_of(node);
    nodes.remove(node);
    view.remove(node);
    erase(Table::kNodes, node_key(node));
  }

  void forget_names_of(NodeId node) {
    size_t before = writes.size();
    names.remove_if([&](const NameRecord& record) { return record.node == node; }, writes);
    touch_if_grown(Table::kNames, before);
  }

  // ---------------------------------------------------------------- the view

  void on(ViewAsked& event) { reply(event.call, view.since(event.known_version)); }

  void on(WatchOpened& event) {
    if (watches.size() >= options.watch_count_max) {
      effects->emplace_back(WatchRefused{event.watch});
      return;
    }
    watches[event.watch].sent_version = event.known_version;
  }
  void on(WatchReady& event) {
    if (auto at = watches.find(event.watch); at != watches.end()) at->second.ready = true;
  }
  void on(WatchClosed& event) { watches.erase(event.watch); }

  void tell_watchers() {
    for (auto& [id, watch] : watches) {
      if (!watch.ready || (watch.opened && watch.sent_version == view.version())) continue;
      effects->emplace_back(ViewChanged{id, view.since(watch.sent_version)});
      watch = {view.version(), false, true};
    }
  }

  // ---------------------------------------------------------------- jobs

  void on(JobRegistered& event) {
    JobRecord& job = event.job;
    if (job.job.is_nil()) return reply(event.call, refuse_invalid("a job needs an id that is not all zeros"));
    if (job.script.size() > options.text_bytes_max) job.script.resize(options.text_bytes_max);
    if (nodes.find(job.node) == nullptr) return reply(event.call, refuse_unknown_node(job.node));
    if (const JobTable::Job* known = jobs.find(job.job)) {
      if (known->record == job) {
        jobs.renew(job.job, job.node, now);
        return reply_about(Table::kJobs, event.call, Acknowledged{});
      }
      JobRecord moved = known->record;
      moved.node = job.node;
      if (moved != job || nodes.find(known->record.node) != nullptr) {
        return reply_about(Table::kJobs, event.call,
                           refuse(Code::kAlreadyExists, FailureCode::kRequestInvalid,
                                  "job " + job.job.hex() + " is another driver's: pid " +
                                      std::to_string(known->record.pid) + " on node " +
                                      known->record.node.hex()));
      }
    } else if (jobs.size() >= options.job_count_max) {
      return reply(event.call, refuse_over_limit("there are " + std::to_string(jobs.size()) +
                                                 " jobs, which is as many as may be"));
    }
    if (backlog_full()) return reply(event.call, refuse_for_backlog());
    put(Table::kJobs, job_key(job.job), make_bytes(encode(job)));
    jobs.put(std::move(job), now);
    reply_about(Table::kJobs, event.call, Acknowledged{});
  }

  Refused refuse_unknown_node(NodeId node) const {
    return refuse_for_now("node " + node.hex() + " is not registered; register it first");
  }
  Refused refuse_unknown_job(JobId job) const {
    return refuse_for_now("job " + job.hex() + " is not registered; register it first");
  }

  void on(JobEnded& event) {
    end_job(event.job);
    reply_after(std::max({touched[Table::kJobs], touched[Table::kGraphs], touched[Table::kNames]}), event.call,
                Acknowledged{});
  }

  void end_job(JobId job) {
    if (jobs.find(job) == nullptr) return;
    std::set<GraphId> recorded = graphs.of_job(job);
    for (GraphId graph : recorded) remove_graph(graph);
    size_t before = writes.size();
    names.remove_if([&](const NameRecord& record) { return record.job == job && !record.detached; }, writes);
    touch_if_grown(Table::kNames, before);
    jobs.remove(job);
    erase(Table::kJobs, job_key(job));
  }

  void on(JobsAsked& event) {
    JobList list;
    for (const auto& [id, job] : jobs.jobs()) {
      list.jobs.push_back({job.record, now - job.renewed_at < options.job_lease / 2});
    }
    reply_about(Table::kJobs, event.call, std::move(list));
  }

  // ---------------------------------------------------------------- graphs

  void on(GraphPartCame& event) {
    const GraphPartRecord& part = event.part;
    if (part.graph.is_nil()) return reply(event.call, refuse_invalid("a graph needs an id that is not all zeros"));
    if (part.chunk.size() > options.record_bytes_max) {
      return reply(event.call, refuse_over_limit("a part of a graph may have " +
                                                 std::to_string(options.record_bytes_max) + " bytes, not " +
                                                 std::to_string(part.chunk.size())));
    }
    if (jobs.find(part.job) == nullptr) return reply(event.call, refuse_unknown_job(part.job));
    switch (nodes.standing(part.owner, part.owner_incarnation)) {
      case NodeTable::Standing::kSame:
        break;
      case NodeTable::Standing::kOlder:
        return reply(event.call, refuse(Code::kFailedPrecondition, FailureCode::kRequestInvalid,
                                        "incarnation " + std::to_string(part.owner_incarnation.number) +
                                            " of node " + part.owner.hex() + " is not its newest"));
      default:
        return reply(event.call, refuse_unknown_node(part.owner));
    }
    if (GraphRecordTable::Graph* known = graphs.find(part.graph); known != nullptr && takes_over(part, *known)) {
      remove_graph(part.graph);
    }
    if (graphs.find(part.graph) == nullptr || graphs.find(part.graph)->parts.count(part.part) == 0) {
      if (graphs.bytes() + part.chunk.size() > options.graph_bytes_max ||
          graphs.part_count() >= options.graph_part_count_max) {
        return reply(event.call, refuse_over_limit("recorded graphs have " + std::to_string(graphs.bytes()) +
                                                   " bytes in " + std::to_string(graphs.part_count()) +
                                                   " parts, which leaves no room for this one"));
      }
      if (backlog_full()) return reply(event.call, refuse_for_backlog());
    }
    Bytes stored = make_bytes(encode(part));
    switch (graphs.add(part, stored)) {
      case GraphRecordTable::Added::kNew:
        put(Table::kGraphs, graph_part_key(part.graph, part.part), std::move(stored));
        [[fallthrough]];
      case GraphRecordTable::Added::kKnown:
        return reply_about(Table::kGraphs, event.call, Acknowledged{});
      case GraphRecordTable::Added::kDifferent:
        return refuse_part(event, "another part is recorded under this number");
      case GraphRecordTable::Added::kOtherOwner:
        return refuse_part(event, "the graph belongs to another job or to another node that lives");
      case GraphRecordTable::Added::kBeyondLast:
        return refuse_part(event, "it contradicts which part is the last one");
    }
  }

  // The graph was recorded by a life that is over, and its driver has sent it again to another.
  bool takes_over(const GraphPartRecord& part, const GraphRecordTable::Graph& known) const {
    if (part.job != known.job) return false;
    if (part.owner != known.owner) return nodes.find(known.owner) == nullptr;
    return part.owner_incarnation > known.owner_incarnation;
  }

  void refuse_part(const GraphPartCame& event, const std::string& why) {
    reply_about(Table::kGraphs, event.call,
                refuse(Code::kAlreadyExists, FailureCode::kRequestInvalid,
                       "part " + std::to_string(event.part.part) + " of graph " + event.part.graph.hex() +
                           " is refused: " + why));
  }

  void remove_graph(GraphId graph) {
    size_t before = writes.size();
    graphs.remove(graph, writes);
    touch_if_grown(Table::kGraphs, before);
  }

  void on(GraphEnded& event) {
    remove_graph(event.graph);
    reply_about(Table::kGraphs, event.call, Acknowledged{});
  }

  void on(GraphsAsked& event) {
    GraphList list;
    if (event.job.is_nil()) {
      for (const auto& [id, graph] : graphs.graphs()) list.graphs.push_back(graphs.summary(id));
    } else {
      for (GraphId id : graphs.of_job(event.job)) list.graphs.push_back(graphs.summary(id));
    }
    reply_about(Table::kGraphs, event.call, std::move(list));
  }

  // ---------------------------------------------------------------- names

  void on(NameRegistered& event) {
    NameRecord& record = event.name;
    if (record.name.empty()) return reply(event.call, refuse_invalid("a name can't be empty"));
    if (record.actor.is_nil()) return reply(event.call, refuse_invalid("a name needs an actor"));
    if (record.name.size() > options.name_bytes_max || record.name_space.size() > options.name_bytes_max ||
        record.handle.size() > options.handle_bytes_max) {
      return reply(event.call, refuse_over_limit("a name and a namespace may have " +
                                                 std::to_string(options.name_bytes_max) +
                                                 " bytes each and a handle " +
                                                 std::to_string(options.handle_bytes_max)));
    }
    if (const NameRecord* known = names.find(record.name_space, record.name)) {
      if (*known == record) return reply_about(Table::kNames, event.call, Acknowledged{});
      Refused refused = refuse(Code::kAlreadyExists, FailureCode::kActorNameTaken,
                               "the name " + quoted(record) + " is taken by actor " + known->actor.hex());
      if (known->actor == record.actor) {
        refused.failure = FailureCode::kRequestInvalid;
        refused.message = "actor " + record.actor.hex() + " has the name " + quoted(record) +
                          " already, with other properties";
      }
      refused.holder = known->actor;
      return reply_about(Table::kNames, event.call, std::move(refused));
    }
    if (nodes.find(record.node) == nullptr) return reply(event.call, refuse_unknown_node(record.node));
    if (jobs.find(record.job) == nullptr) return reply(event.call, refuse_unknown_job(record.job));
    if (names.size() >= options.name_count_max ||
        names.handle_bytes() + record.handle.size() > options.handles_bytes_max) {
      return reply(event.call, refuse_over_limit("there are " + std::to_string(names.size()) + " names with " +
                                                 std::to_string(names.handle_bytes()) +
                                                 " bytes of handles, which leaves no room for this one"));
    }
    if (backlog_full()) return reply(event.call, refuse_for_backlog());
    put(Table::kNames, name_key(record.name_space, record.name), make_bytes(encode(record)));
    names.add(std::move(record));
    reply_about(Table::kNames, event.call, Acknowledged{});
  }

  void on(NameAsked& event) {
    NameAnswer answer;
    if (const NameRecord* known = names.find(event.name_space, event.name)) {
      answer = {true, known->actor, known->node, known->handle};
    }
    reply_about(Table::kNames, event.call, std::move(answer));
  }

  void on(NameForgotten& event) {
    const NameRecord* known = names.find(event.name_space, event.name);
    if (known != nullptr && known->actor == event.actor) {
      size_t before = writes.size();
      names.remove(event.name_space, event.name, writes);
      touch_if_grown(Table::kNames, before);
    }
    reply_about(Table::kNames, event.call, Acknowledged{});
  }

  // ---------------------------------------------------------------- time

  void on(HeadTick&) {}

  // Looks for silence twice in each heartbeat's time, which is as exact as silence can be known.
  void sweep() {
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
};

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

LoadReport Cluster::load(Instant now, const std::vector<StoredRecord>& records) {
  State& state = *state_;
  MUST(state.last_ticket == 0 && state.nodes.size() == 0 && state.jobs.size() == 0, "loaded twice");
  state.now = now;
  LoadReport report;
  auto refuse_record = [&](const StoredRecord& stored, const std::string& why) {
    report.refused.push_back(std::string(to_string(stored.table)) + " " + to_hex(stored.key) + ": " + why);
  };
  auto accept = [&](const StoredRecord& stored, const auto& decoded, const auto& key_of, const auto& take) {
    if (!decoded.ok()) return refuse_record(stored, decoded.error().message);
    if (key_of(*decoded) != stored.key) return refuse_record(stored, "it lies under another record's key");
    if (std::string why = take(*decoded); !why.empty()) return refuse_record(stored, why);
    ++report.loaded_count;
  };
  auto load_table = [&](Table table, const auto& load_one) {
    for (const StoredRecord& stored : records) {
      if (stored.table == table && stored.value) load_one(stored);
    }
  };
  load_table(Table::kNodes, [&](const StoredRecord& stored) {
    accept(stored, decode_node(*stored.value), [](const NodeRecord& node) { return node_key(node.node); },
           [&](const NodeRecord& node) -> std::string {
             if (auto refused = state.check(node)) return refused->message;
             if (state.nodes.find(node.node) != nullptr) return "the node was read already";
             NodeView seen;
             seen.node = node;
             seen.available = node.total;
             state.view.put(std::move(seen));
             state.nodes.put(node, now);
             return "";
           });
  });
  load_table(Table::kJobs, [&](const StoredRecord& stored) {
    accept(stored, decode_job(*stored.value), [](const JobRecord& job) { return job_key(job.job); },
           [&](const JobRecord& job) -> std::string {
             if (state.jobs.find(job.job) != nullptr) return "the job was read already";
             state.jobs.put(job, now);
             return "";
           });
  });
  load_table(Table::kGraphs, [&](const StoredRecord& stored) {
    accept(stored, decode_graph_part(*stored.value),
           [](const GraphPartRecord& part) { return graph_part_key(part.graph, part.part); },
           [&](const GraphPartRecord& part) -> std::string {
             if (state.jobs.find(part.job) == nullptr) return "its job " + part.job.hex() + " is not there";
             auto added = state.graphs.add(part, stored.value);
             return added == GraphRecordTable::Added::kNew ? "" : "it contradicts other parts of its graph";
           });
  });
  load_table(Table::kNames, [&](const StoredRecord& stored) {
    accept(stored, decode_name(*stored.value),
           [](const NameRecord& name) { return name_key(name.name_space, name.name); },
           [&](const NameRecord& name) -> std::string {
             if (!name.detached && state.jobs.find(name.job) == nullptr) {
               return "its job " + name.job.hex() + " is not there";
             }
             if (state.names.find(name.name_space, name.name) != nullptr) return "the name was read already";
             state.names.add(name);
             return "";
           });
  });
  return report;
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
