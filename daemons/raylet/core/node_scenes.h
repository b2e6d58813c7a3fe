// What scenarios of a node begin with: a node with a driver, and the graphs that it submits.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "daemons/raylet/core/node_harness.h"

namespace raylet {

inline ObjectId object(uint64_t graph, uint64_t task, uint32_t index = 0) {
  return {GraphId{0, graph}, task, index};
}

inline TaskOptions wishing(double cpus) {
  TaskOptions options;
  MUST(options.resources.set("CPU", cpus).ok());
  return options;
}

// A node of two CPUs that runs graphs before they are whole.
inline NodeOptions opening_early() {
  NodeOptions options = options_with(2);
  options.open_early_tasks = 1;
  return options;
}

// A Dask graph whose function number 1 is `function`.
inline ChunkBuilder graph_of(uint64_t graph, std::string function) {
  ChunkBuilder chunk(graph);
  chunk.function(1, std::move(function));
  return chunk;
}

// Its first chunk; more are to come.
inline ChunkBuilder first_part_of(uint64_t graph) {
  ChunkBuilder chunk = graph_of(graph, "f");
  chunk.raw().last = false;
  return chunk;
}

// A graph that grows call by call, all of whose results are held.
inline ChunkBuilder growing_graph_of(uint64_t graph, std::string function,
                                     FunctionDef::Kind kind = FunctionDef::Kind::kFunction) {
  ChunkBuilder chunk(graph, false);
  chunk.function(1, std::move(function), kind);
  chunk.raw().hold_all = true;
  return chunk;
}

// The creation of an actor, object(graph, 0).
inline ChunkBuilder counter_of(uint64_t graph) {
  return growing_graph_of(graph, "Counter", FunctionDef::Kind::kActorClass).task();
}

inline ChunkBuilder calls_of(const ObjectId& actor, uint64_t graph, int count) {
  ChunkBuilder chunk = growing_graph_of(graph, "add", FunctionDef::Kind::kActorMethod);
  TaskOptions of_actor;
  of_actor.actor = actor;
  uint32_t option = chunk.option(of_actor);
  for (int i = 0; i < count; ++i) chunk.task({}, 1, 1, option);
  return chunk;
}

// A node with one driver, which does what is not said to be another's.
class DrivenNode : public NodeHarness {
 public:
  explicit DrivenNode(double cpus) : DrivenNode(options_with(cpus)) {}
  explicit DrivenNode(NodeOptions options) : NodeHarness(std::move(options)), session(driver()) {}

  const SessionId session;

  using NodeHarness::get;
  using NodeHarness::submit;
  void submit(const ChunkBuilder& chunk) { submit(session, chunk); }
  RequestId get(std::vector<ObjectId> ids) { return get(session, std::move(ids)); }
  void release(std::vector<ObjectId> ids) { tell(ReferencesChanged{session, {}, std::move(ids), {}}); }

  // The task that runs first makes a result of 1,000 bytes in the store. Returns its worker's session.
  SessionId seal_front() {
    SentTask task = running.front();
    SessionId worker = workers.at(task.worker.number);
    tell(SlabAsked{worker, RequestId{5}, 1 << 20});
    TaskResult result = result_of(task, "", 5);
    result.returns[0].payload = SealedBytes{slabs.at(5).first, 0, 1000};
    report(task, std::move(result));
    return worker;
  }
};

}  // namespace raylet
