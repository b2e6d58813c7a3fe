// What a driver still waits for, in words, for when it waits for ever.
#include "tests/sim/driver.h"

namespace raylet::sim {

std::string Driver::waits_for() const {
  std::string text = "driver " + std::to_string(number_) + " in state " + std::to_string(static_cast<int>(state_));
  if (credit_owed_bytes_ > 0) text += ", for credit of " + std::to_string(credit_owed_bytes_) + " bytes";
  text += ", for " + std::to_string(slab_requests_.size()) + " slabs and " +
          std::to_string(name_requests_.size()) + " names";
  for (const GraphId& graph : running_) text += "\n  the end of graph " + graph.hex();
  for (const auto& [request, get] : gets_) {
    for (const ObjectId& id : get.ids) text += "\n  " + explain(id.hex());
  }
  return text;
}

// Follows what waits for what down to what waits for nothing.
std::string Driver::explain(std::string id) const {
  std::string text = "object " + id;
  constexpr int kStepsMax = 300;
  for (int step = 0; step < kStepsMax && world_.node->is_up(); ++step) {
    Explanation why = world_.node->node().explain(world_.now(), id);
    std::string next;
    for (const std::string& detail : why.details) {
      constexpr const char* kWaitsFor = "waits for ";
      if (detail.rfind(kWaitsFor, 0) == 0) next = detail.substr(std::string(kWaitsFor).size(), 56);
    }
    if (next.empty()) {
      text += (step > 0 ? " waits for " + id : "") + ": " + why.kind + " " + why.state + ": " + why.reason;
      for (const std::string& detail : why.details) text += "; " + detail;
      return text;
    }
    id = next;
  }
  return text;
}

}  // namespace raylet::sim
