// spawn: starting one of our programs as a child, the same way for every daemon.
//
// A child gets its three standard descriptors and, if one was given, its channel as kChannelDescriptor, nothing
// else of ours. Its standard input is /dev/null. It leads a session of its own, so that Ctrl-C in a terminal
// reaches only whoever started it, its signals are as usual, and the kernel sends it `death_signal` when the
// thread that started it is gone.
#pragma once

#include <sys/types.h>

#include <csignal>
#include <string>
#include <vector>

#include "plasma/ipc/packet.h"
#include "protocol/words/result.h"

namespace raylet {

constexpr int kChannelDescriptor = 3;

struct ChildSpec {
  std::vector<std::string> arguments;    // arguments[0] is the program, looked up in PATH
  std::vector<std::string> environment;  // all of it, "NAME=value"
  std::string log_path;                  // standard output and error append here
  int death_signal = SIGKILL;
  FileDescriptor channel = {};           // one end of a packet socket; invalid: none
};

// Returns when the program was executed. An Error names the program and the reason; no child is left then.
Result<pid_t> spawn(ChildSpec spec);

// This process's environment with `changes` ("NAME=value") laid over it.
std::vector<std::string> environment_with(const std::vector<std::string>& changes);

}  // namespace raylet
