#include "tests/sim/world.h"

#include "tests/sim/driver.h"
#include "tests/sim/head_host.h"
#include "tests/sim/node_host.h"
#include "tests/sim/store_host.h"
#include "tests/sim/worker.h"

namespace raylet::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kFaultsLast = seconds(12);
// How long everything may take once faults have stopped.
constexpr Duration kProgressWithin = seconds(600);
// Leases of the head run out, workers leave.
constexpr Duration kQuiet = seconds(90);

}  // namespace

Scenario Scenario::of(Rng& rng) {
  Scenario scenario;
  scenario.drivers = static_cast<uint32_t>(1 + rng.below(3));
  scenario.actions_per_driver = static_cast<uint32_t>(10 + rng.below(40));
  scenario.cpus = static_cast<double>(1 + rng.below(4));
  scenario.raises = rng.chance(0.4);
  scenario.poison = rng.chance(0.3);
  scenario.cancels = rng.chance(0.4);
  scenario.actors = rng.chance(0.4);
  scenario.nested = rng.chance(0.4);
  scenario.large_values = rng.chance(0.6);
  scenario.driver_kills = rng.chance(0.3);
  scenario.store_bytes = uint64_t{rng.chance(0.3) ? 48u : 512u} << 20;
  auto every = [&](double chance, int64_t least_ms, uint64_t more_ms) {
    return rng.chance(chance) ? Duration(milliseconds(least_ms + static_cast<int64_t>(rng.below(more_ms))))
                              : Duration{};
  };
  scenario.worker_kill_every = every(0.5, 100, 2'000);
  scenario.store_kill_every = every(0.3, 1'000, 5'000);
  scenario.node_kill_every = every(0.15, 3'000, 6'000);
  scenario.head_kill_every = every(0.3, 500, 4'000);
  scenario.redis_kill_every = every(0.3, 500, 4'000);
  if (rng.chance(0.5)) {
    scenario.rpc_loss = 0.1 * static_cast<double>(rng.below(4));
    scenario.rpc_twice = 0.1 * static_cast<double>(rng.below(4));
    scenario.rpc_delay_max = milliseconds(1 + rng.below(400));
  }
  scenario.borrows = rng.chance(0.3);
  scenario.resumes = rng.chance(0.3);
  scenario.remotes = rng.chance(0.3);
  scenario.crowd = rng.chance(0.15);
  if (scenario.crowd) {
    scenario.drivers = static_cast<uint32_t>(4 + rng.below(3));
    scenario.actions_per_driver = 10;
    scenario.cpus = 1;
    scenario.nested = true;
  }
  return scenario;
}

World::World(uint64_t seed, bool verbose)
    : rng(mix_bits(seed, 0x51u)),
      scenario(Scenario::of(rng)),
      trace(seed, verbose),
      faults_end(Instant{} + kFaultsLast),
      head(std::make_unique<HeadHost>(*this)),
      store(std::make_unique<StoreHost>(*this)),
      node(std::make_unique<NodeHost>(*this)) {}

World::~World() = default;

void World::repeat_fault(Duration every, std::function<void()> fault) {
  if (every == Duration{}) return;
  queue.after(between(every / 4, every * 2), [this, every, fault = std::move(fault)] {
    if (!faults_last()) return;
    fault();
    repeat_fault(every, fault);
  });
}

void World::run() {
  oracle.store_tight = scenario.large_values && scenario.store_bytes < (uint64_t{100} << 20);
  head->start();
  node->start();
  for (uint32_t i = 0; i < scenario.drivers; ++i) {
    drivers.push_back(std::make_unique<Driver>(*this, i + 1, scenario.actions_per_driver));
    queue.after(micros(1'000, 2'000'000), [driver = drivers.back().get()] { driver->begin(); });
  }
  repeat_fault(scenario.worker_kill_every, [this] {
    std::vector<Worker*> candidates;
    for (auto& worker : workers) {
      if (worker->is_alive() && (worker->is_running() || rng.chance(0.2))) candidates.push_back(worker.get());
    }
    if (!candidates.empty()) candidates[rng.below(candidates.size())]->kill(9);
  });
  repeat_fault(scenario.store_kill_every, [this] { store->kill(rng.chance(0.6)); });
  repeat_fault(scenario.node_kill_every, [this] {
    if (!node->is_up()) return;
    node->kill();
    queue.after(micros(100'000, 3'000'000), [this] { node->start(); });
  });
  repeat_fault(scenario.head_kill_every, [this] { head->kill(); });
  repeat_fault(scenario.redis_kill_every, [this] { head->kill_redis(); });
  if (scenario.driver_kills) {
    repeat_fault(seconds(4), [this] { drivers[rng.below(drivers.size())]->kill(); });
  }
  const Instant deadline = faults_end + kProgressWithin;
  while (!queue.empty() && now() < deadline && !(everybody_left() && !faults_last())) {
    queue.run_one();
  }
  if (!everybody_left()) {
    std::string text = "somebody still waits:";
    uint64_t number = 0;
    for (auto& driver : drivers) {
      if (driver->has_left()) continue;
      text += "\n" + driver->waits_for();
      number = static_cast<uint64_t>(&driver - drivers.data()) + 1;
    }
    throw Violation("P1", text, {Who::kDriver, number});
  }
  run_until(now() + kQuiet);
  require_nothing_left();
}

void World::run_until(Instant end) {
  while (!queue.empty() && queue.next_due() <= end) {
    queue.run_one();
  }
}

bool World::everybody_left() const {
  for (const auto& driver : drivers) {
    if (!driver->has_left()) return false;
  }
  return node->is_up();
}

// P2: when all drivers have left, nothing of theirs remains anywhere.
void World::require_nothing_left() {
  auto none = [&](uint64_t count, const std::string& what, Who who) {
    require(count == 0, "P2", std::to_string(count) + " " + what + " remain", {who});
  };
  const NodeReport report = node->node().report(now());
  none(report.graphs.size(), "graphs", Who::kNode);
  none(report.drivers.size(), "jobs", Who::kNode);
  none(report.object_count, "objects", Who::kNode);
  none(report.held_object_count, "held objects", Who::kNode);
  none(report.pending_get_count, "gets", Who::kNode);
  none(report.inline_value_bytes, "bytes of inline values", Who::kNode);
  none(report.graph_bytes, "bytes of graphs", Who::kNode);
  none(report.actors.size(), "actors", Who::kNode);
  require(report.available == report.total, "P2", "resources are still taken: free are " +
          report.available.to_string() + " of " + report.total.to_string(), {Who::kNode});
  require(store->is_up(), "P2", "the store is not running", {Who::kStore});
  none(store->store()->usage().object_count, "objects in the store", Who::kStore);
  none(store->store()->usage().slab_bytes, "leased bytes in the store", Who::kStore);
  require(head->is_idle(), "P2", "the head still owes answers:" + head->owes(), {Who::kHead});
  none(head->records_on_disk(Table::kJobs), "jobs on disk", Who::kRedis);
  none(head->records_on_disk(Table::kGraphs), "parts of graphs on disk", Who::kRedis);
  none(head->records_on_disk(Table::kNames), "names on disk", Who::kRedis);
}

}  // namespace raylet::sim
