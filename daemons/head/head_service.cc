#include "daemons/head/head_service.h"

#include <unistd.h>

#include <memory>
#include <utility>

#include "daemons/kit/version.h"

namespace raylet {
namespace {

const grpc::Status kClosed{grpc::StatusCode::UNAVAILABLE, "this head is going down"};

grpc::Status status_of(const Refused& refused) {
  return {static_cast<grpc::StatusCode>(refused.code), refused.message};
}

// One reader of the view. Born on a gRPC thread; all else but gRPC's callbacks happens on the loop. Deletes
// itself when gRPC is done with it and the loop has heard of that.
class ViewWatch : public grpc::ServerWriteReactor<v1::ClusterView> {
 public:
  ViewWatch(Loop& loop, Head& head) : loop_(loop), head_(head) {}

  // On the loop.
  void open(uint64_t known_version) {
    if (finished_) return;
    watch_ = head_.open_watch(known_version, [this](const ViewPart* part) { on_change(part); });
  }

 private:
  void on_change(const ViewPart* part) {
    if (finished_) return;
    if (part == nullptr) return finish({grpc::StatusCode::UNAVAILABLE, "this head can't serve the view now"});
    message_.Clear();
    encode(*part, &message_);
    StartWrite(&message_);
  }
  void finish(grpc::Status status) {
    if (std::exchange(finished_, true)) return;
    head_.close_watch(watch_);
    Finish(std::move(status));
  }

  void OnWriteDone(bool ok) override {
    loop_.post([this, ok] {
      if (finished_) return;
      ok ? head_.watch_ready(watch_) : finish(grpc::Status::CANCELLED);
    });
  }
  void OnCancel() override {
    loop_.post([this] { finish(grpc::Status::CANCELLED); });
  }
  void OnDone() override {
    loop_.post([this] { delete this; });
  }

  Loop& loop_;
  Head& head_;
  WatchId watch_;
  bool finished_ = false;
  v1::ClusterView message_;
};

}  // namespace

// `fill` makes the reply of the core's answer, unless the answer is a refusal.
template <typename Request, typename Fill>
HeadService::Unary* HeadService::serve(Context* context, const Request& request, Fill fill) {
  Unary* reactor = context->DefaultReactor();
  Result<HeadEvent> event = decode(request);
  if (!event.ok()) {
    reactor->Finish({grpc::StatusCode::INVALID_ARGUMENT, event.error().message});
    return reactor;
  }
  auto shared = std::make_shared<HeadEvent>(*std::move(event));
  bool posted = post([this, reactor, shared, fill] {
    head_.ask(std::move(*shared), [reactor, fill](Answer answer) { reactor->Finish(fill(answer)); });
  });
  if (!posted) reactor->Finish(kClosed);
  return reactor;
}

bool HeadService::post(std::function<void()> job) {
  // Counted before the look at closed_: whoever close() does not see in the count sees closed_.
  ++posted_;
  if (closed_) {
    --posted_;
    return false;
  }
  loop_.post([this, job = std::move(job)] {
    job();
    --posted_;
  });
  return true;
}

void HeadService::close() {
  closed_ = true;
  head_.refuse_all();
  while (posted_ > 0) loop_.poll();
  head_.refuse_all();
}

namespace {

// For replies that are empty but for a failure.
template <typename Reply>
auto acknowledge_in(Reply* reply) {
  return [reply](const Answer& answer) {
    const auto* refused = std::get_if<Refused>(&answer);
    if (refused == nullptr) return grpc::Status::OK;
    if (refused->code == Code::kUnavailable) return status_of(*refused);
    if constexpr (requires { reply->mutable_failure(); }) {
      encode(*refused, reply->mutable_failure());
      return grpc::Status::OK;
    }
    return status_of(*refused);
  };
}

// For replies that are made of one kind of answer.
template <typename Kind, typename Encode>
auto fill_from(Encode encode_answer) {
  return [encode_answer](const Answer& answer) {
    if (const auto* refused = std::get_if<Refused>(&answer)) return status_of(*refused);
    encode_answer(std::get<Kind>(answer));
    return grpc::Status::OK;
  };
}

}  // namespace

HeadService::Unary* HeadService::RegisterNode(Context* context, const v1::RegisterNodeRequest* request,
                                              v1::RegisterNodeReply* reply) {
  return serve(context, *request, [this, reply](const Answer& answer) {
    if (const auto* accepted = std::get_if<NodeAccepted>(&answer)) {
      encode(*accepted, head_.identity(), reply);
      return grpc::Status::OK;
    }
    return acknowledge_in(reply)(answer);
  });
}

HeadService::Unary* HeadService::Heartbeat(Context* context, const v1::HeartbeatRequest* request,
                                           v1::HeartbeatReply* reply) {
  return serve(context, *request, fill_from<HeartbeatAnswer>([this, reply](const HeartbeatAnswer& answer) {
                 encode(answer, head_.identity(), reply);
               }));
}

HeadService::Unary* HeadService::GetClusterView(Context* context, const v1::GetClusterViewRequest* request,
                                                v1::ClusterView* reply) {
  return serve(context, *request,
               fill_from<ViewPart>([reply](const ViewPart& answer) { encode(answer, reply); }));
}

grpc::ServerWriteReactor<v1::ClusterView>* HeadService::WatchClusterView(
    Context*, const v1::GetClusterViewRequest* request) {
  auto* watch = new ViewWatch(loop_, head_);
  if (!post([watch, known_version = request->known_version()] { watch->open(known_version); })) {
    watch->Finish(kClosed);
  }
  return watch;
}

HeadService::Unary* HeadService::LeaveNode(Context* context, const v1::LeaveNodeRequest* request,
                                           v1::LeaveNodeReply* reply) {
  return serve(context, *request, acknowledge_in(reply));
}

HeadService::Unary* HeadService::RegisterJob(Context* context, const v1::RegisterJobRequest* request,
                                             v1::RegisterJobReply* reply) {
  return serve(context, *request, acknowledge_in(reply));
}

HeadService::Unary* HeadService::EndJob(Context* context, const v1::EndJobRequest* request,
                                        v1::EndJobReply* reply) {
  return serve(context, *request, acknowledge_in(reply));
}

HeadService::Unary* HeadService::ListJobs(Context* context, const v1::ListJobsRequest* request,
                                          v1::ListJobsReply* reply) {
  return serve(context, *request, fill_from<JobList>([reply](const JobList& answer) { encode(answer, reply); }));
}

HeadService::Unary* HeadService::RecordGraph(Context* context, const v1::RecordGraphRequest* request,
                                             v1::RecordGraphReply* reply) {
  return serve(context, *request, acknowledge_in(reply));
}

HeadService::Unary* HeadService::EndGraph(Context* context, const v1::EndGraphRequest* request,
                                          v1::EndGraphReply* reply) {
  return serve(context, *request, acknowledge_in(reply));
}

HeadService::Unary* HeadService::ListGraphs(Context* context, const v1::ListGraphsRequest* request,
                                            v1::ListGraphsReply* reply) {
  return serve(context, *request,
               fill_from<GraphList>([reply](const GraphList& answer) { encode(answer, reply); }));
}

HeadService::Unary* HeadService::RegisterName(Context* context, const v1::RegisterNameRequest* request,
                                              v1::RegisterNameReply* reply) {
  return serve(context, *request, [reply](const Answer& answer) {
    const auto* refused = std::get_if<Refused>(&answer);
    if (refused != nullptr && !refused->holder.is_nil()) reply->set_holder(refused->holder.binary());
    return acknowledge_in(reply)(answer);
  });
}

HeadService::Unary* HeadService::FindName(Context* context, const v1::FindNameRequest* request,
                                          v1::FindNameReply* reply) {
  return serve(context, *request,
               fill_from<NameAnswer>([reply](const NameAnswer& answer) { encode(answer, reply); }));
}

HeadService::Unary* HeadService::ForgetName(Context* context, const v1::ForgetNameRequest* request,
                                            v1::ForgetNameReply* reply) {
  return serve(context, *request, acknowledge_in(reply));
}

// Without the core: `fill` makes the reply on the loop.
template <typename Fill>
HeadService::Unary* HeadService::answer(Context* context, Fill fill) {
  Unary* reactor = context->DefaultReactor();
  bool posted = post([reactor, fill] {
    fill();
    reactor->Finish(grpc::Status::OK);
  });
  if (!posted) reactor->Finish(kClosed);
  return reactor;
}

HeadService::Unary* HeadService::GetHeadStatus(Context* context, const v1::GetHeadStatusRequest*,
                                               v1::HeadStatus* status) {
  return answer(context, [this, status] {
    ClusterReport core = head_.report();
    const Ledger::Report& ledger = head_.ledger_report();
    status->set_cluster(head_.identity().cluster);
    status->set_epoch(head_.identity().epoch);
    status->set_view_version(core.view_version);
    status->set_redis_connected(ledger.connected);
    status->set_writes_waiting(core.unwritten_count);
    status->set_node_count(core.node_count);
    status->set_job_count(core.job_count);
    status->set_graph_count(core.graph_count);
    status->set_name_count(core.name_count);
    status->set_version(kVersion);
    status->set_last_error(ledger.last_error);
    for (const std::string& complaint : ledger.complaints) status->add_complaints(complaint);
    status->set_pid(static_cast<uint64_t>(getpid()));
    status->set_redis_address(head_.redis_address());
  });
}

HeadService::Unary* HeadService::GetMetrics(Context* context, const v1::GetHeadMetricsRequest*,
                                            v1::GetHeadMetricsReply* reply) {
  return answer(context, [this, reply] { reply->set_prometheus_text(head_.metrics_text()); });
}

}  // namespace raylet
