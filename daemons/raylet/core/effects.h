// Everything that a node can ask of the world. Node::step appends these; the shell performs them in order.
//
// Order rule: effects to one peer reach it in the order of this list, and a StoreSeal, StorePin or StoreFree
// of an object never overtakes one before it. What must not be said before a record is durable is said by a
// later step: the core appends it when that ticket's Persisted came, so no effect here waits for another.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "daemons/raylet/core/events.h"
#include "protocol/words/bytes.h"
#include "protocol/words/failure.h"
#include "protocol/words/graph_chunk.h"
#include "protocol/words/ids.h"
#include "protocol/words/time.h"

namespace raylet {

struct StoredAt {
  SegmentId segment;
  uint64_t offset = 0;
  uint64_t size_bytes = 0;
  bool operator==(const StoredAt&) const = default;
};

// ---------------------------------------------------------------- to workers

// One dependency of a task in a batch, by its kind and its place in the batch's tables.
struct BatchInput {
  enum class Kind : uint8_t { kInline = 0, kLocated = 1, kEarlier = 2 };
  Kind kind = Kind::kInline;
  uint64_t index = 0;  // kEarlier: position << 8 | return
};

struct SendBatch {
  WorkerId worker;
  uint64_t batch = 0;
  bool first_of_job = false;  // the worker is bound to `job` from now on; send its setup along
  JobId job;
  std::vector<FunctionDef> functions;  // this worker's first use; numbers are the node's own
  struct Group {
    uint64_t number = 0;
    Bytes blob;
  };
  std::vector<Group> groups;  // this worker's first use
  std::vector<uint64_t> dropped_groups;
  std::vector<GraphId> graphs;
  struct Task {
    uint32_t graph = 0;  // index into graphs
    uint64_t index = 0;
    uint32_t attempt = 0;
    uint32_t function = 0;
    uint64_t group = 0;
    uint32_t group_position = 0;
    uint32_t return_count = 1;
    uint32_t input_count = 0;
    uint32_t name = 0;   // 0: the function's; i: names[i - 1]
    uint32_t retry = 0;  // 0: exceptions end it; 1: any exception is worth a retry; i + 2: retry_exceptions[i]
  };
  std::vector<Task> tasks;
  std::vector<BatchInput> inputs;  // those of tasks[0], then those of tasks[1] ...
  std::vector<Bytes> inline_inputs;
  struct Located {
    ObjectId id;
    StoredAt at;
  };
  std::vector<Located> located_inputs;
  std::vector<std::string> names;
  std::vector<Bytes> retry_exceptions;
};

// Take back what the worker has not read; answered by BatchesRetracted.
struct RetractBatches {
  WorkerId worker;
};

struct InterruptTask {
  WorkerId worker;
  uint64_t batch = 0;
  uint32_t position = 0;
};

// Fork a worker from the zygote; answered by WorkerArrived or WorkerStartFailed.
struct StartWorker {
  WorkerId worker;
  JobId job;  // whose interpreter and environment it will need; nil: any
};

// SIGKILL, or `gently`: tell it to leave and kill it if it has not within a second.
struct StopWorker {
  WorkerId worker;
  bool gently = true;
};

// ---------------------------------------------------------------- to sessions

struct ObjectAnswer {
  enum class Kind : uint8_t { kInline, kLocated, kFailed, kReady };
  ObjectId id;
  Kind kind = Kind::kInline;
  Bytes value;
  StoredAt at;  // pins the object once for this session. A session over gRPC is sent the bytes, then unpinned
                // by the shell through ReferencesChanged.
  Failure failure;
};

struct AnswerGet {
  SessionId session;
  RequestId request;
  std::vector<ObjectAnswer> answers;
};

struct GrantSlab {
  SessionId session;
  RequestId request;
  SlabId slab;
  StoredAt at;
  Failure failure;  // code not kNone: no slab, and why
};

struct Refuse {
  SessionId session;
  std::string about;
  GraphId graph;
  RequestId request;
  Failure failure;
};

struct GiveCredit {
  SessionId session;
  uint64_t bytes = 0;
};

struct ReportProgress {
  SessionId session;
  GraphId graph;
  std::vector<uint64_t> finished;
  uint64_t finished_total = 0;
  uint64_t task_total = 0;
  bool durable = false;
};

struct ReportGraphEnd {
  SessionId session;
  GraphId graph;
  Failure failure;
};

struct TellDriver {
  enum class Severity { kInfo, kWarning, kError };
  SessionId session;
  Severity severity = Severity::kInfo;
  std::string text;
};

struct AnswerFindActor {
  SessionId session;
  RequestId request;
  ObjectId actor;
  Bytes handle;
  Failure failure;
};

struct Acknowledge {
  SessionId session;
  RequestId request;
};

// The session said something that no correct client says, or it must leave.
struct CloseSession {
  SessionId session;
  std::string reason;
};

// ---------------------------------------------------------------- to the store

struct StoreLeaseSlab {
  Ticket ticket;
  SlabId slab;
  SessionId session;
  uint64_t size_bytes = 0;
  Duration wait_max{};
};

struct StoreSeal {
  ObjectId id;
  SlabId slab;
  uint64_t offset = 0;  // within the slab
  uint64_t size_bytes = 0;
  bool remakable = false;
};

struct StorePin {
  ObjectId id;
};

struct StoreUnpin {
  ObjectId id;
};

struct StoreFree {
  ObjectId id;
};

struct StoreReturnSlab {
  SlabId slab;
};

// The process is dead or gone: what it leased and did not seal is free again.
struct StoreEndSession {
  SessionId session;
};

// ---------------------------------------------------------------- to the head

// Write this down for good; answered by Persisted with the same ticket. The shell tries again for as long as
// the head or Redis is away.
struct RecordGraph {
  GraphId graph;
  JobId job;
  uint32_t part = 0;
  bool last = false;
  std::shared_ptr<const GraphChunk> chunk;
};
struct ForgetGraph {
  GraphId graph;
};
struct RecordJob {
  JobId job;
  std::string script;
  uint64_t pid = 0;
};
struct ForgetJob {
  JobId job;
};
struct RecordName {
  std::string name;
  std::string name_space;
  ObjectId actor;
  JobId job;
  bool detached = false;
  Bytes handle;
};
struct ForgetName {
  std::string name;
  std::string name_space;
  ObjectId actor;
};
using Record = std::variant<RecordGraph, ForgetGraph, RecordJob, ForgetJob, RecordName, ForgetName>;

struct Persist {
  Ticket ticket;
  Record record;
};

// Answered by NameFound.
struct FindName {
  Ticket ticket;
  std::string name;
  std::string name_space;
};

// ---------------------------------------------------------------- time

// Step again at this instant at the latest; replaces the one before.
struct WakeAt {
  Instant at;
};

using Effect = std::variant<SendBatch, RetractBatches, InterruptTask, StartWorker, StopWorker, AnswerGet,
                            GrantSlab, Refuse, GiveCredit, ReportProgress, ReportGraphEnd, TellDriver,
                            AnswerFindActor, Acknowledge, CloseSession, StoreLeaseSlab, StoreSeal, StorePin,
                            StoreUnpin, StoreFree, StoreReturnSlab, StoreEndSession, Persist, FindName, WakeAt>;

}  // namespace raylet
