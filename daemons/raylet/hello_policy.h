// HelloPolicy: which clients a node talks to. What one process pickles another must unpickle, so the versions
// that decide that have to agree, and a refusal names the one that does not.
#pragma once

#include <string>

#include "protocol/wire/session.pb.h"
#include "protocol/words/failure.h"

namespace raylet {

constexpr uint32_t kSessionProtocolVersion = 1;

// What the node's workers run; told by the zygote. Empty: not known (null workers), not compared.
struct WorkerVersions {
  std::string python;
  std::string cloudpickle;
};

// Code kNone: welcome.
Failure check_hello(const v1::Hello& hello, const WorkerVersions& workers);

}  // namespace raylet
