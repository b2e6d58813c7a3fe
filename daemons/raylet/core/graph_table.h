// Graphs and their tasks, compact: about 48 bytes a task and 12 an edge, in blocks of 1,024 tasks.
//
// Tables only: what the states mean for each other is decided in the files around node_state.h. What always
// holds: a task is kRunning iff exactly one batch of one worker names it; a task is kReady iff a ReadyQueue
// holds it (which may also hold stale entries); `pending` counts the dependencies that a kWaiting task lacks.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "daemons/raylet/core/ready_queue.h"
#include "daemons/raylet/core/slot_pool.h"
#include "protocol/words/failure.h"
#include "protocol/words/graph_chunk.h"
#include "protocol/words/ids.h"
#include "protocol/words/time.h"

namespace raylet {

struct Job;
struct Graph;
struct Actor;

using FailurePtr = std::shared_ptr<const Failure>;

enum class TaskState : uint8_t {
  kWaiting,  // for dependencies, for its graph to be whole, or (actor calls) for its turn
  kReady,
  kHeldBack,  // a root that waits for memory
  kRunning,   // in a batch that was sent
  kDone,
  kFailed,
};

// A dependency or a borrowed reference of a task. Those on tasks of the same graph form a circular list per
// producer, in the order in which they were added.
struct Edge {
  static constexpr uint32_t kExternal = 1u << 31;  // the rest is an index into the block's externals
  static constexpr uint32_t kBorrow = 1u << 30;    // an external that is only kept alive
  static constexpr uint32_t kIndexMask = kBorrow - 1;
  static constexpr uint32_t kTaskMax = kExternal - 1;

  uint32_t dep = 0;
  uint32_t next_task = 0;  // reader that comes next, and which edge of its block
  uint32_t next_edge = 0;

  bool is_external() const { return (dep & kExternal) != 0; }
  bool is_borrow() const { return (dep & kExternal) != 0 && (dep & kBorrow) != 0; }
};

struct TaskRow {
  static constexpr uint32_t kNoReader = UINT32_MAX;
  static constexpr uint32_t kMulti = UINT32_MAX;  // `object` of a task with several results: see Graph::multi
  static constexpr uint8_t kRunAgain = 0x80;  // in `charged`: it was done, and its result was lost
  static constexpr uint8_t kNoLineage = 0x40;  // in `charged`: what it was made of may be gone by now
  static constexpr uint8_t kChargedMax = 0x3f;

  uint32_t function = 0;    // in the FunctionTable
  uint32_t group = 0;       // in Graph::groups
  uint32_t first_edge = 0;  // in Block::edges, up to the next row's
  uint32_t last_reader_task = kNoReader;  // the tail of the circular list; its `next` is the first reader
  uint32_t last_reader_edge = 0;
  uint32_t pending = 0;
  uint32_t uses = 0;    // readers that have not ended, as long as `object` is none
  uint32_t object = 0;  // in the ObjectTable
  uint32_t rank = 0;
  uint32_t name = 0;  // 0: the function's; i: Graph::names[i - 1]
  uint16_t option = 0;  // in Graph::options
  uint16_t attempt = 0;
  uint16_t return_count = 1;
  TaskState state = TaskState::kWaiting;
  uint8_t charged = 0;  // attempts that count against retries_max, and kRunAgain

  bool has_lineage() const { return (charged & kNoLineage) == 0; }
  bool runs_again() const { return (charged & kRunAgain) != 0; }
};
static_assert(sizeof(TaskRow) == 48);

struct ExternalRef {
  ObjectId id;
  uint32_t object = 0;  // valid while a task that uses it has not ended
};

struct Block {
  static constexpr uint32_t kShift = 10;
  static constexpr uint32_t kTasks = 1u << kShift;

  std::vector<TaskRow> rows;
  std::vector<Edge> edges;
  std::vector<uint32_t> edge_returns;  // parallel to edges; empty: all 0
  std::vector<ExternalRef> externals;
  uint32_t unfinished = 0;
  uint32_t in_flight = 0;
  uint32_t live_sealed = 0;  // results that were sealed and that only these rows can make again
  uint32_t linked = 0;       // without fail_fast: edges of these rows that are in a producer's list

  uint32_t edge_end(uint32_t row) const {
    return row + 1 < rows.size() ? rows[row + 1].first_edge : static_cast<uint32_t>(edges.size());
  }
  uint32_t return_of(uint32_t edge) const { return edge_returns.empty() ? 0 : edge_returns[edge]; }
};

struct TaskGroup {
  uint64_t number = 0;  // the node's own, never given twice
  Bytes blob;
  uint32_t first_task = 0;
  uint32_t size = 0;
  uint32_t unfinished = 0;
  uint64_t last_worker = 0;  // WorkerId that was sent it last
};

// The ready tasks of one graph that want the same resources.
struct Lane {
  Graph* graph = nullptr;
  uint32_t shape = 0;
  bool listed = false;  // in Job::shapes
  ReadyQueue queue;
  std::vector<uint32_t> held_back;
};

struct GraphOption {
  TaskOptions options;
  uint32_t shape = 0;
};

struct Graph {
  GraphId id;
  uint32_t slot = 0;
  uint64_t sequence = 0;  // arrival order; never given twice
  Job* job = nullptr;
  SessionId session;  // who submits it
  bool nested = false;
  struct Submission {
    uint32_t first_task = 0;  // from here on, until the next one's
    GraphId by_graph;         // the task that submitted them; nil: none did
    uint32_t by_task = 0;
  };
  std::vector<Submission> submissions;  // of nested graphs

  bool fail_fast = false;
  bool report_progress = false;
  bool hold_all = false;
  bool last = false;    // every task has arrived
  uint32_t kept_tasks = 0;  // the first so many: their results count one use more, for readers still to arrive
  bool opened = false;  // its tasks may run
  bool had_forward = false;
  bool cancelled = false;
  bool end_reported = false;
  bool ending_listed = false;
  std::string name;
  FailurePtr failure;
  Instant arrived_at;

  uint32_t arrived = 0;  // tasks
  std::vector<std::unique_ptr<Block>> blocks;  // null: let go
  uint32_t first_block = 0;                    // those before are null
  std::deque<TaskGroup> groups;
  uint32_t group_base = 0;  // index of groups.front()
  std::vector<std::string> names;
  std::unordered_map<std::string, uint32_t> name_numbers;
  std::vector<GraphOption> options;  // [0]: the defaults
  std::unordered_map<std::string, uint32_t> option_numbers;
  std::unordered_map<uint32_t, std::vector<uint32_t>> multi;  // objects of tasks with several results
  std::unordered_map<uint32_t, std::vector<std::pair<uint32_t, uint32_t>>> forward;  // readers of what is to come
  uint32_t future_objects = 0;  // asked for before their task arrived
  std::vector<std::unique_ptr<Lane>> lanes;

  uint32_t unfinished = 0;
  uint32_t in_flight = 0;  // entries of batches; cancelled ones too
  uint32_t live_objects = 0;
  uint32_t outliving = 0;  // objects of rows that were let go
  uint32_t live_sealed = 0;
  uint32_t finished = 0;
  uint32_t failed = 0;
  uint32_t waiting_kept = 0;  // tasks held back before `opened`

  // Progress that was not reported.
  std::vector<uint64_t> progress;
  Instant progress_at;
  bool progress_listed = false;

  // Recording.
  std::vector<std::shared_ptr<const GraphChunk>> chunks;  // kept until they are recorded
  uint32_t parts_sent = 0;
  uint32_t parts_durable = 0;
  bool recording = false;
  bool durable = false;

  uint64_t bytes = 0;  // estimate of what it costs here

  Block& block_of(uint32_t task) { return *blocks[task >> Block::kShift]; }
  const Block& block_of(uint32_t task) const { return *blocks[task >> Block::kShift]; }
  bool has_row(uint64_t task) const { return task < arrived && blocks[task >> Block::kShift] != nullptr; }
  TaskRow& row(uint32_t task) { return block_of(task).rows[task & (Block::kTasks - 1)]; }
  const TaskRow& row(uint32_t task) const { return block_of(task).rows[task & (Block::kTasks - 1)]; }
  TaskGroup& group(uint32_t number) { return groups[number - group_base]; }
  const TaskGroup& group(uint32_t number) const { return groups[number - group_base]; }
  const GraphOption& option_of(const TaskRow& row) const { return options[row.option]; }
  bool is_over() const { return last && unfinished == 0; }

  template <typename Visit>
  void each_edge(uint32_t task, Visit visit) {
    Block& block = block_of(task);
    uint32_t at = task & (Block::kTasks - 1);
    for (uint32_t e = block.rows[at].first_edge, end = block.edge_end(at); e < end; ++e) visit(block, e);
  }

  // Readers of any result of `task`, in the order in which they came; a reader with two edges comes twice.
  // `visit` may not add readers; it returns false to stop.
  template <typename Visit>
  void each_reader(uint32_t task, Visit visit) {
    const TaskRow& producer = row(task);
    uint32_t tail_task = producer.last_reader_task;
    uint32_t tail_edge = producer.last_reader_edge;
    if (tail_task == TaskRow::kNoReader) return;
    uint32_t at_task = tail_task;
    uint32_t at_edge = tail_edge;
    do {
      const Edge& edge = block_of(at_task).edges[at_edge];
      at_task = edge.next_task;
      at_edge = edge.next_edge;
      if (!visit(at_task, at_edge)) return;
    } while (at_task != tail_task || at_edge != tail_edge);
  }
};

// One task, wherever it is. `sequence` tells a graph from a later one in the same slot.
struct TaskRef {
  uint32_t slot = 0;
  uint32_t task = 0;
  uint64_t sequence = 0;
};

class GraphTable {
 public:
  Graph& add(const GraphId& id);
  void remove(Graph& graph);
  Graph* find(const GraphId& id);
  const Graph* find(const GraphId& id) const;
  // Null when the graph is gone.
  Graph* find(const TaskRef& ref);
  Graph& at(uint32_t slot) { return *slots_[slot]; }
  const Graph& at(uint32_t slot) const { return *slots_[slot]; }
  size_t size() const { return by_id_.size(); }
  std::vector<Graph*> all();
  std::vector<const Graph*> all() const;

 private:
  std::vector<std::unique_ptr<Graph>> slots_{1};
  std::vector<uint32_t> free_;
  std::unordered_map<GraphId, uint32_t> by_id_;
  uint64_t next_sequence_ = 1;
};

}  // namespace raylet
