// Raylet: its drivers, from their hello to their end, and what they are told on the way.
#include "daemons/kit/log.h"
#include "daemons/kit/version.h"
#include "daemons/raylet/frame_codec.h"
#include "daemons/raylet/raylet.h"

namespace raylet {

DriverSession* Raylet::find_driver(SessionId session) {
  auto found = drivers_.find(session);
  return found == drivers_.end() ? nullptr : found->second.get();
}

void Raylet::when_versions_known(std::function<void(const WorkerVersions&, const std::string&)> job) {
  if (versions_known_) return job(versions_, "");
  if (zygote_failures_ >= kZygoteFailuresMax) return job({}, versions_trouble_);
  versions_waiters_.push_back(std::move(job));
}

void Raylet::take_versions(const WorkerVersions& versions, const std::string& trouble) {
  versions_known_ = versions_known_ || trouble.empty();
  versions_trouble_ = trouble;
  if (trouble.empty()) {
    versions_ = versions;
    zygote_failures_ = 0;
  } else if (++zygote_failures_ < kZygoteFailuresMax) {
    return;
  }
  auto waiters = std::move(versions_waiters_);
  versions_waiters_.clear();
  for (auto& waiter : waiters) waiter(versions_, trouble);
}

v1::HelloReply Raylet::welcome(SessionId session, const JobId& job) {
  v1::HelloReply reply;
  NodeOptions limits;
  reply.set_protocol_version(kSessionProtocolVersion);
  reply.set_raylet_version(kVersion);
  reply.set_node(node_id_.binary());
  reply.set_cluster(head_->report().cluster);
  reply.set_session(session.number);
  reply.set_graph_credit_bytes(limits.graph_credit_bytes);
  reply.set_inline_bytes_max(limits.inline_bytes_max);
  reply.set_slab_bytes(std::min(kSlabBytes, options_.object_store_bytes / 16));
  reply.set_store_capacity_bytes(options_.object_store_bytes);
  reply.set_session_directory(options_.session_directory);
  reply.set_resumed(!job.is_nil() && driver_of_job_.contains(job));
  return reply;
}

void Raylet::driver_arrived(DriverSession& session, const v1::Hello& hello) {
  log::info("driver arrived session={} job={} pid={} carrier={} script={}", session.id().number,
            session.job().hex(), hello.pid(), session.is_local() ? "local" : "grpc", hello.setup().script());
  arrived_.insert(session.id());
  driver_of_job_[session.job()] = session.id();
  JobSetup setup{make_bytes(hello.setup().SerializeAsString()), hello.setup().script()};
  if (fleet_) fleet_->set_setup(session.job(), setup);
  tell(DriverArrived{session.id(), session.job(), std::move(setup), hello.pid(), session.is_local()});
}

void Raylet::driver_left(DriverSession& session, bool goodbye, const std::string&) {
  SessionId id = session.id();
  auto found = drivers_.find(id);
  if (found == drivers_.end()) return;
  // Destroyed in a later turn: this is called from within it.
  loop_.post([last = std::move(found->second)] {});
  drivers_.erase(found);
  if (auto of_job = driver_of_job_.find(session.job()); of_job != driver_of_job_.end() && of_job->second == id) {
    driver_of_job_.erase(of_job);
  }
  if (arrived_.erase(id) > 0) tell(SessionClosed{id, goodbye});
}

void Raylet::forward_output(const JobId& job, v1::OutputLines lines) {
  auto of_job = driver_of_job_.find(job);
  DriverSession* driver = of_job == driver_of_job_.end() ? nullptr : find_driver(of_job->second);
  if (driver == nullptr) return;
  OutputPolicy& policy = outputs_[job];
  std::vector<std::string> texts(lines.lines().begin(), lines.lines().end());
  size_t count = policy.admit(loop_.now(), texts, driver->queued_bytes() > DriverSession::kQueuedForOutputMax);
  output_lines_dropped_total_ += texts.size() - count;
  if (uint64_t dropped = policy.take_dropped(); dropped > 0) {
    driver->send(encode(TellDriver{driver->id(), TellDriver::Severity::kWarning,
                                   std::to_string(dropped) +
                                       " lines of the workers' output were dropped: too many "
                                       "in one second. All of it is in " +
                                       options_.session_directory + "/logs"}));
  }
  if (count == 0) return;
  v1::ServerFrame frame;
  *frame.mutable_output() = std::move(lines);
  frame.mutable_output()->mutable_lines()->DeleteSubrange(static_cast<int>(count),
                                                          static_cast<int>(texts.size() - count));
  driver->send(frame);
}

}  // namespace raylet
