// RayletService: the node's door over gRPC: remote drivers' sessions and questions about the node.
//
// gRPC's threads decode and post; everything is answered on the loop. At most kStreamsMax sessions.
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "daemons/kit/loop.h"
#include "daemons/kit/unary_calls.h"
#include "daemons/raylet/remote_driver.h"
#include "protocol/wire/raylet.grpc.pb.h"

namespace raylet {

class RayletService final
    : public v1::Raylet::WithRawCallbackMethod_SubmitGraph<v1::Raylet::WithCallbackMethod_GetStatus<
          v1::Raylet::WithCallbackMethod_Explain<v1::Raylet::WithCallbackMethod_GetMetrics<
              v1::Raylet::WithCallbackMethod_GetTimeline<v1::Raylet::Service>>>>> {
 public:
  static constexpr int kStreamsMax = 256;

  // All on the loop.
  struct Handlers {
    // A session's stream; the driver made for it lives until it left and its stream is gone.
    std::function<std::shared_ptr<RemoteDriver>(RemoteStream& stream)> on_stream;
    std::function<void(v1::NodeStatus* reply)> on_status;
    std::function<void(const v1::ExplainRequest& request, v1::ExplainReply* reply)> on_explain;
    std::function<std::string()> on_metrics;
    std::function<void(const v1::GetTimelineRequest& request, v1::GetTimelineReply* reply)> on_timeline;
  };

  RayletService(Loop& loop, Handlers handlers) : loop_(loop), calls_(loop), handlers_(std::move(handlers)) {}

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* SubmitGraph(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context, const v1::GetStatusRequest* request,
                                      v1::NodeStatus* reply) override;
  grpc::ServerUnaryReactor* Explain(grpc::CallbackServerContext* context, const v1::ExplainRequest* request,
                                    v1::ExplainReply* reply) override;
  grpc::ServerUnaryReactor* GetMetrics(grpc::CallbackServerContext* context, const v1::GetMetricsRequest* request,
                                       v1::GetMetricsReply* reply) override;
  grpc::ServerUnaryReactor* GetTimeline(grpc::CallbackServerContext* context,
                                        const v1::GetTimelineRequest* request,
                                        v1::GetTimelineReply* reply) override;

  uint64_t calls_total() const { return calls_.total(); }
  int streams() const { return streams_; }

 private:
  class Stream;

  Loop& loop_;
  UnaryCalls calls_;
  Handlers handlers_;
  std::atomic<int> streams_{0};
};

}  // namespace raylet
