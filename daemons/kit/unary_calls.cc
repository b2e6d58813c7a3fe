#include "daemons/kit/unary_calls.h"

#include <utility>

namespace raylet {

grpc::ServerUnaryReactor* UnaryCalls::answer(grpc::CallbackServerContext* context, std::function<void()> fill) {
  count_one();
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  loop_.post([reactor, fill = std::move(fill)] {
    fill();
    reactor->Finish(grpc::Status::OK);
  });
  return reactor;
}

}  // namespace raylet
