// ChildProcess: one program that the supervisor started, from its start to its death.
//
// The kernel sends it SIGTERM should the supervisor die without a word. What else it inherits says
// daemons/kit/spawn.h.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "protocol/words/result.h"

namespace raylet {

class ChildProcess {
 public:
  ChildProcess() = default;
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ~ChildProcess();

  // `arguments` begins with the program's path or name. `environment` lines are added to ours ("A=b").
  static Result<ChildProcess> start(const std::vector<std::string>& arguments,
                                    const std::vector<std::string>& environment, const std::string& log_path);

  bool running() const { return pid_ > 0; }
  pid_t pid() const { return pid_; }
  // Readable when the process has ended; for poll. -1 when none runs.
  int descriptor() const { return descriptor_; }

  void signal(int number) const;
  // Takes the death note if the process has ended: "exited with 1", "was killed by signal 9 (Killed)". Empty
  // while it runs.
  std::string reap();

 private:
  void close_descriptor();
  pid_t pid_ = -1;
  int descriptor_ = -1;
};

}  // namespace raylet
