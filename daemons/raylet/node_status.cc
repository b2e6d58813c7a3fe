#include "daemons/raylet/node_status.h"

#include "protocol/codec/session_codec.h"

namespace raylet {
namespace {

uint64_t to_ms(Duration duration) {
  return duration.count() < 0 ? 0 : static_cast<uint64_t>(duration.count()) / 1'000'000;
}

uint64_t to_us(Instant instant) { return static_cast<uint64_t>(instant.since_start_ns) / 1'000; }

const char* name_of(TaskResult::Status status) {
  switch (status) {
    case TaskResult::Status::kOk: return "ok";
    case TaskResult::Status::kFailed: return "failed";
    case TaskResult::Status::kHandedBack: return "handed_back";
    case TaskResult::Status::kRetry: return "retry";
  }
  return "";
}

}  // namespace

void encode_report(const NodeReport& report, v1::NodeStatus* status) {
  encode_resources(report.total, status->mutable_total());
  encode_resources(report.available, status->mutable_available());
  for (const WorkerReport& worker : report.workers) {
    v1::WorkerInfo* to = status->add_workers();
    to->set_worker(worker.worker.number);
    to->set_pid(worker.pid);
    to->set_state(worker.state);
    to->set_running(worker.running);
    to->set_running_for_ms(to_ms(worker.running_for));
    to->set_tasks_in_flight(worker.tasks_in_flight);
    if (!worker.job.is_nil()) to->set_job(worker.job.hex());
  }
  for (const GraphReport& graph : report.graphs) {
    v1::GraphStatus* to = status->add_graphs();
    to->set_graph(graph.graph.hex());
    to->set_job(graph.job.hex());
    to->set_name(graph.name);
    to->set_state(graph.state);
    to->set_task_total(graph.task_total);
    to->set_waiting(graph.waiting);
    to->set_ready(graph.ready);
    to->set_running(graph.running);
    to->set_finished(graph.finished);
    to->set_failed(graph.failed);
    to->set_age_ms(to_ms(graph.age));
    to->set_durable(graph.durable);
  }
  for (const DriverReport& driver : report.drivers) {
    v1::DriverInfo* to = status->add_drivers();
    to->set_job(driver.job.hex());
    to->set_pid(driver.pid);
    to->set_script(driver.script);
    to->set_held_objects(driver.held_objects);
    to->set_carrier(driver.local ? "local" : "grpc");
  }
  for (const ActorReport& actor : report.actors) {
    v1::ActorInfo* to = status->add_actors();
    to->set_actor(actor.actor.hex());
    to->set_name(actor.name);
    to->set_class_name(actor.class_name);
    to->set_state(actor.state);
    to->set_pid(actor.pid);
    to->set_calls_waiting(actor.calls_waiting);
  }
  for (const auto& [state, count] : report.tasks_by_state) (*status->mutable_tasks_by_state())[state] = count;
  status->set_inline_value_bytes(report.inline_value_bytes);
  status->set_graph_bytes(report.graph_bytes);
}

void encode_explanation(const Explanation& explanation, v1::ExplainReply* reply) {
  reply->set_found(explanation.found);
  reply->set_kind(explanation.kind);
  reply->set_state(explanation.state);
  reply->set_reason(explanation.reason);
  reply->set_since_ms(to_ms(explanation.since));
  for (const std::string& detail : explanation.details) reply->add_details(detail);
}

void encode_timeline(const std::vector<TimelineTable::Entry>& entries, v1::GetTimelineReply* reply) {
  for (const TimelineTable::Entry& entry : entries) {
    v1::TimelineEntry* to = reply->add_entries();
    to->set_name(entry.name);
    to->set_graph(entry.graph.hex());
    to->set_task(entry.task);
    to->set_attempt(entry.attempt);
    to->set_worker(entry.worker.number);
    to->set_pid(entry.pid);
    to->set_sent_us(to_us(entry.sent));
    to->set_reported_us(to_us(entry.reported));
    to->set_duration_us(entry.duration_us);
    to->set_status(name_of(entry.status));
  }
}

void write_report_metrics(const NodeReport& report, MetricsText& text) {
  for (const auto& [state, count] : report.tasks_by_state) {
    text.gauge("raylet_tasks", "Tasks the node knows, by state.", static_cast<double>(count), {{"state", state}});
  }
  std::map<std::string, int> workers;
  for (const WorkerReport& worker : report.workers) ++workers[worker.state];
  for (const auto& [state, count] : workers) {
    text.gauge("raylet_workers", "Worker processes, by state.", count, {{"state", state}});
  }
  for (const auto& [name, units] : report.total.units()) {
    text.gauge("raylet_resource_total", "What the node has, by resource.",
               static_cast<double>(units) / Resources::kUnitsPerWhole, {{"resource", name}});
  }
  for (const auto& [name, units] : report.total.units()) {
    text.gauge("raylet_resource_available", "What no task has taken, by resource.", report.available.get(name),
               {{"resource", name}});
  }
  text.gauges({
      {"raylet_graphs", "Graphs the node knows.", report.graphs.size()},
      {"raylet_drivers", "Drivers connected.", report.drivers.size()},
      {"raylet_actors", "Actors the node knows.", report.actors.size()},
      {"raylet_objects", "Objects the node knows.", report.object_count},
      {"raylet_objects_held", "Objects that some process holds.", report.held_object_count},
      {"raylet_gets_pending", "Gets without their last answer.", report.pending_get_count},
      {"raylet_inline_value_bytes", "Small values in the raylet's memory.", report.inline_value_bytes},
      {"raylet_graph_bytes", "Task records and argument blobs.", report.graph_bytes},
  });
  text.counters({
      {"raylet_tasks_finished_total", "Tasks that ended well.", report.tasks_finished_total},
      {"raylet_tasks_failed_total", "Tasks that failed for good.", report.tasks_failed_total},
      {"raylet_tasks_retried_total", "Tasks that were tried again.", report.tasks_retried_total},
      {"raylet_batches_sent_total", "Batches sent to workers.", report.batches_sent_total},
      {"raylet_workers_died_total", "Workers that died.", report.workers_died_total},
  });
}

}  // namespace raylet
