// NodeHarness: a Node with everything around it made up, for tests and benchmarks: workers that answer when
// told to (or at once), a store that grants every slab, a head that writes everything down. Deterministic.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "daemons/raylet/core/node.h"
#include "protocol/words/check.h"

namespace raylet {

inline NodeOptions options_with(double cpus) {
  NodeOptions options;
  MUST(options.resources.set("CPU", cpus).ok());
  return options;
}

// Builds a GraphChunk task by task.
class ChunkBuilder {
 public:
  explicit ChunkBuilder(uint64_t graph, bool fail_fast = true) {
    chunk_.graph = GraphId{0, graph};
    chunk_.fail_fast = fail_fast;
    chunk_.last = fail_fast;
    chunk_.wire_bytes = 100;
  }
  ChunkBuilder& function(uint32_t number, std::string name,
                         FunctionDef::Kind kind = FunctionDef::Kind::kFunction) {
    FunctionDef def;
    def.number = number;
    def.name = std::move(name);
    def.pickled = make_bytes("code of " + def.name);
    def.kind = kind;
    chunk_.functions.push_back(std::move(def));
    return *this;
  }
  // Dependencies on tasks of this graph.
  ChunkBuilder& task(std::vector<uint64_t> deps = {}, uint32_t function = 1, uint32_t returns = 1,
                     uint32_t option = 0) {
    ++chunk_.task_count;
    chunk_.function_numbers.push_back(function);
    chunk_.dep_counts.push_back(static_cast<uint32_t>(deps.size()));
    for (uint64_t dep : deps) chunk_.deps.push_back(2 * dep);
    chunk_.return_counts.push_back(returns);
    chunk_.option_numbers.push_back(option);
    return *this;
  }
  // One more dependency of the task added last.
  ChunkBuilder& external(const ObjectId& id) {
    chunk_.externals.push_back(id);
    ++chunk_.dep_counts.back();
    chunk_.deps.push_back(2 * (chunk_.externals.size() - 1) + 1);
    return *this;
  }
  ChunkBuilder& wanted(uint64_t task) {
    chunk_.wanted.push_back(task);
    return *this;
  }
  uint32_t option(TaskOptions options) {
    chunk_.options.push_back(std::move(options));
    return static_cast<uint32_t>(chunk_.options.size());
  }
  GraphChunk& raw() { return chunk_; }
  GraphChunk build() const {
    GraphChunk chunk = chunk_;
    for (uint32_t left = chunk.task_count; left > 0;) {
      uint32_t size = left < 64 ? left : 64;
      chunk.group_sizes.push_back(size);
      chunk.group_blobs.push_back(make_bytes(std::string(8, 'g')));
      left -= size;
    }
    return chunk;
  }

 private:
  GraphChunk chunk_;
};

class NodeHarness {
 public:
  explicit NodeHarness(NodeOptions options) : node(std::move(options)) {}

  Node node;
  Instant now;
  bool validates = true;
  bool answers_persist = true;
  bool answers_leases = true;
  bool answers_starts = true;  // workers that were not answered for never arrive
  std::vector<Effect> seen;  // everything since the last clear

  // ---- driving

  void step(std::vector<Event> events) {
    std::vector<Effect> effects;
    node.step(now, events, effects);
    if (validates) node.validate();
    for (Effect& effect : effects) react(effect);
    for (Effect& effect : effects) seen.push_back(std::move(effect));
    if (!replies.empty()) {
      std::vector<Event> more;
      more.swap(replies);
      step(std::move(more));
    }
  }
  void tell(Event event) {
    std::vector<Event> events;
    events.push_back(std::move(event));
    step(std::move(events));
  }
  void pass(Duration by) {
    now = now + by;
    tell(Tick{});
  }

  SessionId driver(uint64_t job = 1) {
    SessionId session{next_session++};
    tell(DriverArrived{session, JobId{0, job}, {}, 1000 + job, true});
    return session;
  }
  void submit(SessionId session, const ChunkBuilder& chunk) { tell(ChunkArrived{session, chunk.build()}); }
  // Asks for the values; they are in `answers` when they come.
  RequestId get(SessionId session, std::vector<ObjectId> ids) {
    RequestId request{next_request++};
    tell(GetAsked{session, request, std::move(ids), true, 0});
    return request;
  }

  // ---- workers

  struct SentTask {
    WorkerId worker;
    uint64_t batch = 0;
    uint32_t position = 0;
    ObjectId result;
    uint32_t return_count = 1;
    uint32_t attempt = 0;
    std::string function;
  };
  std::deque<SentTask> running;             // in the order in which they were sent
  std::map<uint64_t, SessionId> workers;    // alive, by number
  std::set<uint64_t> blocked;
  std::map<uint32_t, std::string> function_names;

  std::vector<SentTask> running_on(WorkerId worker) const {
    std::vector<SentTask> tasks;
    for (const SentTask& task : running) {
      if (task.worker == worker) tasks.push_back(task);
    }
    return tasks;
  }

  static TaskResult result_of(const SentTask& task, std::string value, uint32_t duration_us) {
    TaskResult result;
    result.position = task.position;
    result.duration_us = duration_us;
    for (uint32_t r = 0; r < task.return_count; ++r) {
      TaskResult::Return one;
      one.payload = make_bytes(value);
      result.returns.push_back(std::move(one));
    }
    return result;
  }
  void report(const SentTask& task, TaskResult result) {
    forget(task);
    ResultsArrived event;
    event.session = workers.at(task.worker.number);
    event.batch = task.batch;
    event.results.push_back(std::move(result));
    tell(std::move(event));
  }
  void finish(SentTask task, std::string value = "v", uint32_t duration_us = 5) {
    report(task, result_of(task, std::move(value), duration_us));
  }
  void fail(SentTask task, std::string message) {
    TaskResult result;
    result.position = task.position;
    result.status = TaskResult::Status::kFailed;
    result.failure.code = FailureCode::kTaskRaised;
    result.failure.message = std::move(message);
    report(task, std::move(result));
  }
  // Finishes whatever is sent until nothing is.
  uint64_t finish_all(uint32_t duration_us = 5) {
    uint64_t count = 0;
    while (!running.empty()) {
      finish(running.front(), "v", duration_us);
      ++count;
    }
    return count;
  }
  void kill(WorkerId worker, int signal = 9) {
    SessionId session = workers.at(worker.number);
    workers.erase(worker.number);
    std::erase_if(running, [&](const SentTask& task) { return task.worker == worker; });
    WorkerExited event;
    event.worker = worker;
    event.signal = signal;
    tell(SessionClosed{session});
    tell(std::move(event));
  }

  // ---- what was said

  std::map<uint64_t, std::vector<ObjectAnswer>> answers;  // by request
  std::map<uint64_t, std::pair<SlabId, StoredAt>> slabs;  // by request
  std::map<GraphId, Failure> ended;
  std::set<ObjectId> stored;
  std::map<ObjectId, int> store_pins;

  NodeReport facts() const { return node.report(now); }
  Explanation explain(const std::string& id) const { return node.explain(now, id); }

  template <typename E>
  std::vector<E> all() const {
    std::vector<E> found;
    for (const Effect& effect : seen) {
      if (const E* one = std::get_if<E>(&effect)) found.push_back(*one);
    }
    return found;
  }

 private:
  void forget(const SentTask& task) {
    std::erase_if(running, [&](const SentTask& other) {
      return other.worker == task.worker && other.batch == task.batch && other.position == task.position;
    });
  }

  void react(const Effect& effect) {
    if (auto* start = std::get_if<StartWorker>(&effect)) {
      SessionId session{next_session++};
      workers[start->worker.number] = session;
      if (answers_starts) replies.push_back(WorkerArrived{session, start->worker, 100 + start->worker.number});
    } else if (auto* send = std::get_if<SendBatch>(&effect)) {
      for (const FunctionDef& def : send->functions) function_names[def.number] = def.name;
      for (uint32_t i = 0; i < send->tasks.size(); ++i) {
        const SendBatch::Task& task = send->tasks[i];
        running.push_back({send->worker, send->batch, i, {send->graphs[task.graph], task.index, 0},
                           task.return_count, task.attempt, function_names[task.function]});
      }
    } else if (auto* retract = std::get_if<RetractBatches>(&effect)) {
      // All but the first batch are unread.
      uint64_t first = UINT64_MAX;
      std::set<uint64_t> unread;
      for (const SentTask& task : running) {
        if (task.worker == retract->worker) first = std::min(first, task.batch);
      }
      for (const SentTask& task : running) {
        if (task.worker == retract->worker && task.batch != first) unread.insert(task.batch);
      }
      std::erase_if(running, [&](const SentTask& task) {
        return task.worker == retract->worker && unread.contains(task.batch);
      });
      replies.push_back(BatchesRetracted{retract->worker, {unread.begin(), unread.end()}});
    } else if (auto* stop = std::get_if<StopWorker>(&effect)) {
      auto found = workers.find(stop->worker.number);
      if (found == workers.end()) return;
      SessionId session = found->second;
      workers.erase(found);
      std::erase_if(running, [&](const SentTask& task) { return task.worker == stop->worker; });
      replies.push_back(SessionClosed{session});
      WorkerExited exited;
      exited.worker = stop->worker;
      exited.signal = stop->gently ? 0 : 9;
      replies.push_back(std::move(exited));
    } else if (auto* close = std::get_if<CloseSession>(&effect)) {
      for (auto& [number, session] : workers) {
        if (session == close->session) replies.push_back(SessionClosed{close->session});
      }
    } else if (auto* lease = std::get_if<StoreLeaseSlab>(&effect)) {
      if (answers_leases) {
        replies.push_back(SlabLeased{lease->ticket, lease->slab, SegmentId{1}, next_offset, lease->size_bytes});
        next_offset += lease->size_bytes;
      }
    } else if (auto* seal = std::get_if<StoreSeal>(&effect)) {
      MUST(stored.insert(seal->id).second, "sealed twice");
    } else if (auto* free = std::get_if<StoreFree>(&effect)) {
      MUST(stored.erase(free->id) == 1, free->id.hex().c_str());
      MUST(store_pins[free->id] == 0, "freed what is pinned");
    } else if (auto* pin = std::get_if<StorePin>(&effect)) {
      MUST(stored.contains(pin->id), "pinned what is not stored");
      MUST(++store_pins[pin->id] == 1, "pinned twice");
    } else if (auto* unpin = std::get_if<StoreUnpin>(&effect)) {
      MUST(--store_pins[unpin->id] == 0, "unpinned without a pin");
    } else if (auto* persist = std::get_if<Persist>(&effect)) {
      if (answers_persist) replies.push_back(Persisted{persist->ticket, {}, {}});
    } else if (auto* find = std::get_if<FindName>(&effect)) {
      replies.push_back(NameFound{find->ticket, false, {}, {}});
    } else if (auto* answer = std::get_if<AnswerGet>(&effect)) {
      auto& list = answers[answer->request.number];
      list.insert(list.end(), answer->answers.begin(), answer->answers.end());
    } else if (auto* grant = std::get_if<GrantSlab>(&effect)) {
      slabs[grant->request.number] = {grant->slab, grant->at};
    } else if (auto* end = std::get_if<ReportGraphEnd>(&effect)) {
      ended[end->graph] = end->failure;
    }
  }

  uint64_t next_session = 1;
  uint64_t next_request = 1;
  uint64_t next_offset = 0;
  std::vector<Event> replies;
};

}  // namespace raylet
