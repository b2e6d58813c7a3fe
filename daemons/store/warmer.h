// Warmer: one thread of low priority that touches pages ahead of use, one request at a time.
//
// A first touch costs ten times a warm write, and whoever needs the memory should not pay it.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace raylet {

class Warmer {
 public:
  Warmer();
  // Waits for the job under way; what was not begun is dropped.
  ~Warmer();

  // From any thread; `job` runs on the warmer's.
  void submit(std::function<void()> job);

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;  // the core asks for one at a time, so this stays short
  bool stopping_ = false;
  std::thread thread_;
};

// How much may be kept touched ahead: `wish_bytes`, at most a quarter of what the machine has available.
uint64_t warm_ahead_bytes(uint64_t wish_bytes);

}  // namespace raylet
