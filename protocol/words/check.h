// MUST: a condition that only a bug of ours can break. It stays on in production and stops the process
// with the place and a message; what a peer or the machine can cause is a Result instead (result.h).
// It is not called CHECK because Catch2 takes that name for its own.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace raylet {

[[noreturn]] inline void must_failed(const char* condition, const char* file, int line, const char* message) {
  std::fprintf(stderr, "%s:%d: MUST failed: %s%s%s\n", file, line, condition, *message ? ": " : "", message);
  std::fflush(stderr);
  std::abort();
}

}  // namespace raylet

#define RAYLET_MUST_1(condition) \
  ((condition) ? void(0) : ::raylet::must_failed(#condition, __FILE__, __LINE__, ""))
#define RAYLET_MUST_2(condition, message) \
  ((condition) ? void(0) : ::raylet::must_failed(#condition, __FILE__, __LINE__, message))
#define RAYLET_MUST_PICK(one, two, name, ...) name
#define MUST(...) RAYLET_MUST_PICK(__VA_ARGS__, RAYLET_MUST_2, RAYLET_MUST_1, )(__VA_ARGS__)
