// Node::State: the tables of a node and everything that may be done to them. Included by the files of this
// folder only; each part below is the file of that name.
//
// Long consequences are not followed by recursion: what may be free is put on `doomed_`, tasks that fail with
// another on a worklist, and graphs that may be over on `ending_`; settle() works them off after each event.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "daemons/raylet/core/actor_table.h"
#include "daemons/raylet/core/graph_table.h"
#include "daemons/raylet/core/job_table.h"
#include "daemons/raylet/core/node.h"
#include "daemons/raylet/core/object_table.h"
#include "daemons/raylet/core/scratch_map.h"
#include "daemons/raylet/core/session_table.h"
#include "daemons/raylet/core/worker_table.h"

namespace raylet {

struct Node::State {
  explicit State(NodeOptions given);

  // ---- node.cc: routing
  void step(Instant at, std::span<Event> events, std::vector<Effect>& effects);
  void settle();
  void wake_by(Instant at);
  template <typename E>
  void emit(E&& effect) {
    out_->emplace_back(std::forward<E>(effect));
  }
  Ticket next_ticket() { return Ticket{++last_ticket_}; }

  // ---- intake.cc: chunks arrive
  void on(ChunkArrived& event);
  // What is wrong with the chunk, before anything is changed. Code kNone: nothing.
  Failure check_chunk(const Session& session, const Job& job, const Graph* graph, const GraphChunk& chunk) const;
  Graph& begin_graph(const Session& session, Job& job, const GraphChunk& chunk);
  void give_credit(Session& session, uint64_t bytes);
  void give_withheld_credit();
  bool is_overfull() const;

  // ---- absorb.cc: chunks become rows and edges
  struct ChunkReading;
  void absorb(Session& session, Job& job, Graph& graph, const std::shared_ptr<const GraphChunk>& chunk);
  void learn_functions(Session& session, const Job& job, const GraphChunk& chunk);
  void note_submission(const Session& session, Graph& graph, const GraphChunk& chunk);
  void number_names(ChunkReading& reading);
  uint32_t option_of(ChunkReading& reading, uint32_t number);
  uint32_t intern_option(Graph& graph, const TaskOptions& options, bool creation);
  void begin_block(ChunkReading& reading, uint32_t left);
  void add_row(ChunkReading& reading, uint32_t i);
  void add_edges(ChunkReading& reading, uint32_t i);
  void take_in_future_objects(Graph& graph, uint32_t task);
  void connect(Graph& graph, uint32_t task);
  void add_dependency(Graph& graph, uint32_t task, uint32_t edge);
  void hold_results(Session& session, Graph& graph, uint32_t task);
  void fail_for_unknown_input(Graph& graph, uint32_t task);

  // ---- opening.cc: graphs become whole
  // False, and the graph has failed, if it is no graph.
  bool order_whole_graph(Graph& graph);
  void open_graph(Graph& graph);
  void keep_results(Graph& graph);
  void close_graph(Graph& graph);

  // ---- objects.cc: what they are called, and their values
  void on(PutArrived& event);
  uint32_t object_of(const Graph& graph, uint32_t task, uint32_t index) const;  // 0: none was needed so far
  uint32_t need_object(Graph& graph, uint32_t task, uint32_t index);
  uint32_t find_object(const ObjectId& id) const;
  // Finds, or makes the object of a known pending task. 0: unknown here.
  uint32_t object_for_session(const Session* session, const ObjectId& id);
  void set_value(uint32_t object, Bytes value);
  void set_sealed(uint32_t object, const SlabId& slab, const SealedBytes& sealed, const LeasedSlab& leased,
                  bool remakable);
  void set_failed(uint32_t object, const FailurePtr& failure);
  void set_contained(uint32_t object, const std::vector<ObjectId>& contained);
  void resolve(uint32_t object);

  // ---- holders.cc: who needs them
  void on(ReferencesChanged& event);
  void hold(Session& session, uint32_t object);
  void unhold(Session& session, uint32_t object);
  void pin(Session& session, uint32_t object);
  void unpin(Session& session, uint32_t object, uint32_t count);
  void drop_shares(Session& session);
  void unuse(uint32_t object);
  void unuse_result(Graph& graph, uint32_t task, uint32_t index);
  void may_be_free(uint32_t object);
  void free_object(uint32_t object);
  void forget_unsealed(uint32_t object);  // what its state is now was in the store no more

  // ---- gets.cc: who waits for them
  void on(GetAsked& event);
  void on(GetCancelled& event);
  void answer(uint32_t get, uint32_t object);
  void answer_failure(uint32_t get, const ObjectId& id, Failure failure);
  void end_get(uint32_t get);

  // ---- readiness.cc: tasks from waiting to ready to over
  void make_ready(Graph& graph, uint32_t task);
  void push_ready(Graph& graph, uint32_t task);
  Lane& lane_of(Graph& graph, uint32_t shape);
  void list_lane(Lane& lane);
  void unlist_lane(Lane& lane);
  void input_came(Graph& graph, uint32_t task);
  void recount_inputs(Graph& graph, uint32_t task);
  void note_lineage(Graph& graph, uint32_t task);
  void finish_task(Graph& graph, uint32_t task, const Session& by, TaskResult& result);
  void detach_readers(Graph& graph, uint32_t task);
  void fail_task(Graph& graph, uint32_t task, const FailurePtr& failure);
  void fail_graph(Graph& graph, const FailurePtr& failure);
  void end_task(Graph& graph, uint32_t task, TaskState state);
  void drain_failing();
  void consider_release(Graph& graph);
  void release_block(Graph& graph, uint32_t block);
  void release_graph(Graph& graph);
  void remember_ended(const Graph& graph);
  void report_end(Graph& graph);
  void report_progress(Graph& graph, bool now_or_never);
  const std::string& name_of(const Graph& graph, const TaskRow& row) const;
  void mark_ending(Graph& graph);

  // ---- dispatch.cc: which ready task goes to which worker
  void dispatch();
  Lane* next_lane(Job::ShapeLanes& of_shape);
  bool dispatch_one(Job& job);
  bool serve_in_turns();
  bool has_room_for(const Shape& shape) const;
  bool may_get_room(const Shape& shape) const;
  void note_lack(Job::ShapeLanes& of_shape);
  Worker* choose_worker(const Job& job, const Shape& shape, uint32_t shape_number, uint64_t preferred);
  uint32_t share_of(const Job& job, const Job::ShapeLanes& lanes) const;
  bool is_under_pressure() const;
  bool is_held_back(const Graph& graph, uint32_t task) const;
  void let_go_held_back();
  void reserve_for_starved();
  void take_resources(Worker& worker, uint32_t shape);
  void give_resources(Worker& worker);
  void settle_debts();

  // ---- batch_builder.cc: one batch, put together and sent
  struct BatchDraft;
  bool send_batch(Worker& worker, Job& job, Job::ShapeLanes& lanes, uint32_t count_max);
  bool add_to_draft(BatchDraft& draft, Worker& worker, Graph& graph, uint32_t task);
  void add_group(BatchDraft& draft, Worker& worker, Graph& graph, const TaskRow& row);
  void drop_ended_groups(SendBatch& send, Worker& worker);
  void commit_draft(BatchDraft& draft, Worker& worker, Job& job);
  double work_of(const Function& function) const;

  // ---- results.cc: what workers say of their batches
  void on(ResultsArrived& event);
  void on(BatchesRetracted& event);
  void take_result(Worker& worker, Batch& batch, TaskResult& result);
  bool results_are_sound(const Session& session, const Batch& batch, const ResultsArrived& event,
                         std::string& why);
  void requeue(Graph& graph, uint32_t task);
  void retry_or_fail(Graph& graph, uint32_t task, const FailurePtr& failure);
  void leave_batch(Worker& worker, Batch& batch, BatchEntry& entry);
  void after_batches(Worker& worker);
  void retract(Worker& worker);
  std::pair<Worker*, Batch*> find_running(const Graph& graph, uint32_t task, uint32_t& position);

  // ---- workers.cc: processes
  void on(WorkerArrived& event);
  void on(WorkerBlocked& event);
  void on(WorkerExited& event);
  void on(WorkerStartFailed& event);
  void start_workers();
  Worker& start_worker(const JobId& job);
  void stop_worker(Worker& worker, bool gently);
  void worker_start_went_wrong(const JobId& job, const std::string& reason);
  void rebalance();

  // ---- sessions.cc: drivers come and go
  void on(DriverArrived& event);
  void on(SessionClosed& event);
  void end_job(Job& job);
  void end_worker_session(Session& session);
  void end_lost_jobs();
  void close_session(const SessionId& id, std::string reason);
  Job* job_of(const Session& session) const;

  // ---- cancel.cc
  void on(CancelAsked& event);
  void cancel_task(Graph& graph, uint32_t task, const FailurePtr& failure, bool force, bool recursive);
  void cancel_graph(Graph& graph, const FailurePtr& failure, bool force, bool recursive);
  void cancel_children(const Graph& graph, uint32_t task, bool force);
  void stop_running(Graph& graph, uint32_t task, bool force);

  // ---- actors.cc
  void on(KillActorAsked& event);
  void on(FindActorAsked& event);
  void on(NameFound& event);
  void actor_arrived(Graph& graph, uint32_t task);
  void call_arrived(Graph& graph, uint32_t task);
  void queue_call_again(Graph& graph, uint32_t task);
  bool creation_may_run(Graph& graph, uint32_t task);
  void creation_sent(Graph& graph, uint32_t task, Worker& worker);
  void creation_done(Graph& graph, uint32_t task);
  void creation_over(Graph& graph, uint32_t task, const FailurePtr& failure);
  void dispatch_calls();
  void send_calls(Actor& actor);
  void kill_actor(Actor& actor, const FailurePtr& failure, bool hard);
  void actor_worker_gone(Actor& actor, const FailurePtr& failure);
  void actor_unheld(const ObjectId& id);
  void end_idle_actor(Actor& actor);
  void let_go_of_actor(Actor& actor);
  void fail_calls(Actor& actor);
  void name_persisted(Actor& actor, const Persisted& event);
  Actor* actor_of(const Graph& graph, const TaskRow& row);
  bool is_creation(const TaskRow& row) const {
    return functions_[row.function].def.kind == FunctionDef::Kind::kActorClass;
  }
  bool is_call(const Graph& graph, const TaskRow& row) const {
    return !graph.options[row.option].options.actor.is_nil();
  }

  // ---- slabs.cc: store memory
  void on(SlabAsked& event);
  void on(SlabReturned& event);
  void on(SlabLeased& event);
  void on(SlabRefused& event);
  void on(StoreUsageChanged& event);
  void end_store_session(Session& session);
  // The slab that `sealed` lies in; null if the session leases no such thing.
  const LeasedSlab* slab_of(const Session& session, const SealedBytes& sealed) const;

  // ---- lineage.cc: what was lost is made again
  void on(ObjectsEvicted& event);
  void on(StoreDied& event);
  void on(StoreReturned& event);
  void lose(uint32_t object);
  void remake(uint32_t object);
  void run_again(Graph& graph, uint32_t task);

  // ---- records.cc: what the head writes down
  void on(Persisted& event);
  void record_long_graphs();
  void record_parts();
  void forget_record(Graph& graph);

  void on(Tick&) {}

  // ---- explain.cc, validate.cc
  NodeReport report(Instant at) const;
  Explanation explain(Instant at, const std::string& id) const;
  Job::ShapeLanes::Lack lack_of(const Graph& graph, const TaskRow& row) const;
  void explain_task(Instant at, const Graph& graph, uint32_t task, Explanation& out) const;
  void validate() const;

  NodeOptions options_;
  Instant now_;
  std::vector<Effect>* out_ = nullptr;
  uint64_t last_ticket_ = 0;
  bool started_ = false;
  Instant wake_at_{INT64_MAX};
  Instant wake_told_{INT64_MAX};

  GraphTable graphs_;
  ObjectTable objects_;
  SlotPool<Get> gets_;
  SessionTable sessions_;
  WorkerTable workers_;
  std::map<JobId, std::unique_ptr<Job>> jobs_;
  FunctionTable functions_;
  ShapeTable shapes_;
  ActorTable actors_;
  std::map<std::pair<std::string, std::string>, ObjectId> names_;  // (namespace, name) of living actors here

  Resources available_;
  bool contended_ = false;             // several jobs have ready tasks
  const Job::ShapeLanes* reserved_ = nullptr;  // it lacked resources for long: others leave what is free to it
  Instant starving_at_{INT64_MAX};     // no lane has lacked resources for long before
  Resources owed_;                     // what workers that were blocked took beyond it
  uint32_t tasks_in_flight_ = 0;
  uint64_t task_count_ = 0;            // rows known
  uint64_t graph_bytes_ = 0;
  uint64_t inline_value_bytes_ = 0;
  uint64_t held_objects_ = 0;
  uint64_t pending_gets_ = 0;
  uint64_t next_group_ = 1;
  uint32_t batch_mark_ = 0;
  uint64_t job_turn_ = 0;
  uint32_t held_back_count_ = 0;
  uint32_t starts_failed_ = 0;  // in a row, without a job
  bool withheld_ = false;  // credit of some session
  Instant start_not_before_;

  uint64_t store_capacity_ = 0;
  uint64_t store_used_ = 0;
  bool store_up_ = true;
  uint64_t next_slab_ = 1;
  struct PendingLease {
    SessionId session;
    RequestId request;
    SlabId slab;
    uint64_t size_bytes = 0;
  };
  std::map<Ticket, PendingLease> pending_leases_;

  struct PendingRecord {
    enum class Kind { kGraphPart, kJob, kName, kOther } kind = Kind::kOther;
    GraphId graph;
    JobId job;
    ObjectId actor;
  };
  std::unordered_map<Ticket, PendingRecord> pending_records_;
  struct PendingFind {
    SessionId session;
    RequestId request;
    std::string name;
  };
  std::unordered_map<Ticket, PendingFind> pending_finds_;

  struct EndedGraph {
    JobId job;
    FailurePtr failure;
    uint32_t outliving = 0;  // of its objects
    bool recent = false;     // in ended_order_
  };
  std::unordered_map<GraphId, EndedGraph> ended_;
  std::deque<GraphId> ended_order_;

  std::vector<uint32_t> doomed_;
  struct Failing {
    Graph* graph;
    uint32_t task;
    FailurePtr failure;
  };
  std::vector<Failing> failing_;
  bool draining_failing_ = false;
  std::vector<TaskRef> ending_;
  std::vector<uint32_t> answering_;
  std::vector<TaskRef> progressing_;
  std::map<uint64_t, TaskRef> unrecorded_;  // by sequence: graphs that may have to be recorded
  std::vector<TaskRef> recording_;          // graphs of which parts are still to come
  std::vector<ObjectId> calls_to_send_;     // actors
  std::vector<ObjectId> actors_to_forget_;
  std::vector<uint32_t> scratch_gets_;
  ScratchMap scratch_positions_;
  ScratchMap scratch_pending_;
  std::vector<ReadyQueue::Entry> scratch_local_;
  std::vector<uint32_t> scratch_again_;

  // Ever since the start.
  uint64_t tasks_finished_total_ = 0;
  uint64_t tasks_failed_total_ = 0;
  uint64_t tasks_retried_total_ = 0;
  uint64_t batches_sent_total_ = 0;
  uint64_t workers_died_total_ = 0;
};

FailurePtr make_failure(FailureCode code, std::string message, std::string task_name = {});
Failure bad_graph(std::string message);

}  // namespace raylet
