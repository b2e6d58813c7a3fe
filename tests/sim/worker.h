// Worker: a Python worker as the raylet knows it: it reads batches in order, runs their tasks in order, seals
// what is large, reports, blocks in a get, is interrupted, and dies.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "tests/sim/node_host.h"
#include "tests/sim/submission.h"

namespace raylet::sim {

class Worker : public Endpoint {
 public:
  Worker(World& world, WorkerId id, uint64_t life) : world_(world), id_(id), life_(life) {}

  WorkerId id() const { return id_; }
  uint64_t life() const { return life_; }
  SessionId session() const { return session_; }
  bool is_alive() const { return state_ == State::kAlive; }
  bool is_running() const { return is_alive() && batch_ != nullptr; }

  void begin();  // the zygote was asked for it
  void take_batch(std::shared_ptr<SendBatch> batch);
  std::vector<uint64_t> retract();
  void stop(bool gently);
  void kill(int signal);
  void die_with_node();

  void receive(const Effect& effect) override;
  void disconnected() override {}

 private:
  enum class State { kStarting, kAlive, kDead };
  struct Slab {
    SlabId id;
    StoredAt at;
    uint64_t used_bytes = 0;
  };
  struct Pinned {
    ObjectId id;
    StoredAt at;
    Content content;
  };

  Actor me() const { return {Who::kWorker, id_.number}; }
  bool alive_since(uint64_t token) const { return state_ == State::kAlive && token == token_; }
  // Calls it later unless the worker died, or was given something else to do, meanwhile.
  void later(Duration wait, std::function<void()> what);
  void read_next();
  void learn(const SendBatch& batch);
  void run_task();
  bool read_inputs(const SendBatch::Task& task, TaskPlan& plan);
  const Content& read_located(const ObjectId& id, const StoredAt& at);
  void submit_nested(const TaskId& id, uint32_t attempt, const TaskPlan& plan);
  void await_nested();
  void nested_answered(const ObjectAnswer& answer);
  void hand_back_rest();
  void make_results();
  void finish_task(TaskResult result);
  void fail_task(Failure failure);
  void flush();
  void next_task();
  void end_batch();
  void unpin_later(std::vector<ObjectId> ids, Duration wait);
  void exit(int signal);
  TaskId task_id(uint32_t position) const {
    const auto& task = batch_->tasks[position];
    return {batch_->graphs[task.graph], task.index};
  }

  World& world_;
  const WorkerId id_;
  const uint64_t life_;
  State state_ = State::kStarting;
  SessionId session_;
  uint64_t token_ = 0;  // grows when what was going on is over
  uint64_t next_request_ = 1;
  std::deque<std::shared_ptr<SendBatch>> unread_;
  std::shared_ptr<SendBatch> batch_;
  uint32_t position_ = 0;
  size_t first_input_ = 0;  // of the task at position_
  bool handed_back_ = false;
  std::vector<TaskResult> report_;
  std::map<uint32_t, FunctionDef> functions_;
  std::map<uint64_t, Bytes> groups_;
  std::set<std::pair<uint64_t, uint32_t>> interrupted_;
  std::map<std::pair<uint32_t, uint32_t>, Content> made_;  // position, return: by tasks of this batch
  std::optional<Slab> slab_;
  RequestId slab_request_;
  RequestId get_request_;
  ObjectId awaited_;       // of a nested graph
  bool nested_ready_ = false;
  bool blocked_ = false;
  bool is_actor_ = false;
  std::vector<ObjectId> nested_held_;
  KnownFunctions submitted_functions_;
  std::map<ObjectId, uint64_t> last_call_;  // by actor
};

}  // namespace raylet::sim
