// Everything that can happen to the head. The shell (daemons/head) and the simulator make these; Cluster::step
// (cluster.h) is told them in batches.
//
// Ids, numbers and counts are chosen by peers and may be wrong, late or repeated: they are answered, never
// trusted. What the shell promises: call and watch ids are its own and unique, Persisted tickets were given
// out by Persist effects and come in their order.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "gcs/record.h"
#include "protocol/words/ids.h"
#include "protocol/words/resources.h"

namespace raylet {

using CallId = NarrowId<struct HeadCallTag>;    // one request; answered by exactly one Reply
using WatchId = NarrowId<struct HeadWatchTag>;  // one reader of the view's changes

struct NodeRegistered {
  CallId call;
  NodeRecord node;
};

struct HeartbeatCame {
  CallId call;
  NodeId node;
  Incarnation incarnation;
  Resources available;
  uint64_t store_used_bytes = 0;
  std::vector<JobId> jobs;      // whose drivers are connected there
  std::vector<GraphId> graphs;  // recorded by this node and not yet ended
  uint64_t heard_moment = 0;    // of the newest HeartbeatAnswer that the node had when it made this
};

struct NodeLeft {
  CallId call;
  NodeId node;
  Incarnation incarnation;
};

struct ViewAsked {
  CallId call;
  uint64_t known_version = 0;
};

struct WatchOpened {
  WatchId watch;
  uint64_t known_version = 0;
};

// The watcher took what it was sent and can be sent more.
struct WatchReady {
  WatchId watch;
};

struct WatchClosed {
  WatchId watch;
};

struct JobRegistered {
  CallId call;
  JobRecord job;
};

struct JobEnded {
  CallId call;
  JobId job;
};

struct JobsAsked {
  CallId call;
};

struct GraphPartCame {
  CallId call;
  GraphPartRecord part;
};

struct GraphEnded {
  CallId call;
  GraphId graph;
};

struct GraphsAsked {
  CallId call;
  JobId job;  // nil: all
};

struct NameRegistered {
  CallId call;
  NameRecord name;
};

struct NameAsked {
  CallId call;
  std::string name_space;
  std::string name;
};

struct NameForgotten {
  CallId call;
  std::string name_space;
  std::string name;
  ObjectId actor;
};

// The writes of this ticket, and of all before it, are on disk.
struct WritesPersisted {
  Ticket ticket;
};

// Nothing but the passing of time; WakeHeadAt asked for it.
struct HeadTick {};

using HeadEvent = std::variant<NodeRegistered, HeartbeatCame, NodeLeft, ViewAsked, WatchOpened, WatchReady,
                               WatchClosed, JobRegistered, JobEnded, JobsAsked, GraphPartCame, GraphEnded,
                               GraphsAsked, NameRegistered, NameAsked, NameForgotten, WritesPersisted, HeadTick>;

}  // namespace raylet
