#include "daemons/kit/loop.h"

#include <csignal>

namespace raylet {
namespace {

constexpr auto kLagPeriod = std::chrono::milliseconds(100);

}  // namespace

Loop::Loop()
    : work_(asio::make_work_guard(io_)),
      signals_(io_, SIGTERM, SIGINT),
      lag_timer_(io_),
      start_(std::chrono::steady_clock::now()) {
  std::signal(SIGPIPE, SIG_IGN);
  on_stop_signal([this] { stop(); });
}

Instant Loop::now() const {
  return {std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now() - start_).count()};
}

void Loop::post(std::function<void()> job) { asio::post(io_, std::move(job)); }

void Loop::set_turn_end(std::function<void()> job) { turn_end_ = std::move(job); }

void Loop::request_turn_end() {
  if (turn_end_requested_) return;
  turn_end_requested_ = true;
  asio::post(io_, [this] {
    turn_end_requested_ = false;
    turn_end_();
  });
}

void Loop::run() {
  measure_lag();
  io_.run();
}

void Loop::stop() { io_.stop(); }

void Loop::on_stop_signal(std::function<void()> handler) {
  signals_.cancel();
  signals_.async_wait([this, handler = std::move(handler)](boost::system::error_code error, int) {
    if (error) return;
    handler();
    on_stop_signal([this] { stop(); });  // the second signal is impatient
  });
}

void Loop::measure_lag() {
  auto due = std::chrono::steady_clock::now() + kLagPeriod;
  lag_timer_.expires_at(due);
  lag_timer_.async_wait([this, due](boost::system::error_code error) {
    if (error) return;
    double late = std::chrono::duration<double>(std::chrono::steady_clock::now() - due).count();
    lag_seconds_ += (late - lag_seconds_) * 0.2;
    measure_lag();
  });
}

Alarm::Alarm(Loop& loop, std::function<void()> job)
    : loop_(loop), job_(std::make_shared<std::function<void()>>(std::move(job))), timer_(loop.io()) {}

void Alarm::set(Instant at) { set_after(at - loop_.now()); }

void Alarm::set_after(Duration wait) {
  timer_.expires_after(std::max(wait, Duration::zero()));
  timer_.async_wait([weak = std::weak_ptr(job_)](boost::system::error_code error) {
    if (error) return;
    if (auto job = weak.lock()) (*job)();
  });
}

void Alarm::clear() { timer_.cancel(); }

}  // namespace raylet
