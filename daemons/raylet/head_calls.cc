#include "daemons/raylet/head_calls.h"

namespace raylet {
namespace {

std::shared_ptr<grpc::Channel> make_channel(const std::string& address) {
  grpc::ChannelArguments arguments;
  auto set_ms = [&](const char* name, Duration value) {
    arguments.SetInt(name, static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(value).count()));
  };
  set_ms(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, HeadCalls::kReconnectMin);
  set_ms(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, HeadCalls::kReconnectMax);
  set_ms(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, HeadCalls::kReconnectMax);
  set_ms(GRPC_ARG_KEEPALIVE_TIME_MS, HeadCalls::kKeepalive);
  set_ms(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, HeadCalls::kKeepalive);
  arguments.SetMaxSendMessageSize(-1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

void HeadCalls::UnderWay::begin() {
  std::lock_guard lock(mutex_);
  ++count_;
}

void HeadCalls::UnderWay::end() {
  std::lock_guard lock(mutex_);
  if (--count_ == 0) none_left_.notify_all();
}

void HeadCalls::UnderWay::wait_for_none() {
  std::unique_lock lock(mutex_);
  none_left_.wait(lock, [this] { return count_ == 0; });
}

HeadCalls::HeadCalls(Loop& loop, const std::string& address, std::string token)
    : loop_(loop), token_(std::move(token)), stub_(v1::Head::NewStub(make_channel(address))) {}

void HeadCalls::close() {
  if (!calls_) return;
  for (const std::shared_ptr<Call>& call : *calls_) call->context.TryCancel();
  calls_.reset();
  under_way_->wait_for_none();
}

}  // namespace raylet
