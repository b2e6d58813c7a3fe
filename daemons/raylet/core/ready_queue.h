// ReadyQueue: the tasks of one graph and one shape that could run at once, lowest rank first.
//
// Most tasks become ready in the order of their ranks; those are appended to a sorted run for the price of a
// push_back. The others go through a heap. An entry may be stale (its task was cancelled or went elsewhere):
// whoever pops looks at the task's state.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "protocol/words/check.h"

namespace raylet {

class ReadyQueue {
 public:
  struct Entry {
    uint32_t rank = 0;
    uint32_t task = 0;
  };

  bool empty() const { return run_at_ == run_.size() && heap_.empty(); }
  size_t size() const { return run_.size() - run_at_ + heap_.size(); }

  void push(Entry entry) {
    uint64_t key = key_of(entry);
    if (run_at_ == run_.size()) {
      run_.clear();
      run_at_ = 0;
      run_.push_back(key);
    } else if (key >= run_.back()) {
      run_.push_back(key);
    } else {
      heap_.push_back(key);
      std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    }
  }

  // REQUIRES: !empty().
  Entry top() const {
    MUST(!empty());
    uint64_t key = from_heap() ? heap_.front() : run_[run_at_];
    return {static_cast<uint32_t>(key >> 32), static_cast<uint32_t>(key)};
  }

  // REQUIRES: !empty().
  Entry pop() {
    Entry entry = top();
    if (from_heap()) {
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      heap_.pop_back();
    } else if (++run_at_ == run_.size()) {
      run_.clear();
      run_at_ = 0;
    } else if (run_at_ >= kTrim && run_at_ * 2 >= run_.size()) {
      run_.erase(run_.begin(), run_.begin() + static_cast<ptrdiff_t>(run_at_));
      run_at_ = 0;
    }
    return entry;
  }

 private:
  static constexpr size_t kTrim = 4096;

  static uint64_t key_of(Entry entry) { return uint64_t{entry.rank} << 32 | entry.task; }
  bool from_heap() const { return run_at_ == run_.size() || (!heap_.empty() && heap_.front() < run_[run_at_]); }

  std::vector<uint64_t> run_;  // ascending from run_at_ on
  size_t run_at_ = 0;
  std::vector<uint64_t> heap_;  // min-heap
};

}  // namespace raylet
