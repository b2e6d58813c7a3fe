// StoreService: the store's door for people: grpcurl and the status screen ask it what there is.
//
// gRPC's threads post; the loop answers. Nothing here changes anything.
#pragma once

#include <string>

#include "daemons/kit/loop.h"
#include "daemons/kit/unary_calls.h"
#include "daemons/store/store_daemon.h"
#include "protocol/wire/store.grpc.pb.h"

namespace raylet {

class StoreService final : public v1::Store::CallbackService {
 public:
  static constexpr uint32_t kObjectsDefault = 100;
  static constexpr uint32_t kObjectsMax = 10'000;

  StoreService(Loop& loop, StoreDaemon& daemon) : loop_(loop), calls_(loop), daemon_(daemon) {}

  grpc::ServerUnaryReactor* GetUsage(grpc::CallbackServerContext* context, const v1::GetUsageRequest* request,
                                     v1::StoreUsage* reply) override;
  grpc::ServerUnaryReactor* ListObjects(grpc::CallbackServerContext* context,
                                        const v1::ListObjectsRequest* request,
                                        v1::ListObjectsReply* reply) override;
  grpc::ServerUnaryReactor* GetMetrics(grpc::CallbackServerContext* context,
                                       const v1::GetStoreMetricsRequest* request,
                                       v1::GetStoreMetricsReply* reply) override;

  // On the loop.
  std::string metrics_text() const;

 private:
  Loop& loop_;
  UnaryCalls calls_;
  StoreDaemon& daemon_;
};

}  // namespace raylet
