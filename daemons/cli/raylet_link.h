// RayletLink: one call at a time to a node's rayletd and head, over the unix sockets of its session.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "protocol/wire/head.grpc.pb.h"
#include "protocol/wire/raylet.grpc.pb.h"
#include "protocol/words/result.h"

namespace raylet {

class RayletLink {
 public:
  static constexpr int kCallWaitMs = 3'000;

  // `session_directory` as find_session gives it.
  explicit RayletLink(const std::string& session_directory);

  // An error says which daemon did not answer, and what the supervisor noted if the node has failed.
  Result<v1::NodeStatus> status();
  std::optional<v1::HeadStatus> head_status();
  Result<v1::ExplainReply> explain(const std::string& id);

 private:
  Error unreachable(const std::string& why) const;

  std::string session_directory_;
  std::unique_ptr<v1::Raylet::Stub> raylet_;
  std::unique_ptr<v1::Head::Stub> head_;
};

}  // namespace raylet
