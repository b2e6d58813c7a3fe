// Everything that can happen to a node. The shell (daemons/raylet) and the simulator (tests/sim) make these;
// Node::step (node.h) is told them in batches, in the order in which they happened.
//
// Everything that a peer chose (ids, numbers, counts) may be wrong and is answered with a refusal, never a
// MUST. What the shell promises: a SessionOpened comes before and a SessionClosed after everything else of a
// session, worker numbers are those of StartWorker effects, store and head answers carry tickets that were
// given out and come at most once for each.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "protocol/words/bytes.h"
#include "protocol/words/failure.h"
#include "protocol/words/graph_chunk.h"
#include "protocol/words/ids.h"

namespace raylet {

// ---------------------------------------------------------------- sessions: drivers and workers

// What a worker needs to know before a job's first task (JobSetup in session.proto); opaque to the core.
struct JobSetup {
  Bytes encoded;
  std::string script;
};

struct DriverArrived {
  SessionId session;
  JobId job;  // a known job: the driver came back
  JobSetup setup;
  uint64_t pid = 0;
  bool local = true;  // false: over gRPC, no shared memory, values travel as bytes
};

// The worker asked for by StartWorker said hello on its socket.
struct WorkerArrived {
  SessionId session;
  WorkerId worker;
  uint64_t pid = 0;
};

// The connection is gone. A worker's death is WorkerExited; its SessionClosed may come before or after.
struct SessionClosed {
  SessionId session;
  bool goodbye = false;  // the driver left on purpose
};

struct ChunkArrived {
  SessionId session;
  GraphChunk chunk;
};

struct GetAsked {
  SessionId session;
  RequestId request;
  std::vector<ObjectId> ids;
  bool values = true;         // false: readiness only
  uint64_t wanted_count = 0;  // readiness: stop after this many; 0: all
};

struct GetCancelled {
  SessionId session;
  RequestId request;
};

struct ReferencesChanged {
  SessionId session;
  std::vector<ObjectId> held;
  std::vector<ObjectId> released;
  struct Unpin {
    ObjectId id;
    uint32_t count = 1;
  };
  std::vector<Unpin> unpinned;
};

// Where a process put bytes: in a slab it leases.
struct SealedBytes {
  SlabId slab;
  uint64_t offset = 0;  // within the slab
  uint64_t size_bytes = 0;
};

// A value on its way in: in the message (inlined) or already in the store (sealed).
using Payload = std::variant<Bytes, SealedBytes>;

struct PutArrived {
  SessionId session;
  ObjectId id;
  Payload payload;
  std::vector<ObjectId> contained;
};

struct SlabAsked {
  SessionId session;
  RequestId request;
  uint64_t size_bytes = 0;
};

struct SlabReturned {
  SessionId session;
  SlabId slab;
};

struct CancelAsked {
  SessionId session;
  GraphId graph;    // the whole graph, unless nil
  ObjectId object;  // the task that makes it, unless nil
  bool force = false;
  bool recursive = true;
  RequestId request;  // nil: no answer wanted
};

struct KillActorAsked {
  SessionId session;
  ObjectId actor;
  bool no_restart = true;
};

struct FindActorAsked {
  SessionId session;
  RequestId request;
  std::string name;
  std::string name_space;
};

// ---------------------------------------------------------------- workers

struct TaskResult {
  enum class Status { kOk, kFailed, kHandedBack, kRetry };
  struct Return {
    Payload payload;
    std::vector<ObjectId> contained;
  };

  uint32_t position = 0;  // within the batch
  Status status = Status::kOk;
  std::vector<Return> returns;
  Failure failure;
  uint32_t duration_us = 0;
};

struct ResultsArrived {
  SessionId session;
  uint64_t batch = 0;
  std::vector<TaskResult> results;
};

struct WorkerBlocked {
  SessionId session;
  bool blocked = true;
};

// What Retract got back: whole batches that the worker had not read. Comes once for each Retract, maybe empty.
struct BatchesRetracted {
  WorkerId worker;
  std::vector<uint64_t> batches;
};

struct WorkerExited {
  WorkerId worker;
  int signal = 0;       // 0: it exited by itself
  int exit_status = 0;
  bool out_of_memory = false;
  std::string last_words;  // the end of its stderr, for the error message
};

struct WorkerStartFailed {
  WorkerId worker;
  std::string reason;
};

// ---------------------------------------------------------------- store

struct SlabLeased {
  Ticket ticket;
  SlabId slab;
  SegmentId segment;
  uint64_t offset = 0;
  uint64_t size_bytes = 0;
};

struct SlabRefused {
  Ticket ticket;
  Failure failure;
};

// The store would like these bytes back. The node agrees with a StoreFree of each that is not pinned; a pin
// that is on its way keeps the object.
struct ObjectsEvicted {
  std::vector<ObjectId> ids;
};

struct StoreUsageChanged {
  uint64_t capacity_bytes = 0;
  uint64_t used_bytes = 0;  // sealed and leased
};

// The store's process died. Leases that were waiting for an answer are the core's to ask for again.
struct StoreDied {};

// A new store runs. `kept`: it was handed the old segments, and everything sealed or leased is as before;
// otherwise everything that was in the store is lost.
struct StoreReturned {
  bool kept = true;
};

// ---------------------------------------------------------------- head

// Everything that a Persist effect asked for is on disk (or was refused for a reason that lasts).
struct Persisted {
  Ticket ticket;
  Failure failure;        // code kNone: done
  ObjectId name_holder;   // a name that is taken: by whom
};

struct NameFound {
  Ticket ticket;
  bool found = false;
  ObjectId actor;
  Bytes handle;
};

// ---------------------------------------------------------------- time

// Nothing but the passing of time; WakeAt asked for it.
struct Tick {};

using Event = std::variant<DriverArrived, WorkerArrived, SessionClosed, ChunkArrived, GetAsked, GetCancelled,
                           ReferencesChanged, PutArrived, SlabAsked, SlabReturned, CancelAsked, KillActorAsked,
                           FindActorAsked, ResultsArrived, WorkerBlocked, BatchesRetracted, WorkerExited,
                           WorkerStartFailed, SlabLeased, SlabRefused, ObjectsEvicted, StoreUsageChanged,
                           StoreDied, StoreReturned, Persisted, NameFound, Tick>;

}  // namespace raylet
