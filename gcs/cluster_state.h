// Cluster::State: the tables of a cluster and everything that may be done to them. Included by the files of
// this folder only; each part below is the file of that name.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gcs/cluster.h"
#include "gcs/graph_table.h"
#include "gcs/job_table.h"
#include "gcs/name_table.h"
#include "gcs/node_table.h"
#include "gcs/view.h"

namespace raylet {

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

  explicit State(ClusterOptions given)
      : options(given), view(given.epoch, given.view_history_max), moment(given.epoch << 32) {}

  ClusterOptions options;
  NodeTable nodes;
  View view;
  uint64_t moment;  // of the last HeartbeatAnswer
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

  // ---- cluster_writes.cc: answers and writes
  void say(bool warning, std::string text);
  void reply_after(uint64_t ticket, CallId call, Answer answer);
  void reply(CallId call, Answer answer);
  void reply_about(Table table, CallId call, Answer answer);
  void put(Table table, std::string key, Bytes value);
  void erase(Table table, std::string key);
  void touch_if_grown(Table table, size_t size_before);
  static uint64_t size_of(const Write& write);
  bool backlog_full() const;
  Refused refuse_for_backlog() const;
  void flush_writes();
  void on(WritesPersisted& event);

  // ---- cluster_nodes.cc: nodes
  std::optional<Refused> check(const NodeRecord& node) const;
  void on(NodeRegistered& event);
  void heard(NodeId id);
  void on(HeartbeatCame& event);
  void update_usage(const HeartbeatCame& event);
  void drop_orphans(const HeartbeatCame& event);
  void on(NodeLeft& event);
  void remove_node(NodeId node);
  void forget_names_of(NodeId node);

  // ---- cluster_nodes.cc: the view
  void on(ViewAsked& event);
  void on(WatchOpened& event);
  void on(WatchReady& event);
  void on(WatchClosed& event);
  void tell_watchers();

  // ---- cluster_jobs.cc: jobs
  void on(JobRegistered& event);
  Refused refuse_unknown_node(NodeId node) const;
  Refused refuse_unknown_job(JobId job) const;
  void on(JobEnded& event);
  void end_job(JobId job);
  void on(JobsAsked& event);

  // ---- cluster_graphs.cc: graphs
  void on(GraphPartCame& event);
  bool takes_over(const GraphPartRecord& part, const GraphRecordTable::Graph& known) const;
  void refuse_part(const GraphPartCame& event, const std::string& why);
  void remove_graph(GraphId graph);
  void on(GraphEnded& event);
  void on(GraphsAsked& event);

  // ---- cluster_names.cc: names
  void on(NameRegistered& event);
  void on(NameAsked& event);
  void on(NameForgotten& event);

  // ---- cluster_nodes.cc: time
  void on(HeadTick&) {}
  void sweep();
};

// Why a request is not carried out.
Refused refuse(Code code, FailureCode failure, std::string message);
Refused refuse_invalid(std::string message);
Refused refuse_over_limit(std::string message);
Refused refuse_for_now(std::string message);  // the same request may be accepted later

}  // namespace raylet
