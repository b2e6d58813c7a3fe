// HeadService: the head's RPCs (protocol/wire/head.proto) by gRPC's callback interface.
//
// gRPC's threads decode a request and post it to the loop; the reply is made on the loop when the core has
// answered, and gRPC sends it. What may work later is the status UNAVAILABLE; what never will is a Failure in
// the reply where it has a place for one, a status otherwise.
#pragma once

#include <atomic>
#include <functional>

#include "daemons/head/head.h"
#include "daemons/kit/loop.h"
#include "protocol/wire/head.grpc.pb.h"

namespace raylet {

class HeadService final : public v1::Head::CallbackService {
 public:
  // Both outlive the service.
  HeadService(Loop& loop, Head& head) : loop_(loop), head_(head) {}

  // Answers every call that is here and every one that still comes: the server is about to shut down, and it
  // waits for the answers. Called by the loop's thread when the loop has stopped.
  void close();

  using Context = grpc::CallbackServerContext;
  using Unary = grpc::ServerUnaryReactor;

  Unary* RegisterNode(Context*, const v1::RegisterNodeRequest*, v1::RegisterNodeReply*) override;
  Unary* Heartbeat(Context*, const v1::HeartbeatRequest*, v1::HeartbeatReply*) override;
  Unary* GetClusterView(Context*, const v1::GetClusterViewRequest*, v1::ClusterView*) override;
  grpc::ServerWriteReactor<v1::ClusterView>* WatchClusterView(Context*, const v1::GetClusterViewRequest*) override;
  Unary* LeaveNode(Context*, const v1::LeaveNodeRequest*, v1::LeaveNodeReply*) override;
  Unary* RegisterJob(Context*, const v1::RegisterJobRequest*, v1::RegisterJobReply*) override;
  Unary* EndJob(Context*, const v1::EndJobRequest*, v1::EndJobReply*) override;
  Unary* ListJobs(Context*, const v1::ListJobsRequest*, v1::ListJobsReply*) override;
  Unary* RecordGraph(Context*, const v1::RecordGraphRequest*, v1::RecordGraphReply*) override;
  Unary* EndGraph(Context*, const v1::EndGraphRequest*, v1::EndGraphReply*) override;
  Unary* ListGraphs(Context*, const v1::ListGraphsRequest*, v1::ListGraphsReply*) override;
  Unary* RegisterName(Context*, const v1::RegisterNameRequest*, v1::RegisterNameReply*) override;
  Unary* FindName(Context*, const v1::FindNameRequest*, v1::FindNameReply*) override;
  Unary* ForgetName(Context*, const v1::ForgetNameRequest*, v1::ForgetNameReply*) override;
  Unary* GetHeadStatus(Context*, const v1::GetHeadStatusRequest*, v1::HeadStatus*) override;
  Unary* GetMetrics(Context*, const v1::GetHeadMetricsRequest*, v1::GetHeadMetricsReply*) override;

 private:
  template <typename Request, typename Fill>
  Unary* serve(Context* context, const Request& request, Fill fill);
  template <typename Fill>
  Unary* answer(Context* context, Fill fill);
  // From gRPC's threads: runs `job` on the loop. False if the service is closed: answer at once.
  bool post(std::function<void()> job);

  Loop& loop_;
  Head& head_;
  std::atomic<bool> closed_ = false;
  std::atomic<uint64_t> posted_ = 0;  // jobs on their way to the loop
};

}  // namespace raylet
