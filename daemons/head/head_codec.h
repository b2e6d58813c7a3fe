// The head's requests and replies, from protobuf to the core's events and from its answers back.
//
// Decoders take what anyone may have sent: an Error says what was expected. The call id is set later.
#pragma once

#include "gcs/effects.h"
#include "gcs/events.h"
#include "protocol/wire/head.pb.h"
#include "protocol/words/result.h"

namespace raylet {

Result<HeadEvent> decode(const v1::RegisterNodeRequest& request);
Result<HeadEvent> decode(const v1::HeartbeatRequest& request);
Result<HeadEvent> decode(const v1::GetClusterViewRequest& request);
Result<HeadEvent> decode(const v1::LeaveNodeRequest& request);
Result<HeadEvent> decode(const v1::RegisterJobRequest& request);
Result<HeadEvent> decode(const v1::EndJobRequest& request);
Result<HeadEvent> decode(const v1::ListJobsRequest& request);
Result<HeadEvent> decode(const v1::RecordGraphRequest& request);
Result<HeadEvent> decode(const v1::EndGraphRequest& request);
Result<HeadEvent> decode(const v1::ListGraphsRequest& request);
Result<HeadEvent> decode(const v1::RegisterNameRequest& request);
Result<HeadEvent> decode(const v1::FindNameRequest& request);
Result<HeadEvent> decode(const v1::ForgetNameRequest& request);

// What a reply says besides the core's answer.
struct HeadIdentity {
  std::string cluster;
  uint64_t epoch = 0;
};

void encode(const NodeAccepted& answer, const HeadIdentity& head, v1::RegisterNodeReply* reply);
void encode(const HeartbeatAnswer& answer, const HeadIdentity& head, v1::HeartbeatReply* reply);
void encode(const ViewPart& answer, v1::ClusterView* reply);
void encode(const JobList& answer, v1::ListJobsReply* reply);
void encode(const GraphList& answer, v1::ListGraphsReply* reply);
void encode(const NameAnswer& answer, v1::FindNameReply* reply);

// For replies that have a place for it. What may work later is gRPC's UNAVAILABLE instead.
void encode(const Refused& refused, v1::Failure* failure);

}  // namespace raylet
