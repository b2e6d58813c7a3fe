// Result<T>: a value, or an Error that says what was expected, what came and what to do.
//
// In the shape of std::expected, which this compiler lacks. Codes are gRPC's, one to one, so that an error
// keeps its meaning on the way to a client. Dropping a Result is a compiler warning.
#pragma once

#include <string>
#include <utility>
#include <variant>

#include "protocol/words/check.h"

namespace raylet {

enum class Code {
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};

struct Error {
  Code code = Code::kUnknown;
  std::string message;
  bool operator==(const Error&) const = default;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}
  Result(Error error) : state_(std::move(error)) {}

  bool ok() const { return std::holds_alternative<T>(state_); }
  explicit operator bool() const { return ok(); }

  // REQUIRES: ok().
  T& value() & { return must_hold(), std::get<T>(state_); }
  const T& value() const& { return must_hold(), std::get<T>(state_); }
  T&& value() && { return must_hold(), std::get<T>(std::move(state_)); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }

  // REQUIRES: !ok().
  const Error& error() const {
    MUST(!ok(), "error() of a Result that holds a value");
    return std::get<Error>(state_);
  }

 private:
  void must_hold() const { MUST(ok(), "value() of a Result that holds an error"); }
  std::variant<T, Error> state_;
};

// Success without a value.
struct Done {
  bool operator==(const Done&) const = default;
};
using Status = Result<Done>;

inline Error invalid(std::string message) { return {Code::kInvalidArgument, std::move(message)}; }

}  // namespace raylet

// Returns the error of `expression` from the function around it, if there is one.
#define RETURN_IF_ERROR(expression)                        \
  do {                                                     \
    if (auto status_ = (expression); !status_.ok()) {      \
      return status_.error();                              \
    }                                                      \
  } while (false)
