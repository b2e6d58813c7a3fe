// Raylet: the shell of one node. It owns the core and every link, gathers what happens in a turn of the loop,
// steps the core once with all of it, and performs the effects in their order.
//
// Lives on the loop's thread. Nothing a peer does ends it; what the machine does at its start is an Error.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "daemons/kit/grpc_server.h"
#include "daemons/kit/loop.h"
#include "daemons/kit/metrics.h"
#include "daemons/raylet/child_table.h"
#include "daemons/raylet/core/node.h"
#include "daemons/raylet/head_link.h"
#include "daemons/raylet/local_door.h"
#include "daemons/raylet/null_workers.h"
#include "daemons/raylet/output_policy.h"
#include "daemons/raylet/raylet_options.h"
#include "daemons/raylet/raylet_service.h"
#include "daemons/raylet/session_host.h"
#include "daemons/raylet/store_link.h"
#include "daemons/raylet/timeline_table.h"
#include "daemons/raylet/worker_fleet.h"

namespace raylet {

class Raylet : public SessionHost {
 public:
  // The usual slab of a process for its small objects.
  static constexpr uint64_t kSlabBytes = 4 << 20;
  // A report is at most this old when it is read.
  static constexpr Duration kReportAgeMax = std::chrono::milliseconds(100);
  // So many zygotes in a row that did not become ready, and drivers that wait for one are refused.
  static constexpr int kZygoteFailuresMax = 3;
  // From the wish to stop to the end, at most.
  static constexpr Duration kStopWaitMax = std::chrono::seconds(4);

  // Listens, starts the store and the zygote, registers with the head. An Error names what is in the way.
  static Result<std::unique_ptr<Raylet>> start(Loop& loop, RayletOptions options);
  ~Raylet() override;

  // Leaves the head, ends sessions, workers, zygote and store, then calls `done`.
  void stop(std::function<void()> done);

 private:
  Raylet(Loop& loop, RayletOptions options, NodeId node);
  Status open();

  void tell(Event event) override;
  void after_step(std::function<void()> job) override;
  SessionId next_session() override { return SessionId{next_session_++}; }
  SegmentTable& segments() override { return segments_; }
  void when_versions_known(std::function<void(const WorkerVersions&, const std::string&)> job) override;
  v1::HelloReply welcome(SessionId session, const JobId& job) override;
  void driver_arrived(DriverSession& session, const v1::Hello& hello) override;
  void driver_left(DriverSession& session, bool goodbye, const std::string& reason) override;

  void take_turn();
  void perform(Effect& effect);
  // Sends `frame` to whoever has the session: a driver or a worker. Nobody any more: nothing happens.
  void send_to(SessionId session, const v1::ServerFrame& frame);
  DriverSession* find_driver(SessionId session);
  void perform_persist(Persist& effect);

  void take_versions(const WorkerVersions& versions, const std::string& trouble);
  void forward_output(const JobId& job, v1::OutputLines lines);
  const NodeReport& recent_report();
  void fill_status(v1::NodeStatus* reply);
  std::string metrics_text();
  void continue_stop();
  void finish_stop();

  Loop& loop_;
  const RayletOptions options_;
  const NodeId node_id_;
  Node node_;
  SegmentTable segments_;
  TimelineTable timeline_;
  ChildTable children_;
  std::unique_ptr<StoreLink> store_;
  std::unique_ptr<WorkerFleet> fleet_;        // null with null workers
  std::unique_ptr<NullWorkers> null_workers_;
  std::unique_ptr<HeadLink> head_;
  std::unique_ptr<LocalDoor> door_;
  RayletService service_;
  std::unique_ptr<GrpcServer> grpc_;
  std::unique_ptr<MetricsHttp> metrics_http_;
  Alarm wake_alarm_;
  Alarm stop_alarm_;

  std::unordered_map<SessionId, std::shared_ptr<DriverSession>> drivers_;
  std::unordered_set<SessionId> arrived_;  // of them, those the core knows
  std::unordered_map<JobId, SessionId> driver_of_job_;
  std::unordered_map<JobId, OutputPolicy> outputs_;
  uint64_t next_session_ = 1;

  std::vector<Event> events_;    // since the last step
  std::vector<Event> stepping_;  // the step's
  std::vector<Effect> effects_;
  std::vector<std::function<void()>> after_step_;

  bool versions_known_ = false;
  WorkerVersions versions_;
  std::string versions_trouble_;
  int zygote_failures_ = 0;
  std::vector<std::function<void(const WorkerVersions&, const std::string&)>> versions_waiters_;

  NodeReport report_;
  Instant report_at_{-1};
  uint64_t steps_total_ = 0;
  uint64_t events_total_ = 0;
  uint64_t effects_total_ = 0;
  int64_t step_ns_total_ = 0;
  int64_t step_ns_max_ = 0;
  uint64_t output_lines_dropped_total_ = 0;

  std::function<void()> stop_done_;
  Instant stop_began_;
  std::thread grpc_stopper_;
  bool stopping_ = false;
  bool head_left_ = false;
};

}  // namespace raylet
