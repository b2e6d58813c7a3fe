// Submission: a planned graph as chunks, the way a client sends it.
#pragma once

#include <set>
#include <vector>

#include "protocol/words/graph_chunk.h"
#include "tests/sim/oracle.h"

namespace raylet::sim {

// What a session has told of its functions.
using KnownFunctions = std::set<uint32_t>;

// Tasks first .. first + count - 1 of `plan`. `wanted`: whose results the session holds.
GraphChunk make_chunk(const GraphPlan& plan, uint64_t first, uint32_t count, bool last, bool hold_all,
                      const std::vector<uint64_t>& wanted, KnownFunctions& known);

}  // namespace raylet::sim
