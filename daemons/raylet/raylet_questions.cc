// Raylet: what it answers about itself, to the status screen and to Prometheus.
#include <unistd.h>

#include "daemons/kit/version.h"
#include "daemons/raylet/node_status.h"
#include "daemons/raylet/raylet.h"

namespace raylet {

const NodeReport& Raylet::recent_report() {
  Instant now = loop_.now();
  if (report_at_.since_start_ns < 0 || now - report_at_ >= kReportAgeMax) {
    report_ = node_.report(now);
    report_at_ = now;
  }
  return report_;
}

void Raylet::fill_status(v1::NodeStatus* reply) {
  encode_report(recent_report(), reply);
  HeadLink::Report head = head_->report();
  reply->set_node(node_id_.binary());
  reply->set_cluster(head.cluster);
  reply->set_version(kVersion);
  reply->set_uptime_ms(static_cast<uint64_t>(loop_.now().since_start_ns) / 1'000'000);
  reply->set_head_connected(head.connected);
  reply->set_store_connected(store_->is_up());
  *reply->mutable_store() = store_->usage();
  reply->set_session_directory(options_.session_directory);
  reply->set_address(options_.listen_tcp.empty() ? options_.listen_address : options_.listen_tcp);
  reply->set_pid(static_cast<uint64_t>(getpid()));
}

std::string Raylet::metrics_text() {
  MetricsText text;
  write_report_metrics(recent_report(), text);
  size_t driver_bytes = 0;
  for (const auto& [id, driver] : drivers_) driver_bytes += driver->queued_bytes();
  const HeadLink::Report head = head_->report();
  const v1::StoreUsage& store = store_->usage();
  text.gauges({
      {"raylet_loop_lag_seconds", "How late the loop is, a mean of the last second.", loop_.lag_seconds()},
      {"raylet_step_seconds_max", "The longest step of the core.", static_cast<double>(step_ns_max_) * 1e-9},
      {"raylet_queue_records", "Records without the head's answer.", head.waiting_count},
      {"raylet_head_connected", "1 while the head answers.", head.connected ? 1 : 0},
      {"raylet_store_up", "1 while the store runs.", store_->is_up() ? 1 : 0},
      {"raylet_grpc_sessions", "Drivers' streams over gRPC.", service_.streams()},
  });
  text.counters({
      {"raylet_steps_total", "Steps of the core.", steps_total_},
      {"raylet_step_seconds_total", "Time in the core.", static_cast<double>(step_ns_total_) * 1e-9},
      {"raylet_events_total", "Events told to the core.", events_total_},
      {"raylet_effects_total", "Effects of the core.", effects_total_},
      {"raylet_head_retries_total", "Calls to the head that were tried again.", head.retries_total},
      {"raylet_store_restarts_total", "Stores that died.", store_->restarts_total()},
      {"raylet_rpc_calls_total", "RPCs answered.", service_.calls_total()},
      {"raylet_output_lines_dropped_total", "Lines of workers' output that no driver was sent.",
       output_lines_dropped_total_},
  });
  auto by_label = [&](const char* name, const char* help, const char* label, auto... readings) {
    (text.gauge(name, help, static_cast<double>(readings.second), {{label, readings.first}}), ...);
  };
  using Reading = std::pair<const char*, uint64_t>;
  by_label("raylet_queue_bytes", "What waits to be sent.", "to", Reading{"drivers", driver_bytes});
  by_label("raylet_queue_packets", "Packets that wait to be sent.", "to",
           Reading{"workers", fleet_ ? fleet_->queued_packets() : 0}, Reading{"store", store_->queued_packets()});
  by_label("raylet_store_bytes", "The store's memory, by use.", "use", Reading{"capacity", store.capacity_bytes()},
           Reading{"sealed", store.sealed_bytes()}, Reading{"leased", store.slab_bytes()});
  return text.take();
}

}  // namespace raylet
