// What this node says to the head: the requests of head.proto, made of the core's records.
#pragma once

#include <map>
#include <string>

#include "daemons/raylet/core/effects.h"
#include "protocol/wire/head.pb.h"
#include "protocol/words/ids.h"
#include "protocol/words/resources.h"

namespace raylet {

// Who this node is. Does not change while it lives.
struct NodeIdentity {
  NodeId node;
  Incarnation incarnation;  // larger than that of any earlier life of the same node
  std::string host;
  std::string address;      // where this raylet's gRPC listens: unix:/path or host:port
  Resources total;
  std::map<std::string, std::string> labels;
  uint64_t pid = 0;
  uint64_t store_capacity_bytes = 0;
};

v1::RegisterNodeRequest registration_of(const NodeIdentity& self);
v1::RecordGraphRequest request_of(const NodeIdentity& self, const RecordGraph& record);
v1::EndGraphRequest request_of(const NodeIdentity& self, const ForgetGraph& record);
v1::RegisterJobRequest request_of(const NodeIdentity& self, const RecordJob& record);
v1::EndJobRequest request_of(const NodeIdentity& self, const ForgetJob& record);
v1::RegisterNameRequest request_of(const NodeIdentity& self, const RecordName& record);
v1::ForgetNameRequest request_of(const NodeIdentity& self, const ForgetName& record);
v1::FindNameRequest request_of(const NodeIdentity& self, const FindName& find);

}  // namespace raylet
