#include "daemons/kit/loop.h"

#include <algorithm>
#include <csignal>
#include <utility>

#include "daemons/kit/asio.h"

namespace raylet {
namespace {

constexpr auto kLagPeriod = std::chrono::milliseconds(100);

}  // namespace

struct Loop::Engine {
  asio::io_context io{1};
  asio::executor_work_guard<asio::io_context::executor_type> work = asio::make_work_guard(io);
  asio::signal_set signals{io, SIGTERM, SIGINT};
  asio::steady_timer lag_timer{io};
};

Loop::Loop() : engine_(std::make_unique<Engine>()), start_(std::chrono::steady_clock::now()) {
  std::signal(SIGPIPE, SIG_IGN);
  on_stop_signal([this] { stop(); });
}

Loop::~Loop() = default;

asio::io_context& Loop::io() { return engine_->io; }

Instant Loop::now() const {
  return {std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now() - start_).count()};
}

void Loop::post(std::function<void()> job) { asio::post(engine_->io, std::move(job)); }

void Loop::after(Duration wait, std::function<void()> job) {
  auto timer = std::make_shared<asio::steady_timer>(engine_->io, wait);
  timer->async_wait([timer, job = std::move(job)](boost::system::error_code error) {
    if (!error) job();
  });
}

void Loop::set_turn_end(std::function<void()> job) { turn_end_ = std::move(job); }

void Loop::request_turn_end() {
  if (turn_end_requested_) return;
  turn_end_requested_ = true;
  asio::post(engine_->io, [this] {
    turn_end_requested_ = false;
    turn_end_();
  });
}

void Loop::run() {
  measure_lag();
  engine_->io.run();
}

void Loop::stop() { engine_->io.stop(); }

void Loop::poll() {
  engine_->io.restart();
  engine_->io.poll();
}

void Loop::on_stop_signal(std::function<void()> handler) {
  engine_->signals.cancel();
  engine_->signals.async_wait([this, handler = std::move(handler)](boost::system::error_code error, int) {
    if (error) return;
    handler();
    on_stop_signal([this] { stop(); });  // the second signal is impatient
  });
}

void Loop::measure_lag() {
  auto due = std::chrono::steady_clock::now() + kLagPeriod;
  engine_->lag_timer.expires_at(due);
  engine_->lag_timer.async_wait([this, due](boost::system::error_code error) {
    if (error) return;
    double late = std::chrono::duration<double>(std::chrono::steady_clock::now() - due).count();
    lag_seconds_ += (late - lag_seconds_) * 0.2;
    measure_lag();
  });
}

struct Alarm::Timer {
  Timer(Loop& loop, std::function<void()> given_job) : job(std::move(given_job)), timer(loop.io()) {}
  std::function<void()> job;
  asio::steady_timer timer;
};

Alarm::Alarm(Loop& loop, std::function<void()> job)
    : loop_(loop), timer_(std::make_shared<Timer>(loop, std::move(job))) {}

Alarm::~Alarm() { clear(); }

void Alarm::set(Instant at) { set_after(at - loop_.now()); }

void Alarm::set_after(Duration wait) {
  timer_->timer.expires_after(std::max(wait, Duration::zero()));
  timer_->timer.async_wait([weak = std::weak_ptr(timer_)](boost::system::error_code error) {
    if (error) return;
    if (auto alive = weak.lock()) alive->job();
  });
}

void Alarm::clear() { timer_->timer.cancel(); }

}  // namespace raylet
