// UnaryCalls: answers a service's plain calls on the loop, and counts them.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstdint>
#include <functional>

#include "daemons/kit/loop.h"

namespace raylet {

class UnaryCalls {
 public:
  explicit UnaryCalls(Loop& loop) : loop_(loop) {}

  // From gRPC's threads: `fill` makes the reply on the loop, which then goes out.
  grpc::ServerUnaryReactor* answer(grpc::CallbackServerContext* context, std::function<void()> fill);
  // From any thread: a call that is answered otherwise.
  void count_one() { ++total_; }
  uint64_t total() const { return total_; }

 private:
  Loop& loop_;
  std::atomic<uint64_t> total_{0};
};

}  // namespace raylet
