// EventQueue: virtual time. What is due first happens first; what is due at one instant happens in the order
// in which it was asked for. Nothing else decides, so a seed decides everything.
#pragma once

#include <cstdint>
#include <functional>
#include <queue>
#include <vector>

#include "protocol/words/time.h"

namespace raylet::sim {

class EventQueue {
 public:
  Instant now() const { return now_; }

  void at(Instant when, std::function<void()> what) {
    queue_.push({std::max(when, now_), next_order_++, std::move(what)});
  }
  void after(Duration wait, std::function<void()> what) { at(now_ + wait, std::move(what)); }

  bool empty() const { return queue_.empty(); }
  Instant next_due() const { return queue_.top().when; }
  // REQUIRES: !empty().
  void run_one() {
    Entry entry = std::move(const_cast<Entry&>(queue_.top()));
    queue_.pop();
    now_ = entry.when;
    ++ran_;
    entry.what();
  }
  uint64_t ran() const { return ran_; }

 private:
  struct Entry {
    Instant when;
    uint64_t order = 0;
    std::function<void()> what;
    bool operator<(const Entry& other) const {
      return other.when < when || (other.when == when && other.order < order);
    }
  };

  Instant now_;
  uint64_t next_order_ = 0;
  uint64_t ran_ = 0;
  std::priority_queue<Entry> queue_;
};

}  // namespace raylet::sim
