// RayletService: the node's door over gRPC: remote drivers' sessions and questions about the node.
//
// gRPC's threads decode and post; everything is answered on the loop. At most kStreamsMax sessions. What gRPC
// generates for the service is seen by raylet_service.cc alone: it costs each file that includes it 5 s.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "daemons/kit/loop.h"
#include "daemons/raylet/remote_driver.h"
#include "protocol/wire/raylet.pb.h"

namespace grpc {
class Service;
}

namespace raylet {

class RayletService {
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

  RayletService(Loop& loop, Handlers handlers);
  ~RayletService();

  // For the server, which this outlives.
  grpc::Service* for_server();

  uint64_t calls_total() const;
  int streams() const;

 private:
  class Calls;
  class Stream;

  std::unique_ptr<Calls> calls_;
};

}  // namespace raylet
