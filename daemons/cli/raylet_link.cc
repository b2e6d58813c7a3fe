#include "daemons/cli/raylet_link.h"

#include <fmt/core.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "daemons/cli/node_plan.h"
#include "daemons/cli/session_directory.h"

namespace raylet {
namespace {

constexpr int kAnswerBytesMax = 64 << 20;

std::shared_ptr<grpc::Channel> channel_to(const std::string& socket) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kAnswerBytesMax);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel("unix:" + socket, grpc::InsecureChannelCredentials(), arguments);
}

void set_deadline(grpc::ClientContext* context) {
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(RayletLink::kCallWaitMs));
}

}  // namespace

RayletLink::RayletLink(const std::string& session_directory)
    : session_directory_(session_directory),
      raylet_(v1::Raylet::NewStub(channel_to(SessionPaths(session_directory).raylet_grpc))),
      head_(v1::Head::NewStub(channel_to(SessionPaths(session_directory).gcs_grpc))) {}

Error RayletLink::unreachable(const std::string& why) const {
  if (auto node = read_node_json(session_directory_); node.ok() && node->value("state", "") == "failed") {
    return {Code::kUnavailable, fmt::format("the node in {} has failed: {}", session_directory_,
                                            node->value("error", "(no reason noted)"))};
  }
  if (!live_supervisor(session_directory_)) {
    return {Code::kUnavailable,
            fmt::format("no node is running in {}; start one with: raylet start --head", session_directory_)};
  }
  return {Code::kUnavailable, fmt::format("rayletd does not answer at {} ({}); see: raylet logs rayletd",
                                          SessionPaths(session_directory_).raylet_grpc, why)};
}

Result<v1::NodeStatus> RayletLink::status() {
  grpc::ClientContext context;
  set_deadline(&context);
  v1::NodeStatus status;
  const auto said = raylet_->GetStatus(&context, {}, &status);
  if (!said.ok()) return unreachable(said.error_message());
  return status;
}

std::optional<v1::HeadStatus> RayletLink::head_status() {
  grpc::ClientContext context;
  set_deadline(&context);
  v1::HeadStatus status;
  if (!head_->GetHeadStatus(&context, {}, &status).ok()) return std::nullopt;
  return status;
}

Result<v1::ExplainReply> RayletLink::explain(const std::string& id) {
  grpc::ClientContext context;
  set_deadline(&context);
  v1::ExplainRequest request;
  request.set_id(id);
  v1::ExplainReply reply;
  const auto said = raylet_->Explain(&context, request, &reply);
  if (said.error_code() == grpc::StatusCode::INVALID_ARGUMENT) return invalid(said.error_message());
  if (!said.ok()) return unreachable(said.error_message());
  return reply;
}

}  // namespace raylet
