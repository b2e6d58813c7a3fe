#include "daemons/raylet/raylet_service.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <utility>

#include "daemons/kit/unary_calls.h"
#include "protocol/wire/raylet.grpc.pb.h"

namespace raylet {

// What gRPC calls, on its own threads.
class RayletService::Calls final
    : public v1::Raylet::WithRawCallbackMethod_SubmitGraph<v1::Raylet::WithCallbackMethod_GetStatus<
          v1::Raylet::WithCallbackMethod_Explain<v1::Raylet::WithCallbackMethod_GetMetrics<
              v1::Raylet::WithCallbackMethod_GetTimeline<v1::Raylet::Service>>>>> {
 public:
  using Context = grpc::CallbackServerContext;
  using Unary = grpc::ServerUnaryReactor;

  Calls(Loop& loop, Handlers handlers) : loop_(loop), unary_(loop), handlers_(std::move(handlers)) {}

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* SubmitGraph(Context*) override;
  Unary* GetStatus(Context* context, const v1::GetStatusRequest*, v1::NodeStatus* reply) override {
    return unary_.answer(context, [this, reply] { handlers_.on_status(reply); });
  }
  Unary* Explain(Context* context, const v1::ExplainRequest* request, v1::ExplainReply* reply) override {
    return unary_.answer(context, [this, request, reply] { handlers_.on_explain(*request, reply); });
  }
  Unary* GetMetrics(Context* context, const v1::GetMetricsRequest*, v1::GetMetricsReply* reply) override {
    return unary_.answer(context, [this, reply] { reply->set_prometheus_text(handlers_.on_metrics()); });
  }
  Unary* GetTimeline(Context* context, const v1::GetTimelineRequest* request,
                     v1::GetTimelineReply* reply) override {
    return unary_.answer(context, [this, request, reply] { handlers_.on_timeline(*request, reply); });
  }

  uint64_t total() const { return unary_.total(); }
  int streams() const { return streams_; }

 private:
  friend class RayletService::Stream;

  Loop& loop_;
  UnaryCalls unary_;
  Handlers handlers_;
  std::atomic<int> streams_{0};
};

// One SubmitGraph call. gRPC calls On..., which post to the loop; the loop calls the RemoteStream functions.
// It deletes itself on the loop after OnDone, the last thing gRPC says.
class RayletService::Stream : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                              public RemoteStream {
 public:
  explicit Stream(Calls& service) : service_(service) {
    service_.loop_.post([this] {
      driver_ = service_.handlers_.on_stream(*this);
      read_next();
    });
  }

  void read_next() override {
    if (!finished_) StartRead(&incoming_);
  }
  void write(grpc::ByteBuffer frame) override {
    outgoing_ = std::move(frame);
    if (finished_) {
      service_.loop_.post([this] { driver_->written(false); });
    } else {
      StartWrite(&outgoing_);
    }
  }
  void finish(grpc::Status status) override {
    if (finished_) return;
    finished_ = true;
    Finish(std::move(status));
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      service_.loop_.post([this] {
        driver_->peer_gone();
        finish(grpc::Status::OK);
      });
      return;
    }
    size_t size_bytes = incoming_.Length();
    auto frame = std::make_shared<v1::ClientFrame>();
    grpc::ProtoBufferReader reader(&incoming_);
    bool good = size_bytes <= RemoteDriver::kFrameBytesRemoteMax && frame->ParseFromZeroCopyStream(&reader);
    service_.loop_.post([this, frame, size_bytes, good] {
      if (good) return driver_->frame_came(std::move(*frame), size_bytes);
      driver_->bad_frame("a message of " + std::to_string(size_bytes) + " bytes is not a frame, or larger than " +
                         std::to_string(RemoteDriver::kFrameBytesRemoteMax) + " bytes");
    });
  }
  void OnWriteDone(bool ok) override {
    service_.loop_.post([this, ok] { driver_->written(ok); });
  }
  void OnCancel() override {
    service_.loop_.post([this] {
      driver_->peer_gone();
      finish(grpc::Status::CANCELLED);
    });
  }
  void OnDone() override {
    service_.loop_.post([this] {
      if (driver_) {
        driver_->peer_gone();
        driver_->stream_gone();
      }
      --service_.streams_;
      delete this;
    });
  }

 private:
  Calls& service_;
  std::shared_ptr<RemoteDriver> driver_;  // set in the first posted job, before any other
  grpc::ByteBuffer incoming_;
  grpc::ByteBuffer outgoing_;
  bool finished_ = false;  // on the loop
};

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* RayletService::Calls::SubmitGraph(Context*) {
  unary_.count_one();
  if (++streams_ > kStreamsMax) {
    --streams_;
    class Refused : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
     public:
      Refused() {
        Finish(
            {grpc::StatusCode::RESOURCE_EXHAUSTED, "this node has as many sessions as it takes; try again later"});
      }
      void OnDone() override { delete this; }
    };
    return new Refused();
  }
  return new Stream(*this);
}

RayletService::RayletService(Loop& loop, Handlers handlers)
    : calls_(std::make_unique<Calls>(loop, std::move(handlers))) {}

RayletService::~RayletService() = default;

grpc::Service* RayletService::for_server() { return calls_.get(); }

uint64_t RayletService::calls_total() const { return calls_->total(); }

int RayletService::streams() const { return calls_->streams(); }

}  // namespace raylet
