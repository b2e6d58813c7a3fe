// DriverSession: one driver's conversation with its raylet, whatever carries it.
//
// It begins with a Hello within kHelloWaitMax, whose versions are checked against the workers'. After that each
// frame becomes an event of the node, or is refused and changes nothing. A driver that sends graph chunks it
// has no credit for, or does not read what it is sent, is closed with a reason; nothing else of what it says
// closes it but a frame that can't be parsed. A session is refused or closed, the raylet never falls.
#pragma once

#include <memory>
#include <string>

#include "daemons/kit/loop.h"
#include "daemons/raylet/core/effects.h"
#include "daemons/raylet/session_host.h"

namespace raylet {

class DriverSession {
 public:
  static constexpr Duration kHelloWaitMax = std::chrono::seconds(5);
  // What may wait for a driver that does not read. A packet counts as kPacketCostBytes more than it holds.
  static constexpr size_t kQueuedBytesMax = 256 << 20;
  static constexpr size_t kPacketCostBytes = 512;
  // A driver's output lines are dropped rather than queued beyond this.
  static constexpr size_t kQueuedForOutputMax = 4 << 20;

  DriverSession(Loop& loop, SessionHost& host, bool local);
  virtual ~DriverSession() = default;
  DriverSession(const DriverSession&) = delete;

  SessionId id() const { return id_; }
  const JobId& job() const { return job_; }
  bool is_local() const { return local_; }
  bool is_welcome() const { return state_ == State::kWelcome; }
  uint64_t pid() const { return pid_; }

  // In their order. A frame that the queue has no room for closes the session.
  void send(const v1::ServerFrame& frame);
  virtual void answer(const AnswerGet& effect) = 0;
  virtual void grant(const GrantSlab& effect) = 0;
  void give_credit(const GiveCredit& effect);
  // Says why, as far as the peer still listens, and closes.
  void close(const std::string& reason);
  virtual size_t queued_bytes() const = 0;

 protected:
  // Of a carrier: a frame came, or the peer is gone.
  void take(v1::ClientFrame frame, size_t wire_bytes);
  void lost(const std::string& reason);
  // Refuses a frame as a whole.
  void refuse(const v1::ClientFrame& frame, const std::string& message);

  // Sends without looking at queues. An Error is the frame's own fault.
  virtual Status write(const v1::ServerFrame& frame) = 0;
  // Frames that belong to this carrier alone. False: not one of them.
  virtual bool take_own(v1::ClientFrame& frame) = 0;
  virtual void close_carrier() = 0;
  // Expires with the session; for jobs that outlive a turn.
  std::weak_ptr<int> alive() const { return alive_; }

  SessionHost& host_;

 private:
  enum class State { kNew, kGreeting, kWelcome, kClosed };
  void take_hello(const v1::Hello& hello);
  void finish_hello(const v1::Hello& hello, const WorkerVersions& versions, const std::string& trouble);
  void refuse_hello(v1::ErrorCode code, const std::string& message);
  void leave(bool goodbye, const std::string& reason);

  const bool local_;
  SessionId id_;
  JobId job_;
  uint64_t pid_ = 0;
  State state_ = State::kNew;
  int64_t credit_bytes_ = 0;
  uint64_t owed_bytes_ = 0;         // credit that is not worth a frame yet
  uint64_t credit_step_bytes_ = 0;  // what is: a sixteenth of all
  Alarm hello_alarm_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace raylet
