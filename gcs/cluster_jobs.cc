// Jobs: registered by their driver's node, renewed by its heartbeats, ended with all that is theirs.
#include <algorithm>
#include <utility>

#include "gcs/cluster_state.h"

namespace raylet {

void Cluster::State::on(JobRegistered& event) {
  JobRecord& job = event.job;
  if (job.job.is_nil()) return reply(event.call, refuse_invalid("a job needs an id that is not all zeros"));
  if (job.script.size() > options.text_bytes_max) job.script.resize(options.text_bytes_max);
  if (nodes.find(job.node) == nullptr) return reply(event.call, refuse_unknown_node(job.node));
  if (const JobTable::Job* known = jobs.find(job.job)) {
    if (known->record == job) {
      jobs.renew(job.job, job.node, now);
      return reply_about(Table::kJobs, event.call, Acknowledged{});
    }
    JobRecord moved = known->record;
    moved.node = job.node;
    if (moved != job || nodes.find(known->record.node) != nullptr) {
      return reply_about(Table::kJobs, event.call,
                         refuse(Code::kAlreadyExists, FailureCode::kRequestInvalid,
                                "job " + job.job.hex() + " is another driver's: pid " +
                                    std::to_string(known->record.pid) + " on node " +
                                    known->record.node.hex()));
    }
  } else if (jobs.size() >= options.job_count_max) {
    return reply(event.call, refuse_over_limit("there are " + std::to_string(jobs.size()) +
                                               " jobs, which is as many as may be"));
  }
  if (backlog_full()) return reply(event.call, refuse_for_backlog());
  put(Table::kJobs, job_key(job.job), make_bytes(encode(job)));
  jobs.put(std::move(job), now);
  reply_about(Table::kJobs, event.call, Acknowledged{});
}

Refused Cluster::State::refuse_unknown_node(NodeId node) const {
  return refuse_for_now("node " + node.hex() + " is not registered; register it first");
}

Refused Cluster::State::refuse_unknown_job(JobId job) const {
  return refuse_for_now("job " + job.hex() + " is not registered; register it first");
}

void Cluster::State::on(JobEnded& event) {
  end_job(event.job);
  reply_after(std::max({touched[Table::kJobs], touched[Table::kGraphs], touched[Table::kNames]}), event.call,
              Acknowledged{});
}

void Cluster::State::end_job(JobId job) {
  if (jobs.find(job) == nullptr) return;
  std::set<GraphId> recorded = graphs.of_job(job);
  for (GraphId graph : recorded) remove_graph(graph);
  size_t before = writes.size();
  names.remove_if([&](const NameRecord& record) { return record.job == job && !record.detached; }, writes);
  touch_if_grown(Table::kNames, before);
  jobs.remove(job);
  erase(Table::kJobs, job_key(job));
}

void Cluster::State::on(JobsAsked& event) {
  JobList list;
  for (const auto& [id, job] : jobs.jobs()) {
    list.jobs.push_back({job.record, now - job.renewed_at < options.job_lease / 2});
  }
  reply_about(Table::kJobs, event.call, std::move(list));
}

}  // namespace raylet
