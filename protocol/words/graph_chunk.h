// A part of a graph as words: what GraphChunk in protocol/wire/session.proto says, decoded and checked.
//
// What always holds of a chunk that the codec let through: every per-task column is empty or has task_count
// entries; group_sizes add up to task_count and match group_blobs; dep_counts add up to deps; indices into
// externals, options and names are in range; function numbers are checked by whoever keeps the session's
// table. What only the whole graph can show (unknown dependencies, cycles) is the graph table's to check.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocol/words/bytes.h"
#include "protocol/words/ids.h"
#include "protocol/words/resources.h"

namespace raylet {

struct FunctionDef {
  enum class Kind { kFunction, kActorClass, kActorMethod };

  uint32_t number = 0;
  std::string name;
  Bytes pickled;
  Kind kind = Kind::kFunction;
};

struct TaskOptions {
  Resources resources;                 // what the task takes while it runs
  std::optional<int32_t> retries_max;  // after worker deaths; -1: for ever; nothing: the node's default
  bool retry_on_exception = false;
  Bytes retry_exceptions;              // opaque filter for the worker; null: every exception
  ObjectId actor;                      // calls: whose; nil otherwise
  std::string actor_name;
  std::string actor_namespace;
  bool detached = false;
  bool get_if_exists = false;
  int32_t priority = 0;
  bool data_producer = false;
  Bytes actor_handle;                  // creations with a name: what whoever finds the actor is given
};

struct GraphChunk {
  GraphId graph;
  uint64_t first_task = 0;
  uint32_t task_count = 0;
  bool last = false;

  bool fail_fast = false;
  bool report_progress = false;
  bool hold_all = false;
  std::string graph_name;

  std::vector<FunctionDef> functions;
  std::vector<uint32_t> function_numbers;
  std::vector<uint32_t> group_sizes;
  std::vector<Bytes> group_blobs;
  std::vector<uint32_t> dep_counts;
  std::vector<uint64_t> deps;  // 2 * task, or 2 * i + 1 for externals[i]
  std::vector<uint32_t> dep_returns;
  std::vector<ObjectId> externals;
  std::vector<uint32_t> borrow_counts;
  std::vector<uint32_t> borrows;
  std::vector<uint32_t> return_counts;
  std::vector<uint32_t> option_numbers;  // 0: the default options; i: options[i - 1]
  std::vector<TaskOptions> options;
  std::vector<uint64_t> wanted;
  std::vector<std::string> names;
  std::vector<uint32_t> name_numbers;

  uint64_t submitted_by_batch = 0;
  uint32_t submitted_by_position = 0;

  uint64_t wire_bytes = 0;  // what it cost on the wire; the credit that is given back for it
};

}  // namespace raylet
