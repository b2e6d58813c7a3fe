// Loop: a daemon's one thread. Everything that touches a core or a link runs on it; other threads (gRPC's,
// the pool's) only post().
//
// A turn is one round of whatever is ready. Handlers collect events, and at_turn_end() runs once after them,
// which is where a core is stepped with all of them: batches grow under load and no timer delays anything.
#pragma once

#include <functional>
#include <memory>

#include "daemons/kit/asio.h"
#include "protocol/words/time.h"

namespace raylet {

class Loop {
 public:
  Loop();

  asio::io_context& io() { return io_; }

  // The process's monotonic clock, from 0 at the loop's making. The only reader of a clock that cores see.
  Instant now() const;

  // From any thread.
  void post(std::function<void()> job);

  // Asks for one call of `job`, set once by set_turn_end, after the handlers that are ready now. On the loop.
  void set_turn_end(std::function<void()> job);
  void request_turn_end();

  // Until stop(). SIGTERM and SIGINT call the handler once each; without one they stop the loop.
  void run();
  void stop();
  void on_stop_signal(std::function<void()> handler);

  // How late the loop is: a posted job's wait, an exponential mean, in seconds. For metrics.
  double lag_seconds() const { return lag_seconds_; }

 private:
  void measure_lag();

  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  asio::signal_set signals_;
  asio::steady_timer lag_timer_;
  std::chrono::steady_clock::time_point start_;
  std::function<void()> turn_end_;
  bool turn_end_requested_ = false;
  double lag_seconds_ = 0;
};

// One deadline that can be moved. Runs its job on the loop.
class Alarm {
 public:
  Alarm(Loop& loop, std::function<void()> job);
  // Replaces the instant set before.
  void set(Instant at);
  void set_after(Duration wait);
  void clear();

 private:
  Loop& loop_;
  std::shared_ptr<std::function<void()>> job_;
  asio::steady_timer timer_;
};

}  // namespace raylet
