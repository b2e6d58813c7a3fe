// Starting the programs a raylet lives with: its store and its zygote.
//
// A child gets descriptor kChannelDescriptor (one end of a packet socket) and its three standard ones, nothing
// else. It leads a session of its own, so that Ctrl-C in a terminal does not reach it, and the kernel kills it
// when the thread that started it (the loop's) is gone.
#pragma once

#include <sys/types.h>

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
  FileDescriptor channel;
};

// An Error names the program and the reason, a program that can't be executed among them.
Result<pid_t> start_child(ChildSpec spec);

// This process's environment with `changes` ("NAME=value") laid over it.
std::vector<std::string> environment_with(const std::vector<std::string>& changes);

// At most `bytes_max` of the end of a file, from a line's start where there is one; empty if it can't be read.
std::string read_tail(const std::string& path, size_t bytes_max);

}  // namespace raylet
