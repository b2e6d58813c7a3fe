// Everything that the head can ask of the world. Cluster::step appends these; the shell performs them in
// order.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "gcs/events.h"
#include "gcs/graph_table.h"
#include "gcs/record.h"
#include "gcs/view.h"
#include "protocol/words/failure.h"
#include "protocol/words/result.h"
#include "protocol/words/time.h"

namespace raylet {

// Write all of this or nothing; answered by WritesPersisted. Tickets grow by one. The shell tries again for as
// long as the disk is away, in the order of the tickets.
struct PersistWrites {
  Ticket ticket;
  std::vector<Write> writes;
};

// Done, and durable if it changed anything.
struct Acknowledged {};

// Not done. kUnavailable: the same may work later; every other code: it never will.
struct Refused {
  Code code = Code::kInvalidArgument;
  FailureCode failure = FailureCode::kRequestInvalid;
  std::string message;
  ObjectId holder;  // of a name that is taken
};

struct NodeAccepted {
  uint64_t lease_ms = 0;
  uint64_t heartbeat_ms = 0;
};

struct HeartbeatAnswer {
  uint64_t view_version = 0;
  bool register_again = false;
  std::vector<JobId> unknown_jobs;
  uint64_t moment = 0;  // grows with each of these, and from one life of the head to the next
};

struct JobList {
  struct Entry {
    JobRecord job;
    bool alive = true;  // its lease is not half over
  };
  std::vector<Entry> jobs;
};

struct GraphList {
  std::vector<GraphSummary> graphs;
};

struct NameAnswer {
  bool found = false;
  ObjectId actor;
  NodeId node;
  std::string handle;
};

using Answer =
    std::variant<Acknowledged, Refused, NodeAccepted, HeartbeatAnswer, ViewPart, JobList, GraphList, NameAnswer>;

struct HeadReply {
  CallId call;
  Answer answer;
};

// To a watcher; the next one comes after its WatchReady.
struct ViewChanged {
  WatchId watch;
  ViewPart part;
};

// Too many watchers: this one is not served.
struct WatchRefused {
  WatchId watch;
};

// For the log: what an operator wants to know.
struct Notice {
  bool warning = false;
  std::string text;
};

// Step again at this instant at the latest; replaces the one before.
struct WakeHeadAt {
  Instant at;
};

using HeadEffect = std::variant<PersistWrites, HeadReply, ViewChanged, WatchRefused, Notice, WakeHeadAt>;

}  // namespace raylet
