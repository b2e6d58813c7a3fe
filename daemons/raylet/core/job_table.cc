#include "daemons/raylet/core/job_table.h"

#include <algorithm>
#include <functional>

namespace raylet {

uint32_t ShapeTable::intern(const Resources& resources, int32_t priority, bool creation, const Resources& total) {
  for (uint32_t i = 0; i < shapes_.size(); ++i) {
    const Shape& shape = shapes_[i];
    if (shape.priority == priority && shape.creation == creation && shape.resources == resources) return i;
  }
  Shape shape;
  shape.resources = resources;
  shape.priority = priority;
  shape.creation = creation;
  shape.feasible = total.fits(resources);
  shape.only_cpu = resources.units().size() == 1 && resources.get("CPU") == 1;
  shapes_.push_back(std::move(shape));
  return static_cast<uint32_t>(shapes_.size() - 1);
}

uint32_t FunctionTable::intern(const JobId& job, const FunctionDef& def) {
  uint64_t content = mix_bits(std::hash<std::string>()(def.name), static_cast<uint64_t>(def.kind));
  if (def.pickled) content = mix_bits(content, std::hash<std::string>()(*def.pickled));
  Key key{job, content};
  for (auto [at, end] = by_key_.equal_range(key); at != end; ++at) {
    const FunctionDef& known = functions_[at->second]->def;
    bool same_bytes = size_bytes(known.pickled) == size_bytes(def.pickled) &&
                      (size_bytes(def.pickled) == 0 || *known.pickled == *def.pickled);
    if (known.name == def.name && known.kind == def.kind && same_bytes) return at->second;
  }
  uint32_t number = size();
  functions_.push_back(std::make_unique<Function>());
  Function& function = *functions_.back();
  function.def = def;
  function.def.number = number;
  function.job = job;
  function.live = true;
  by_key_.emplace(key, number);
  return number;
}

void FunctionTable::forget_job(const JobId& job) {
  for (auto at = by_key_.lower_bound({job, 0}); at != by_key_.end() && at->first.job == job;) {
    Function& function = *functions_[at->second];
    function.def.pickled = nullptr;
    function.live = false;
    at = by_key_.erase(at);
  }
}

}  // namespace raylet
