// StoreHost: the plasma-store's process and channel, and what the raylet keeps to start it again: commands go
// in order with a delay, what is on its way when the store dies is lost, and the next store is handed the
// raylet's table of what lies where, unless its descriptors could not be kept.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "daemons/raylet/stored_table.h"
#include "plasma/core/store.h"
#include "tests/sim/node_host.h"

namespace raylet::sim {

class StoreHost {
 public:
  explicit StoreHost(World& world) : world_(world) {}

  void start_fresh();  // with a raylet that begins
  void end();          // with the raylet
  void kill(bool keep_segments);
  bool is_up() const { return store_ != nullptr; }
  const plasma::Store* store() const { return store_.get(); }

  void command(const StoreLeaseSlab& effect);
  void command(const StoreSeal& effect);
  void command(const StorePin& effect);
  void command(const StoreUnpin& effect);
  void command(const StoreFree& effect);
  void command(const StoreReturnSlab& effect);
  void command(const StoreEndSession& effect);

 private:
  // Fresh memory has other segments, whatever numbers the store gives them.
  static constexpr uint64_t kSegmentsPerMemory = 100'000;

  void start(bool adopt);
  void send(plasma::Event event);
  void step();
  void perform(const plasma::Effect& effect);
  void tell(Event event);
  SegmentId outside(SegmentId segment) const { return {segment.number + memory_ * kSegmentsPerMemory}; }
  plasma::Extent inside(const StoredAt& at) const;

  World& world_;
  std::unique_ptr<plasma::Store> store_;
  uint64_t life_ = 0;
  uint64_t memory_ = 0;
  uint64_t wake_ = 0;
  bool told_ready_ = false;
  bool kept_ = true;
  Instant heard_at_;
  Instant told_at_;
  bool step_due_ = false;
  std::vector<plasma::Event> inbox_;
  StoredTable stored_;
  std::map<uint64_t, uint64_t> segment_sizes_;
  std::map<Ticket, SessionId> leases_;
  uint64_t complaints_ = 0;
};

}  // namespace raylet::sim
