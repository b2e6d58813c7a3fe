// A graph becomes whole: its order, its first ready tasks, and what was kept until then.
#include <algorithm>

#include "daemons/raylet/core/node_state.h"
#include "daemons/raylet/core/order.h"
#include "protocol/words/check.h"

namespace raylet {

namespace {

// Some task on a cycle. REQUIRES: there is one, and `unmet` counts for each task its dependencies that are not
// met by tasks outside of all cycles and of what depends on them.
uint32_t task_on_cycle(const GraphShape& shape, const std::vector<uint32_t>& unmet) {
  uint32_t at = 0;
  while (unmet[at] == 0) ++at;
  std::vector<bool> seen(shape.task_count, false);
  while (!seen[at]) {
    seen[at] = true;
    for (uint32_t d = shape.dep_offsets[at]; d < shape.dep_offsets[at + 1]; ++d) {
      if (unmet[shape.deps[d]] == 0) continue;
      at = shape.deps[d];
      break;
    }
  }
  return at;
}

}  // namespace

bool Node::State::order_whole_graph(Graph& graph) {
  auto invalid_graph = [&](std::string message, uint32_t task) {
    auto failure = std::make_shared<Failure>(bad_graph(std::move(message)));
    failure->task_name = name_of(graph, graph.row(task));
    emit(Refuse{graph.session, "graph_chunk", graph.id, {}, *failure});
    fail_graph(graph, failure);
    return false;
  };
  if (!graph.forward.empty()) {
    auto [missing, readers] = *graph.forward.begin();
    return invalid_graph("task " + std::to_string(readers.front().first) + " depends on task " +
                             std::to_string(missing) + ", but the graph has only " +
                             std::to_string(graph.arrived) + " tasks",
                         readers.front().first);
  }
  if (graph.arrived <= 1 && !graph.had_forward) return true;
  GraphShape shape;
  shape.task_count = graph.arrived;
  shape.dep_offsets.reserve(graph.arrived + 1);
  shape.dep_offsets.push_back(0);
  bool sizes = false;
  for (uint32_t task = 0; task < graph.arrived; ++task) {
    graph.each_edge(task, [&](Block& block, uint32_t e) {
      if (!block.edges[e].is_external()) shape.deps.push_back(block.edges[e].dep);
    });
    shape.dep_offsets.push_back(static_cast<uint32_t>(shape.deps.size()));
    sizes = sizes || functions_[graph.row(task).function].output_bytes > 0;
  }
  if (shape.deps.empty()) return true;
  if (sizes) {
    shape.output_sizes.reserve(graph.arrived);
    for (uint32_t task = 0; task < graph.arrived; ++task) {
      double bytes = functions_[graph.row(task).function].output_bytes;
      shape.output_sizes.push_back(static_cast<uint32_t>(std::clamp(bytes / 256, 1.0, 1e6)));
    }
  }
  std::vector<uint32_t> ranks = order_tasks(shape);
  if (ranks.empty()) {
    // Peel off what has no unmet dependency; a walk along the rest's dependencies ends on the cycle.
    std::vector<uint32_t> unmet(graph.arrived, 0), ready;
    for (uint32_t task = 0; task < graph.arrived; ++task) {
      unmet[task] = shape.dep_offsets[task + 1] - shape.dep_offsets[task];
      if (unmet[task] == 0) ready.push_back(task);
    }
    while (!ready.empty()) {
      uint32_t task = ready.back();
      ready.pop_back();
      graph.each_reader(task, [&](uint32_t reader, uint32_t) {
        if (--unmet[reader] == 0) ready.push_back(reader);
        return true;
      });
    }
    uint32_t at = task_on_cycle(shape, unmet);
    return invalid_graph("task " + std::to_string(at) + " depends on itself, through others or directly", at);
  }
  for (uint32_t task = 0; task < graph.arrived; ++task) graph.row(task).rank = ranks[task];
  return true;
}

void Node::State::open_graph(Graph& graph) {
  graph.opened = true;
  if (graph.failure) return;
  // Ready ones in the order of their ranks, so that the queue stays a sorted run.
  std::vector<std::pair<uint32_t, uint32_t>> roots;
  for (uint32_t task = 0; task < graph.arrived; ++task) {
    const TaskRow& row = graph.row(task);
    if (row.state == TaskState::kWaiting && row.pending == 0) roots.push_back({row.rank, task});
  }
  std::sort(roots.begin(), roots.end());
  for (auto [rank, task] : roots) make_ready(graph, task);
}

// A fail_fast graph that is not whole yet: its results may have readers among the tasks still to arrive.
// (In other graphs the session holds what it may name again.)
void Node::State::keep_results(Graph& graph) {
  for (; graph.kept_tasks < graph.arrived; ++graph.kept_tasks) {
    TaskRow& row = graph.row(graph.kept_tasks);
    if (row.return_count != 1) {
      for (uint32_t r = 0; r < row.return_count; ++r) ++objects_[need_object(graph, graph.kept_tasks, r)].uses;
    } else if (row.object != 0) {
      ++objects_[row.object].uses;
    } else {
      ++row.uses;
    }
  }
}

// No more tasks will arrive.
void Node::State::close_graph(Graph& graph) {
  graph.last = true;
  for (uint32_t task = 0; task < graph.kept_tasks; ++task) {
    for (uint32_t r = 0; r < graph.row(task).return_count; ++r) unuse_result(graph, task, r);
  }
  graph.kept_tasks = 0;
}

}  // namespace raylet
