// World: one simulated node with its head, Redis, store, workers and drivers, and the faults that befall them.
//
// The cores are the real ones (Node, plasma::Store, Cluster); shells, processes, links and the disk are played
// by the classes of this folder, as the shells in daemons/ promise to behave.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "protocol/words/rng.h"
#include "tests/sim/event_queue.h"
#include "tests/sim/memory.h"
#include "tests/sim/oracle.h"
#include "tests/sim/trace.h"

namespace raylet::sim {

class NodeHost;
class StoreHost;
class HeadHost;
class Worker;
class Driver;

// What a seed has decided for its run.
struct Scenario {
  uint32_t drivers = 2;
  uint32_t actions_per_driver = 20;
  double cpus = 2;
  uint64_t store_bytes = uint64_t{256} << 20;
  bool raises = false;        // some tasks raise
  bool poison = false;        // some tasks kill their workers
  bool cancels = false;
  bool actors = false;
  bool nested = false;
  bool large_values = false;  // some go through the store
  bool driver_kills = false;
  bool crowd = false;         // many jobs on one CPU, most of whose tasks wait for others
  bool borrows = false;       // some tasks name objects that they only may ask for
  bool resumes = false;       // drivers lose their connection and come back
  bool remotes = false;       // some drivers map no store memory
  // How often each dies while faults last; zero: never.
  Duration worker_kill_every{};
  Duration store_kill_every{};
  Duration node_kill_every{};
  Duration head_kill_every{};
  Duration redis_kill_every{};
  double rpc_loss = 0;        // share of messages between raylet and head
  double rpc_twice = 0;
  Duration rpc_delay_max = std::chrono::milliseconds(2);

  static Scenario of(Rng& rng);
};

class World {
 public:
  World(uint64_t seed, bool verbose);
  ~World();

  // Runs to the end. Throws Violation.
  void run();

  Instant now() const { return queue.now(); }
  Duration between(Duration least, Duration most) {
    return least + Duration(static_cast<int64_t>(rng.below(static_cast<uint64_t>((most - least).count()) + 1)));
  }
  Duration micros(uint64_t least, uint64_t most) {
    return between(std::chrono::microseconds(least), std::chrono::microseconds(most));
  }
  void note(Actor actor, const char* what, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0) {
    trace.note(now(), actor, what, a, b, c);
  }
  void require(bool holds, const char* number, const std::string& message, Actor about) {
    if (!holds) throw Violation(number, message, about);
  }
  GraphId next_graph_id() { return {rng.next() | 1, rng.next()}; }
  bool faults_last() const { return now() < faults_end; }

  Rng rng;
  Scenario scenario;
  EventQueue queue;
  Trace trace;
  Oracle oracle;
  Memory memory;
  Instant faults_end;
  std::unique_ptr<HeadHost> head;
  std::unique_ptr<StoreHost> store;
  std::unique_ptr<NodeHost> node;
  std::vector<std::unique_ptr<Worker>> workers;  // dead ones too
  std::vector<std::unique_ptr<Driver>> drivers;  // those that left too

 private:
  void repeat_fault(Duration every, std::function<void()> fault);
  void run_until(Instant end);
  bool everybody_left() const;
  void require_nothing_left();
};

}  // namespace raylet::sim
