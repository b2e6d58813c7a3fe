// order_tasks: in which order a node should run the tasks of a graph, so that few bytes are alive at a time.
//
// A graph is walked depth first from its results. The first rule that applies wins:
//   1. a task that is ready and frees at least as many bytes as it makes runs at once;
//   2. what was begun is finished: the task that is being worked towards gets its missing inputs, the input
//      whose own making needs the most room first (Sethi and Ullman's rule for registers);
//   3. but before a source runs (a task that makes something from nothing), whatever can be finished without
//      one, and whose share of the outputs that it reads is worth its own, is finished first: the last
//      pieces of a split, the second reader of an input;
//   4. then the nearest reader of the youngest live output, and if nothing is alive, the next result.
// tests/bench/order_shapes.py records what dask.order reaches on real graphs; order_test.cc compares.
//
// Time and memory are linear in tasks and dependencies, but for sorting the inputs of one task. Nothing
// recurses, so a chain of a million tasks is as good as any other graph.
#pragma once

#include <cstdint>
#include <vector>

namespace raylet {

// The dependencies of task t are deps[dep_offsets[t]] .. deps[dep_offsets[t + 1] - 1]; a task may be named
// twice. REQUIRES: dep_offsets has task_count + 1 entries, starting at 0 and never falling, or is empty if
// there are no tasks; every entry of deps is below task_count.
struct GraphShape {
  uint32_t task_count = 0;
  std::vector<uint32_t> dep_offsets;
  std::vector<uint32_t> deps;
  std::vector<uint32_t> output_sizes;  // a guess in any one unit, at least 1 each; empty: all alike
};

// The rank of each task, 0 first: a task's dependencies have lower ranks. Empty if there is a cycle.
// Depends on the shape alone: the same shape gives the same order.
std::vector<uint32_t> order_tasks(const GraphShape& shape);

// The most that is alive at a time when the tasks run one by one in the order of their ranks: an output is
// alive from its making until its last reader has run, a result without readers to the end.
// REQUIRES: ranks come from order_tasks of a shape with the same dependencies.
uint64_t peak_alive(const GraphShape& shape, const std::vector<uint32_t>& ranks);

}  // namespace raylet
