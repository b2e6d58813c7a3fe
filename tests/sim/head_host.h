// HeadHost: the head's process, its Redis, and the raylet's link to it.
//
// Calls between raylet and head are lost, late, doubled and out of order; the link asks again until it is
// answered, in the order that daemons/raylet/head_link.h promises. Redis writes whole tickets in order, may
// die between a write and its answer, and is written to again when it is back. The head may die at any time
// and begins again with what is on disk.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "gcs/cluster.h"
#include "tests/sim/world.h"

// The node's words last: both cores have events and effects.
#include "daemons/raylet/core/effects.h"
#include "daemons/raylet/core/events.h"

namespace raylet::sim {

class HeadHost {
 public:
  explicit HeadHost(World& world) : world_(world) {}

  void start();  // waits for Redis
  void kill();
  void kill_redis();

  // The raylet's side.
  void node_started(uint64_t life);
  void node_died();
  void persist(Persist effect);
  void find_name(FindName effect);

  bool is_idle() const { return calls_.empty(); }
  std::string owes() const;  // what it has not answered
  size_t records_on_disk(Table table) const;

 private:
  struct Call {
    Ticket ticket;
    Record record;
    bool is_question = false;
    FindName question;
    bool sent = false;
    uint64_t tries = 0;
    // What it is about, for the order of calls.
    GraphId graph;
    JobId job;
    std::string name;
    bool is_forget = false;
    bool is_job = false;
  };

  bool may_go(size_t at) const;
  void pump();
  void send(Call& call);
  void drop_unsent_before(const Call& forget);
  void answered(uint64_t life, Ticket ticket, const Answer& answer);
  void finish(size_t at, Persisted answer);
  void register_node();
  void heartbeat();
  void heartbeat_answered(const HeartbeatAnswer& answer);
  HeadEvent request_of(const Call& call, CallId id) const;
  void acknowledge(const Call& call);

  // The network: loses, delays and doubles. `answer` is called with what comes back, maybe never, maybe twice.
  void call(HeadEvent request, std::function<void(const Answer&)> answer);
  void arrive(HeadEvent request);
  static void set_call(HeadEvent& event, CallId id);

  void step();
  void perform(HeadEffect& effect);
  void write_next();
  void check_acknowledged();

  World& world_;
  std::unique_ptr<Cluster> cluster_;
  uint64_t life_ = 0;
  uint64_t wake_ = 0;
  bool step_due_ = false;
  std::vector<HeadEvent> inbox_;
  uint64_t next_call_ = 1;
  std::map<CallId, std::function<void(const Answer&)>> open_calls_;

  // Redis.
  bool redis_up_ = true;
  uint64_t redis_life_ = 0;
  bool writing_ = false;
  std::map<std::pair<Table, std::string>, Bytes> disk_;
  std::deque<PersistWrites> unwritten_;

  // The raylet's link.
  uint64_t node_life_ = 0;  // 0: no raylet
  uint64_t link_life_ = 0;
  bool registered_ = false;
  uint64_t heard_moment_ = 0;
  uint64_t register_tries_ = 0;
  std::deque<Call> calls_;
  std::map<JobId, RecordJob> jobs_;
  std::set<GraphId> recorded_;
  std::map<GraphId, JobId> job_of_graph_;
  std::set<std::pair<Table, std::string>> acknowledged_;
  std::map<std::pair<std::string, std::string>, ObjectId> named_;
};

}  // namespace raylet::sim
