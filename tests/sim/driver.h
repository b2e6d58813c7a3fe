// Driver: a user's process. It submits graphs of many shapes, holds and releases results, asks for them and
// checks each, puts, cancels, makes, shares, calls and kills actors, loses its connection and resumes it, and in
// the end gets everything it still holds and leaves. One that is remote maps no store memory.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/node_host.h"
#include "tests/sim/submission.h"

namespace raylet::sim {

class Driver : public Endpoint {
 public:
  Driver(World& world, uint64_t number, uint32_t actions)
      : world_(world), number_(number), actions_left_(actions) {}

  void begin();
  void kill();
  bool has_left() const { return state_ == State::kGone; }
  JobId job() const { return job_; }
  // What it still waits for, for the message when it waits for ever.
  std::string waits_for() const;

  void receive(const Effect& effect) override;
  void disconnected() override;

 private:
  enum class State { kNew, kBusy, kAway, kCollecting, kGone };
  struct Get {
    std::set<ObjectId> ids;
    bool values = true;
    uint64_t wanted = 0;
  };
  struct Slab {
    SlabId id;
    StoredAt at;
  };

  std::string explain(std::string id) const;
  Actor me() const { return {Who::kDriver, number_}; }
  void say(Event event) { world_.node->say(session_, std::move(event)); }
  void connect();
  void lose_connection();
  void come_back(uint64_t life);
  void arrive();
  void later(Duration wait, std::function<void()> what);
  void think();
  void act();
  void submit_graph();
  GraphPlan plan_graph();
  void borrow_for(TaskPlan& task, const std::vector<ObjectId>& from);
  TaskPlan plan_task(bool in_open_graph);
  void send_chunks(const GraphPlan& plan, bool hold_all, std::vector<uint64_t> wanted);
  void call_remote();      // f.remote(): a task of the open graph
  void append(TaskPlan task);
  void make_actor();
  void call_actor();
  void kill_actor(const ObjectId& actor);
  void put();
  void finish_put(const Slab* slab, uint64_t size_bytes);
  void ask(std::vector<ObjectId> ids, bool values);
  void answered(const ObjectAnswer& answer, Get& get);
  void release(const ObjectId& id);
  void release_some();
  void cancel_something();
  void find_actor();
  bool is_actor(const ObjectId& id) const;
  void collect();
  void leave(bool goodbye);
  bool is_asked_for(const ObjectId& id) const;
  std::vector<ObjectId> some_held(size_t most);

  World& world_;
  const uint64_t number_;
  uint32_t actions_left_;
  State state_ = State::kNew;
  uint64_t token_ = 0;
  SessionId session_;
  JobId job_;
  uint64_t next_request_ = 1;
  uint64_t next_put_ = 0;
  GraphId put_graph_;
  GraphId open_graph_;
  bool remote_ = false;  // maps no store memory: what it is sent is copied for it at once
  KnownFunctions functions_;
  std::set<ObjectId> held_;
  std::map<RequestId, Get> gets_;
  std::map<RequestId, uint64_t> slab_requests_;  // size of the put that waits
  std::set<RequestId> name_requests_;
  std::vector<ObjectId> actors_;
  std::map<ObjectId, uint64_t> calls_;  // by actor
  std::set<GraphId> running_;
  uint64_t credit_owed_bytes_ = 0;
};

}  // namespace raylet::sim
