// Resources: how much of each named thing, in ten-thousandths, so that fractions add up exactly.
//
// "CPU", "GPU" and "memory" (bytes, whole) are names like any other. Absent means zero. Amounts are never
// negative: subtract() REQUIRES fits().
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "protocol/words/result.h"

namespace raylet {

class Resources {
 public:
  static constexpr int64_t kUnitsPerWhole = 10'000;
  static constexpr int64_t kWholeMax = int64_t{1} << 49;  // so that sums of many stay far from overflow

  Resources() = default;

  // Refuses empty names, negative, non-finite and oversized amounts and fractions finer than 1e-4.
  Status set(const std::string& name, double amount);
  double get(const std::string& name) const;

  bool empty() const { return units_.empty(); }
  // True iff every amount of `wish` is at most ours.
  bool fits(const Resources& wish) const;
  void add(const Resources& more);
  // REQUIRES: fits(less).
  void subtract(const Resources& less);

  // Sorted by name, zeros left out: equal resources have equal lists.
  const std::vector<std::pair<std::string, int64_t>>& units() const { return units_; }
  // "CPU 2, memory 1073741824"; "nothing" when empty.
  std::string to_string() const;
  bool operator==(const Resources&) const = default;

 private:
  int64_t units_of(const std::string& name) const;
  void set_units(const std::string& name, int64_t units);

  std::vector<std::pair<std::string, int64_t>> units_;
};

}  // namespace raylet
