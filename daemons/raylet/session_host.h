// What the raylet's connections ask of the raylet. Implemented by Raylet; everything on the loop.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "daemons/raylet/core/events.h"
#include "daemons/raylet/hello_policy.h"
#include "daemons/raylet/segment_table.h"
#include "protocol/wire/session.pb.h"

namespace raylet {

class DriverSession;

class SessionHost {
 public:
  virtual ~SessionHost() = default;

  // For the next step, which comes at the end of this turn.
  virtual void tell(Event event) = 0;
  // Calls `job` once the events told so far were stepped and their effects performed.
  virtual void after_step(std::function<void()> job) = 0;
  virtual SessionId next_session() = 0;
  virtual SegmentTable& segments() = 0;

  // Calls `job` when the workers' versions are known, or can't be: then with the reason.
  virtual void when_versions_known(std::function<void(const WorkerVersions&, const std::string& trouble)> job) = 0;
  virtual v1::HelloReply welcome(SessionId session, const JobId& job) = 0;

  // A driver said hello and may be sent effects from now on, until driver_left.
  virtual void driver_arrived(DriverSession& session, const v1::Hello& hello) = 0;
  // REQUIRES: the session is destroyed by nobody but driver_left's later turn.
  virtual void driver_left(DriverSession& session, bool goodbye, const std::string& reason) = 0;
};

// The failure of a call that came too late or too early, in the words of the wire.
void fill_failure(v1::Failure* message, v1::ErrorCode code, std::string text);

}  // namespace raylet
