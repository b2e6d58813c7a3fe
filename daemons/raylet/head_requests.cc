#include "daemons/raylet/head_requests.h"

#include "protocol/codec/session_codec.h"

namespace raylet {

v1::RegisterNodeRequest registration_of(const NodeIdentity& self) {
  v1::RegisterNodeRequest request;
  v1::NodeInfo* info = request.mutable_info();
  info->set_node(self.node.binary());
  info->set_incarnation(self.incarnation.number);
  info->set_host(self.host);
  info->set_address(self.address);
  encode_resources(self.total, info->mutable_total());
  for (const auto& [name, value] : self.labels) (*info->mutable_labels())[name] = value;
  info->set_pid(self.pid);
  info->set_store_capacity_bytes(self.store_capacity_bytes);
  return request;
}

v1::RecordGraphRequest request_of(const NodeIdentity& self, const RecordGraph& record) {
  v1::RecordGraphRequest request;
  v1::GraphChunk chunk;
  if (record.chunk) encode_graph_chunk(*record.chunk, &chunk);
  request.set_graph(record.graph.binary());
  request.set_job(record.job.binary());
  request.set_owner(self.node.binary());
  request.set_owner_incarnation(self.incarnation.number);
  request.set_part(record.part);
  request.set_last(record.last);
  chunk.SerializeToString(request.mutable_record());
  return request;
}

v1::EndGraphRequest request_of(const NodeIdentity&, const ForgetGraph& record) {
  v1::EndGraphRequest request;
  request.set_graph(record.graph.binary());
  return request;
}

v1::RegisterJobRequest request_of(const NodeIdentity& self, const RecordJob& record) {
  v1::RegisterJobRequest request;
  v1::JobInfo* info = request.mutable_info();
  info->set_job(record.job.binary());
  info->set_node(self.node.binary());
  info->set_script(record.script);
  info->set_pid(record.pid);
  return request;
}

v1::EndJobRequest request_of(const NodeIdentity&, const ForgetJob& record) {
  v1::EndJobRequest request;
  request.set_job(record.job.binary());
  return request;
}

v1::RegisterNameRequest request_of(const NodeIdentity& self, const RecordName& record) {
  v1::RegisterNameRequest request;
  request.set_namespace_(record.name_space);
  request.set_name(record.name);
  request.set_actor(record.actor.binary());
  request.set_job(record.job.binary());
  request.set_node(self.node.binary());
  request.set_detached(record.detached);
  if (record.handle) request.set_handle(*record.handle);
  return request;
}

v1::ForgetNameRequest request_of(const NodeIdentity&, const ForgetName& record) {
  v1::ForgetNameRequest request;
  request.set_namespace_(record.name_space);
  request.set_name(record.name);
  request.set_actor(record.actor.binary());
  return request;
}

v1::FindNameRequest request_of(const NodeIdentity&, const FindName& find) {
  v1::FindNameRequest request;
  request.set_namespace_(find.name_space);
  request.set_name(find.name);
  return request;
}

}  // namespace raylet
