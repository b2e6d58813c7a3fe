// A seeded generator with the few draws that cores and the simulator need; the only randomness they have.
// Algorithm: SplitMix64 (Steele, Lea, Flood 2014), chosen because its state is one number.
#pragma once

#include <cstdint>

#include "protocol/words/check.h"

namespace raylet {

class Rng {
 public:
  explicit Rng(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  // Uniform in [0, bound). REQUIRES: bound > 0. The bias, bound / 2^64, does not matter here.
  uint64_t below(uint64_t bound) {
    MUST(bound > 0);
    return next() % bound;
  }

  bool chance(double probability) { return static_cast<double>(next() >> 11) * 0x1.0p-53 < probability; }

 private:
  uint64_t state_;
};

}  // namespace raylet
