// HeadCalls: calls to the head over gRPC, whose ends come to the loop.
//
// gRPC's threads only post. After close() no call's end is heard of any more.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "daemons/kit/loop.h"
#include "protocol/wire/head.grpc.pb.h"

namespace raylet {

class HeadCalls {
 public:
  static constexpr Duration kReconnectMin = std::chrono::milliseconds(50);
  static constexpr Duration kReconnectMax = std::chrono::seconds(1);
  static constexpr Duration kKeepalive = std::chrono::seconds(10);

  using Methods = v1::Head::StubInterface::async_interface;
  template <typename Request, typename Reply>
  using Method = void (Methods::*)(grpc::ClientContext*, const Request*, Reply*,
                                   std::function<void(grpc::Status)>);

  // `token` is empty on a unix socket. `loop` outlives this.
  HeadCalls(Loop& loop, const std::string& address, std::string token);
  ~HeadCalls() { close(); }
  HeadCalls(const HeadCalls&) = delete;
  HeadCalls& operator=(const HeadCalls&) = delete;

  // `then(status, reply)` is called on the loop. `wait_max` of zero: for as long as it takes.
  template <typename Request, typename Reply, typename Then>
  void start(Method<Request, Reply> method, Request request, Duration wait_max, Then then) {
    auto call = std::make_shared<CallOf<Request, Reply>>();
    call->request = std::move(request);
    if (!token_.empty()) call->context.AddMetadata("authorization", "Bearer " + token_);
    if (wait_max > Duration::zero()) call->context.set_deadline(std::chrono::system_clock::now() + wait_max);
    calls_->insert(call);
    under_way_->begin();
    // The call goes to the loop with its answer, so that gRPC's thread never lets go of the last channel: gRPC
    // would then wait on that thread for that very thread to end.
    (stub_->async()->*method)(
        &call->context, &call->request, &call->reply,
        [weak = std::weak_ptr(calls_), call, then, where = &loop_,
         counter = under_way_](grpc::Status status) mutable {
          where->post([weak, call = std::move(call), then, status] {
            std::shared_ptr<Calls> open = weak.lock();
            if (!open) return;
            open->erase(call);
            then(status, call->reply);
          });
          counter->end();
        });
  }

  // Cancels what is under way and waits until gRPC is done with it.
  void close();

 private:
  struct Call {
    grpc::ClientContext context;
    virtual ~Call() = default;
  };
  template <typename Request, typename Reply>
  struct CallOf : Call {
    Request request;
    Reply reply;
  };
  using Calls = std::set<std::shared_ptr<Call>>;

  // How many calls gRPC still works on; outlives HeadCalls, because gRPC's threads count down.
  class UnderWay {
   public:
    void begin();
    void end();
    void wait_for_none();

   private:
    std::mutex mutex_;
    std::condition_variable none_left_;
    int count_ = 0;
  };

  Loop& loop_;
  std::string token_;
  std::unique_ptr<v1::Head::Stub> stub_;
  std::shared_ptr<Calls> calls_ = std::make_shared<Calls>();  // null when closed
  std::shared_ptr<UnderWay> under_way_ = std::make_shared<UnderWay>();
};

}  // namespace raylet
