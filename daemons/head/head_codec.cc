#include "daemons/head/head_codec.h"

#include "protocol/codec/id_codec.h"
#include "protocol/codec/session_codec.h"

namespace raylet {
namespace {

constexpr int kIdsPerHeartbeatMax = 1 << 20;

template <typename Id>
Result<Id> decode_id(const std::string& bytes, const char* what) {
  std::optional<Id> id = Id::from_binary(bytes);
  if (!id || id->is_nil()) {
    return invalid(std::string(what) + " must be an id of " + std::to_string(Id::kSizeBytes) +
                   " bytes that are not all zero; " + std::to_string(bytes.size()) + " bytes came");
  }
  return *id;
}

template <typename Id>
Result<std::vector<Id>> decode_ids(const google::protobuf::RepeatedPtrField<std::string>& from, const char* what) {
  if (from.size() > kIdsPerHeartbeatMax) return invalid(std::string("too many ids in ") + what);
  std::vector<Id> ids;
  ids.reserve(static_cast<size_t>(from.size()));
  for (const std::string& bytes : from) {
    auto id = decode_id<Id>(bytes, what);
    if (!id.ok()) return id.error();
    ids.push_back(*id);
  }
  return ids;
}

}  // namespace

Result<HeadEvent> decode(const v1::RegisterNodeRequest& request) {
  const v1::NodeInfo& info = request.info();
  NodeRecord node;
  auto id = decode_id<NodeId>(info.node(), "info.node");
  if (!id.ok()) return id.error();
  auto total = decode_resources(info.total());
  if (!total.ok()) return total.error();
  node.node = *id;
  node.incarnation = {info.incarnation()};
  node.host = info.host();
  node.address = info.address();
  node.total = *std::move(total);
  for (const auto& [name, value] : info.labels()) node.labels[name] = value;
  node.pid = info.pid();
  node.store_capacity_bytes = info.store_capacity_bytes();
  return HeadEvent(NodeRegistered{{}, std::move(node)});
}

Result<HeadEvent> decode(const v1::HeartbeatRequest& request) {
  auto node = decode_id<NodeId>(request.node(), "node");
  if (!node.ok()) return node.error();
  auto available = decode_resources(request.available());
  if (!available.ok()) return available.error();
  auto jobs = decode_ids<JobId>(request.jobs(), "jobs");
  if (!jobs.ok()) return jobs.error();
  auto graphs = decode_ids<GraphId>(request.graphs(), "graphs");
  if (!graphs.ok()) return graphs.error();
  return HeadEvent(HeartbeatCame{{}, *node, Incarnation{request.incarnation()}, *std::move(available),
                                 request.store_used_bytes(), *std::move(jobs), *std::move(graphs),
                                 request.heard_moment()});
}

Result<HeadEvent> decode(const v1::GetClusterViewRequest& request) {
  return HeadEvent(ViewAsked{{}, request.known_version()});
}

Result<HeadEvent> decode(const v1::LeaveNodeRequest& request) {
  auto node = decode_id<NodeId>(request.node(), "node");
  if (!node.ok()) return node.error();
  return HeadEvent(NodeLeft{{}, *node, Incarnation{request.incarnation()}});
}

Result<HeadEvent> decode(const v1::RegisterJobRequest& request) {
  auto job = decode_id<JobId>(request.info().job(), "info.job");
  if (!job.ok()) return job.error();
  auto node = decode_id<NodeId>(request.info().node(), "info.node");
  if (!node.ok()) return node.error();
  return HeadEvent(JobRegistered{{}, {*job, *node, request.info().script(), request.info().pid()}});
}

Result<HeadEvent> decode(const v1::EndJobRequest& request) {
  auto job = decode_id<JobId>(request.job(), "job");
  if (!job.ok()) return job.error();
  return HeadEvent(JobEnded{{}, *job});
}

Result<HeadEvent> decode(const v1::ListJobsRequest&) { return HeadEvent(JobsAsked{}); }

Result<HeadEvent> decode(const v1::RecordGraphRequest& request) {
  auto graph = decode_id<GraphId>(request.graph(), "graph");
  if (!graph.ok()) return graph.error();
  auto job = decode_id<JobId>(request.job(), "job");
  if (!job.ok()) return job.error();
  auto owner = decode_id<NodeId>(request.owner(), "owner");
  if (!owner.ok()) return owner.error();
  return HeadEvent(GraphPartCame{{},
                                 {*graph, *job, *owner, Incarnation{request.owner_incarnation()}, request.part(),
                                  request.last(), request.record()}});
}

Result<HeadEvent> decode(const v1::EndGraphRequest& request) {
  auto graph = decode_id<GraphId>(request.graph(), "graph");
  if (!graph.ok()) return graph.error();
  return HeadEvent(GraphEnded{{}, *graph});
}

Result<HeadEvent> decode(const v1::ListGraphsRequest& request) {
  if (request.job().empty()) return HeadEvent(GraphsAsked{});
  auto job = decode_id<JobId>(request.job(), "job");
  if (!job.ok()) return job.error();
  return HeadEvent(GraphsAsked{{}, *job});
}

Result<HeadEvent> decode(const v1::RegisterNameRequest& request) {
  auto actor = decode_object_id(request.actor(), "actor");
  if (!actor.ok()) return actor.error();
  auto job = decode_id<JobId>(request.job(), "job");
  if (!job.ok()) return job.error();
  auto node = decode_id<NodeId>(request.node(), "node");
  if (!node.ok()) return node.error();
  return HeadEvent(NameRegistered{{},
                                  {request.namespace_(), request.name(), *actor, *job, *node, request.detached(),
                                   request.handle()}});
}

Result<HeadEvent> decode(const v1::FindNameRequest& request) {
  return HeadEvent(NameAsked{{}, request.namespace_(), request.name()});
}

Result<HeadEvent> decode(const v1::ForgetNameRequest& request) {
  auto actor = decode_object_id(request.actor(), "actor");
  if (!actor.ok()) return actor.error();
  return HeadEvent(NameForgotten{{}, request.namespace_(), request.name(), *actor});
}

void encode(const NodeAccepted& answer, const HeadIdentity& head, v1::RegisterNodeReply* reply) {
  reply->set_cluster(head.cluster);
  reply->set_epoch(head.epoch);
  reply->set_lease_ms(answer.lease_ms);
  reply->set_heartbeat_ms(answer.heartbeat_ms);
}

void encode(const HeartbeatAnswer& answer, const HeadIdentity& head, v1::HeartbeatReply* reply) {
  reply->set_epoch(head.epoch);
  reply->set_view_version(answer.view_version);
  reply->set_register_again(answer.register_again);
  reply->set_moment(answer.moment);
  for (JobId job : answer.unknown_jobs) reply->add_ended_jobs(job.binary());
}

void encode(const ViewPart& answer, v1::ClusterView* reply) {
  reply->set_version(answer.version);
  reply->set_is_snapshot(answer.is_snapshot);
  reply->set_base_version(answer.base_version);
  for (const NodeView& seen : answer.nodes) {
    v1::NodeInfo* info = reply->add_nodes();
    info->set_node(seen.node.node.binary());
    info->set_incarnation(seen.node.incarnation.number);
    info->set_host(seen.node.host);
    info->set_address(seen.node.address);
    encode_resources(seen.node.total, info->mutable_total());
    encode_resources(seen.available, info->mutable_available());
    for (const auto& [name, value] : seen.node.labels) (*info->mutable_labels())[name] = value;
    info->set_pid(seen.node.pid);
    info->set_alive(seen.alive);
    info->set_suspect(seen.suspect);
    info->set_store_capacity_bytes(seen.node.store_capacity_bytes);
    info->set_store_used_bytes(seen.store_used_bytes);
  }
}

void encode(const JobList& answer, v1::ListJobsReply* reply) {
  for (const JobList::Entry& entry : answer.jobs) {
    v1::JobInfo* info = reply->add_jobs();
    info->set_job(entry.job.job.binary());
    info->set_node(entry.job.node.binary());
    info->set_script(entry.job.script);
    info->set_pid(entry.job.pid);
    info->set_alive(entry.alive);
  }
}

void encode(const GraphList& answer, v1::ListGraphsReply* reply) {
  for (const GraphSummary& graph : answer.graphs) {
    v1::GraphInfo* info = reply->add_graphs();
    info->set_graph(graph.graph.binary());
    info->set_job(graph.job.binary());
    info->set_owner(graph.owner.binary());
    info->set_parts(graph.parts);
    info->set_record_bytes(graph.record_bytes);
    info->set_complete(graph.complete);
  }
}

void encode(const NameAnswer& answer, v1::FindNameReply* reply) {
  reply->set_found(answer.found);
  if (!answer.found) return;
  reply->set_actor(answer.actor.binary());
  reply->set_node(answer.node.binary());
  reply->set_handle(answer.handle);
}

void encode(const Refused& refused, v1::Failure* failure) {
  failure->set_code(static_cast<v1::ErrorCode>(refused.failure));
  failure->set_message(refused.message);
}

}  // namespace raylet
