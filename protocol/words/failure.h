// Failure: why a task has no result or an object can't be had; travels in place of the value.
#pragma once

#include <cstdint>
#include <string>

#include "protocol/words/bytes.h"

namespace raylet {

// One to one with ErrorCode in protocol/wire/common.proto.
enum class FailureCode : uint8_t {
  kNone = 0,
  kTaskRaised = 1,
  kTaskUnpicklable = 2,
  kTaskCancelled = 3,
  kWorkerCrashed = 4,
  kObjectLost = 5,
  kObjectStoreFull = 6,
  kObjectTooLarge = 7,
  kActorDied = 8,
  kActorNameTaken = 9,
  kActorNotFound = 10,
  kNodeDied = 11,
  kGraphInvalid = 12,
  kRequestInvalid = 13,
  kObjectUnknown = 14,
  kOutOfMemory = 15,
  kLimitExceeded = 16,
  kVersionMismatch = 17,
  kUnavailable = 18,
};

struct Failure {
  FailureCode code = FailureCode::kNone;
  std::string message;
  std::string task_name;
  Bytes cause;
  std::string traceback;
  uint64_t pid = 0;
};

}  // namespace raylet
