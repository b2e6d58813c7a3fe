// LocalDriver: a driver on this machine, over the raylet's socket, with shared memory.
#pragma once

#include "daemons/raylet/driver_session.h"
#include "daemons/raylet/local_carrier.h"

namespace raylet {

class LocalDriver : public DriverSession {
 public:
  LocalDriver(Loop& loop, SessionHost& host, FileDescriptor socket);

  void answer(const AnswerGet& effect) override;
  void grant(const GrantSlab& effect) override;
  size_t queued_bytes() const override;
  void forget_segments() { carrier_.forget_segments(); }

 private:
  Status write(const v1::ServerFrame& frame) override { return carrier_.send(frame); }
  bool take_own(v1::ClientFrame& frame) override;
  void close_carrier() override { carrier_.close(); }

  LocalCarrier carrier_;
};

}  // namespace raylet
