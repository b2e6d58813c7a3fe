// Jobs: one for each driver. A job lives for as long as the node of its driver renews its lease, or says
// that it ended.
#pragma once

#include <map>

#include "gcs/record.h"
#include "protocol/words/ids.h"
#include "protocol/words/time.h"

namespace raylet {

class JobTable {
 public:
  struct Job {
    JobRecord record;
    Instant renewed_at;
  };

  size_t size() const { return jobs_.size(); }
  const std::map<JobId, Job>& jobs() const { return jobs_; }
  const Job* find(JobId job) const {
    auto at = jobs_.find(job);
    return at == jobs_.end() ? nullptr : &at->second;
  }

  void put(JobRecord record, Instant now) {
    JobId job = record.job;
    jobs_[job] = Job{std::move(record), now};
  }
  // False if `job` is not one of that node's.
  bool renew(JobId job, NodeId node, Instant now) {
    auto at = jobs_.find(job);
    if (at == jobs_.end() || at->second.record.node != node) return false;
    at->second.renewed_at = now;
    return true;
  }
  void remove(JobId job) { jobs_.erase(job); }

 private:
  std::map<JobId, Job> jobs_;
};

}  // namespace raylet
