#include "protocol/words/resources.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "protocol/words/size_text.h"

namespace raylet {
namespace {

auto lower_bound_of(auto& units, const std::string& name) {
  return std::lower_bound(units.begin(), units.end(), name,
                          [](const auto& entry, const std::string& wanted) { return entry.first < wanted; });
}

std::string format_units(const std::string& name, int64_t units) {
  if (name == "memory") return format_size(static_cast<uint64_t>(units / Resources::kUnitsPerWhole));
  char text[40];
  if (units % Resources::kUnitsPerWhole == 0) {
    std::snprintf(text, sizeof text, "%lld", static_cast<long long>(units / Resources::kUnitsPerWhole));
  } else {
    std::snprintf(text, sizeof text, "%.10g", static_cast<double>(units) / Resources::kUnitsPerWhole);
  }
  return text;
}

}  // namespace

Status Resources::set(const std::string& name, double amount) {
  if (name.empty()) return invalid("a resource needs a name");
  if (!std::isfinite(amount) || amount < 0 || amount > static_cast<double>(kWholeMax)) {
    return invalid("resource '" + name + "' must be between 0 and 2^49, not " + std::to_string(amount));
  }
  double exact = amount * kUnitsPerWhole;
  double rounded = std::round(exact);
  if (std::abs(exact - rounded) > 1e-6 * std::max(1.0, exact)) {
    return invalid("resource '" + name + "' has a fraction finer than 0.0001: " + std::to_string(amount));
  }
  set_units(name, static_cast<int64_t>(rounded));
  return Done{};
}

double Resources::get(const std::string& name) const {
  return static_cast<double>(units_of(name)) / kUnitsPerWhole;
}

bool Resources::fits(const Resources& wish) const {
  return std::all_of(wish.units_.begin(), wish.units_.end(),
                     [this](const auto& entry) { return entry.second <= units_of(entry.first); });
}

void Resources::add(const Resources& more) {
  for (const auto& [name, units] : more.units_) set_units(name, units_of(name) + units);
}

void Resources::subtract(const Resources& less) {
  for (const auto& [name, units] : less.units_) {
    int64_t left = units_of(name) - units;
    MUST(left >= 0, "more resources taken than there are");
    set_units(name, left);
  }
}

std::string Resources::to_string() const {
  std::string text;
  for (const auto& [name, units] : units_) {
    text += (text.empty() ? "" : ", ") + name + " " + format_units(name, units);
  }
  return text.empty() ? "nothing" : text;
}

int64_t Resources::units_of(const std::string& name) const {
  auto at = lower_bound_of(units_, name);
  return at != units_.end() && at->first == name ? at->second : 0;
}

void Resources::set_units(const std::string& name, int64_t units) {
  auto at = lower_bound_of(units_, name);
  bool found = at != units_.end() && at->first == name;
  if (units == 0) {
    if (found) units_.erase(at);
  } else if (found) {
    at->second = units;
  } else {
    units_.insert(at, {name, units});
  }
}

}  // namespace raylet
