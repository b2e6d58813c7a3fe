// Loop: a daemon's one thread. Everything that touches a core or a link runs on it; other threads (gRPC's,
// the pool's) only post().
//
// A turn is one round of whatever is ready. Handlers collect events, and at_turn_end() runs once after them,
// which is where a core is stepped with all of them: batches grow under load and no timer delays anything.
//
// Asio runs it and is seen by the few files that include asio.h: it takes each of them 2 s longer to compile.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "protocol/words/time.h"

namespace boost::asio {
class io_context;
}

namespace raylet {

class Loop {
 public:
  Loop();
  ~Loop();

  // For those who include daemons/kit/asio.h.
  boost::asio::io_context& io();

  // The process's monotonic clock, from 0 at the loop's making. The only reader of a clock that cores see.
  Instant now() const;

  // From any thread.
  void post(std::function<void()> job);

  // Runs `job` once when `wait` is over, unless the loop has ended. On the loop.
  void after(Duration wait, std::function<void()> job);

  // Asks for one call of `job`, set once by set_turn_end, after the handlers that are ready now. On the loop.
  void set_turn_end(std::function<void()> job);
  void request_turn_end();

  // Until stop(). SIGTERM and SIGINT call the handler once each; without one they stop the loop.
  void run();
  void stop();
  void on_stop_signal(std::function<void()> handler);
  // Runs what is ready, without waiting; also when it was stopped.
  void poll();

  // How late the loop is: a posted job's wait, an exponential mean, in seconds. For metrics.
  double lag_seconds() const { return lag_seconds_; }

 private:
  void measure_lag();

  struct Engine;
  std::unique_ptr<Engine> engine_;
  std::chrono::steady_clock::time_point start_;
  std::function<void()> turn_end_;
  bool turn_end_requested_ = false;
  double lag_seconds_ = 0;
};

// One deadline that can be moved. Runs its job on the loop.
class Alarm {
 public:
  Alarm(Loop& loop, std::function<void()> job);
  ~Alarm();
  // Replaces the instant set before.
  void set(Instant at);
  void set_after(Duration wait);
  void clear();

 private:
  struct Timer;
  Loop& loop_;
  std::shared_ptr<Timer> timer_;
};

}  // namespace raylet
