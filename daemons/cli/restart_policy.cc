#include "daemons/cli/restart_policy.h"

#include <algorithm>

namespace raylet {

std::optional<uint64_t> RestartPolicy::on_death(uint64_t now_ms) {
  while (!deaths_ms_.empty() && now_ms - deaths_ms_.front() >= kWindowMs) deaths_ms_.pop_front();
  const size_t earlier = deaths_ms_.size();
  deaths_ms_.push_back(now_ms);
  if (deaths_ms_.size() >= kDeathsMax) return std::nullopt;
  if (earlier == 0) return 0;
  return std::min(kWaitMsMax, kWaitMsFirst << (earlier - 1));
}

}  // namespace raylet
