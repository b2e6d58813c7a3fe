// LeaseQueue: leases that wait for room, first come, first served, each until its deadline.
//
// Strictly in order, so that a large one is not overtaken for ever by small ones.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>

#include "protocol/words/ids.h"
#include "protocol/words/time.h"

namespace raylet::plasma {

struct WaitingLease {
  Ticket ticket;
  SlabId slab;
  SessionId session;
  uint64_t asked_bytes = 0;
  uint64_t size_bytes = 0;  // whole granules
  Duration wait_max{};
  Instant deadline;
  uint64_t evict_bytes = 0;  // how much was asked back for it the last time
};

class LeaseQueue {
 public:
  static constexpr size_t kLeasesWaitingMax = 10'000;

  bool full() const { return waiting_.size() >= kLeasesWaitingMax; }
  bool empty() const { return waiting_.empty(); }
  size_t size() const { return waiting_.size(); }
  // REQUIRES: !full().
  void push(WaitingLease lease) { waiting_.push_back(lease); }
  // REQUIRES of both: !empty().
  WaitingLease& front() { return waiting_.front(); }
  void pop() { waiting_.pop_front(); }

  bool contains(SlabId slab) const {
    return std::any_of(waiting_.begin(), waiting_.end(), [&](const auto& lease) { return lease.slab == slab; });
  }
  // The first deadline after `now`.
  std::optional<Instant> next_deadline(Instant now) const {
    std::optional<Instant> first;
    for (const WaitingLease& lease : waiting_) {
      if (lease.deadline <= now) continue;
      if (!first || lease.deadline < *first) first = lease.deadline;
    }
    return first;
  }
  // Takes out those that satisfy `wanted`, in order, and passes each on.
  template <typename Wanted, typename Take>
  void take_if(Wanted wanted, Take take) {
    for (auto lease = waiting_.begin(); lease != waiting_.end();) {
      if (!wanted(*lease)) {
        ++lease;
        continue;
      }
      take(*lease);
      lease = waiting_.erase(lease);
    }
  }

 private:
  std::deque<WaitingLease> waiting_;
};

}  // namespace raylet::plasma
