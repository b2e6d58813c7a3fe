// A node's report in the words of the wire and of Prometheus. Pure functions.
#pragma once

#include "daemons/kit/metrics.h"
#include "daemons/raylet/core/node_report.h"
#include "daemons/raylet/timeline_table.h"
#include "protocol/wire/raylet.pb.h"

namespace raylet {

void encode_report(const NodeReport& report, v1::NodeStatus* status);
void encode_explanation(const Explanation& explanation, v1::ExplainReply* reply);
void encode_timeline(const std::vector<TimelineTable::Entry>& entries, v1::GetTimelineReply* reply);
void write_report_metrics(const NodeReport& report, MetricsText& text);

}  // namespace raylet
