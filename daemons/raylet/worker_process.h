// WorkerProcess: one worker, from the wish to start it until its process is dead and its last frames are read.
//
// Its session is a socket pair made here. The worker gets one end through the zygote, and a duplicate of that
// end stays, so that batches the worker has not read can be taken back even while it sits in a long call.
#pragma once

#include <sys/types.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "daemons/raylet/core/effects.h"
#include "daemons/raylet/local_carrier.h"

namespace raylet {

class WorkerProcess {
 public:
  enum class State {
    kForking,   // the zygote was asked
    kGreeting,  // the process exists, its hello is awaited
    kArrived,
    kGone,
  };

  WorkerProcess(Loop& loop, SegmentTable& segments, WorkerId worker, SessionId session, SocketPair pair,
                LocalCarrier::Handlers handlers);

  WorkerId worker() const { return worker_; }
  SessionId session() const { return session_; }
  LocalCarrier& carrier() { return carrier_; }
  // For the zygote.
  FileDescriptor duplicate_their_end() const { return their_end_.duplicate(); }

  // `setup`: of the job, with the worker's first batch. An Error: the batch is too large to be sent.
  Status send_batch(const SendBatch& effect, const Bytes& setup);
  // Takes back whole batches that the worker has not read. What else comes out is sent again in its order.
  std::vector<uint64_t> retract();
  // CancelTask and the signal that makes a worker in user code look.
  void interrupt(const InterruptTask& effect);
  void signal(int number);

  State state = State::kForking;
  pid_t pid = 0;
  pid_t claimed_pid = 0;     // by its hello, which may come before the zygote's word
  int tries = 1;             // how often the zygote was asked
  JobId job;                 // from its first batch on
  bool stop_asked = false;   // by a StopWorker effect; its death is no surprise
  bool kill_sent = false;    // by us
  std::string stdout_path;
  std::string stderr_path;

 private:
  // Numbers of batches that are remembered as read or unread.
  static constexpr size_t kSentNumbersMax = 1'024;

  const WorkerId worker_;
  const SessionId session_;
  FileDescriptor their_end_;
  LocalCarrier carrier_;
  std::deque<uint64_t> sent_numbers_;  // without those taken back
  v1::ServerFrame batch_frame_;        // reused, to keep its columns' memory
};

}  // namespace raylet
