// Trace: what happened, as a hash (the same seed gives the same hash) and as a log of the last events, which is
// printed when an invariant breaks.
#pragma once

#include <cstdint>
#include <deque>
#include <stdexcept>
#include <string>

#include "protocol/words/time.h"

namespace raylet::sim {

enum class Who : uint8_t { kWorld, kNode, kStore, kHead, kRedis, kDriver, kWorker };

struct Actor {
  Who who = Who::kWorld;
  uint64_t number = 0;
  bool operator==(const Actor&) const = default;
};

// An invariant of docs/invariants.md is broken. `number` is the invariant's, as in "W3".
struct Violation : std::runtime_error {
  Violation(const std::string& number, const std::string& message, Actor about)
      : std::runtime_error(number + ": " + message), about(about) {}
  Actor about;
};

class Trace {
 public:
  static constexpr size_t kKeptMax = 20'000;
  static constexpr size_t kPrintedMax = 60;

  explicit Trace(uint64_t seed, bool verbose) : seed_(seed), verbose_(verbose) {}

  // `what` must be a literal. Numbers are whatever helps: a batch, a count, a task.
  void note(Instant at, Actor actor, const char* what, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0);

  uint64_t hash() const { return hash_; }
  uint64_t seed() const { return seed_; }
  // The seed, the last events of `about` and the last of all.
  void print(const Actor& about) const;

 private:
  struct Line {
    Instant at;
    Actor actor;
    const char* what;
    uint64_t a, b, c;
  };
  static void print(const Line& line);

  uint64_t seed_;
  bool verbose_;
  uint64_t hash_ = 0x9e3779b97f4a7c15u;
  std::deque<Line> lines_;
};

}  // namespace raylet::sim
