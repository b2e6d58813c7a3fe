// Actors: tasks whose worker keeps state, and the calls that wait for them.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>

#include "daemons/raylet/core/graph_table.h"
#include "protocol/words/ids.h"

namespace raylet {

struct Worker;

struct Actor {
  enum class State : uint8_t {
    kNaming,    // its name is being written down
    kWaiting,   // for dependencies and a place
    kStarting,  // its constructor runs
    kAlive,
    kDead,
  };

  ObjectId id;  // the creation's first result
  State state = State::kWaiting;
  Job* job = nullptr;  // null when a detached one outlived it
  TaskRef creation;
  std::string class_name;
  std::string name;
  std::string name_space;
  bool detached = false;
  bool get_if_exists = false;
  Bytes handle;
  Worker* worker = nullptr;
  bool keeps_resources = false;  // asked for explicitly
  bool unheld = false;           // no handle is left: it ends after its calls
  Ticket naming;
  bool named = false;
  ObjectId stands_for;  // get_if_exists: the one that has the name
  FailurePtr death;
  Instant since;

  // Calls in the order of each submitter, those that were not sent; stale ones are skipped.
  std::map<uint64_t, std::deque<TaskRef>> calls;
  uint64_t calls_waiting = 0;
  uint64_t calls_in_flight = 0;
};

using ActorTable = std::unordered_map<ObjectId, std::unique_ptr<Actor>>;

}  // namespace raylet
