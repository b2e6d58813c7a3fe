// Random words that satisfy what protocol/words promises of them, for property tests.
#pragma once

#include <string>

#include "protocol/words/failure.h"
#include "protocol/words/graph_chunk.h"
#include "protocol/words/rng.h"

namespace raylet {

std::string random_string(Rng& rng, size_t size_bytes_max);
ObjectId random_object_id(Rng& rng);
GraphId random_graph_id(Rng& rng);
TaskOptions random_task_options(Rng& rng);
GraphChunk random_graph_chunk(Rng& rng);
Failure random_failure(Rng& rng);

}  // namespace raylet
