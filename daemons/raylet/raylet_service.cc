#include "daemons/raylet/raylet_service.h"

namespace raylet {

// One SubmitGraph call. gRPC calls On..., which post to the loop; the loop calls the RemoteStream functions.
// It deletes itself on the loop after OnDone, the last thing gRPC says.
class RayletService::Stream : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                              public RemoteStream {
 public:
  explicit Stream(RayletService& service) : service_(service) {
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
  RayletService& service_;
  std::shared_ptr<RemoteDriver> driver_;  // set in the first posted job, before any other
  grpc::ByteBuffer incoming_;
  grpc::ByteBuffer outgoing_;
  bool finished_ = false;  // on the loop
};

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* RayletService::SubmitGraph(
    grpc::CallbackServerContext*) {
  calls_.count_one();
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

grpc::ServerUnaryReactor* RayletService::GetStatus(grpc::CallbackServerContext* context,
                                                   const v1::GetStatusRequest*, v1::NodeStatus* reply) {
  return calls_.answer(context, [this, reply] { handlers_.on_status(reply); });
}

grpc::ServerUnaryReactor* RayletService::Explain(grpc::CallbackServerContext* context,
                                                 const v1::ExplainRequest* request, v1::ExplainReply* reply) {
  return calls_.answer(context, [this, request, reply] { handlers_.on_explain(*request, reply); });
}

grpc::ServerUnaryReactor* RayletService::GetMetrics(grpc::CallbackServerContext* context,
                                                    const v1::GetMetricsRequest*, v1::GetMetricsReply* reply) {
  return calls_.answer(context, [this, reply] { reply->set_prometheus_text(handlers_.on_metrics()); });
}

grpc::ServerUnaryReactor* RayletService::GetTimeline(grpc::CallbackServerContext* context,
                                                     const v1::GetTimelineRequest* request,
                                                     v1::GetTimelineReply* reply) {
  return calls_.answer(context, [this, request, reply] { handlers_.on_timeline(*request, reply); });
}

}  // namespace raylet
