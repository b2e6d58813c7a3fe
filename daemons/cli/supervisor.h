// Supervisor: keeps one node's programs running, and ends them all together.
//
// Redis and gcs are started again when they die (restart_policy says how often); the node goes on meanwhile.
// rayletd holds the node's work, so its death ends the node. Whatever way it ends, no process and no socket
// of the node stays: orphans come to this process (it is their subreaper) and are ended too.
//
// One thread, one poll; nothing here may block longer than kPollMs while the node runs.
#pragma once

#include <functional>
#include <string>

#include "daemons/cli/child_process.h"
#include "daemons/cli/node_plan.h"
#include "daemons/cli/restart_policy.h"
#include "daemons/cli/session_directory.h"
#include "protocol/words/result.h"

namespace raylet {

class Supervisor {
 public:
  static constexpr int kStartWaitMs = 30'000;  // until every program answers
  static constexpr int kPollMs = 2;            // how often a program that starts is asked
  static constexpr int kRayletStopMs = 3'000;  // after SIGTERM; then SIGKILL
  static constexpr int kHeadStopMs = 1'000;
  static constexpr int kRedisStopMs = 700;
  static constexpr int kOrphanStopMs = 200;

  struct Options {
    int lifeline = -1;              // a pipe's read end: its end stops the node
    bool ignore_interrupt = false;  // Ctrl-C is somebody else's business
    bool wait_for_store = true;     // a driver needs no store for its first task, people may look at once
  };
  Supervisor(NodePlan plan, SessionDirectory& session, Options options);
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;

  // All programs run and answer, or the error that says which does not and what its log says last. After an
  // error nothing runs any more.
  Status start();

  // Until the node ends. An error: it ended because something broke.
  Status run();

 private:
  struct Program {
    Command command;
    ChildProcess process;
    RestartPolicy policy;
    uint64_t start_at_ms = 0;  // when it is due again; 0: not due
    int stop_ms = 0;
  };

  Status start_program(Program& program);
  Status wait_until_ready();
  // How the wait in poll ended.
  struct Turn {
    bool stop = false;
    Status broken = Done{};  // set: the node can't go on
  };
  Turn turn(int wait_ms);
  bool take_signals();
  Status take_deaths();
  Status start_what_is_due();
  int wait_ms() const;

  void stop_all();
  void stop_program(Program& program);
  void end_orphans();
  Status write_node_json(const std::string& state, const std::string& error) const;
  std::string last_words(const Program& program) const;

  NodePlan plan_;
  SessionDirectory& session_;
  Options options_;
  int signals_ = -1;
  bool ready_ = false;
  Program redis_, gcs_, rayletd_;
};

}  // namespace raylet
