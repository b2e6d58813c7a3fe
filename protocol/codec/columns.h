// What decoders of columnar messages share: packed columns to vectors and back, and the check of a limit.
#pragma once

#include <google/protobuf/repeated_field.h>

#include <cstdint>
#include <string>
#include <vector>

#include "protocol/words/result.h"

namespace raylet {

template <typename T>
std::vector<T> take_column(const google::protobuf::RepeatedField<T>& from) {
  return std::vector<T>(from.data(), from.data() + from.size());
}

template <typename T>
void put_column(const std::vector<T>& from, google::protobuf::RepeatedField<T>* to) {
  to->Add(from.begin(), from.end());
}

inline Status check_at_most(const char* what, uint64_t value, uint64_t value_max) {
  if (value <= value_max) return Done{};
  return invalid(std::string(what) + ": at most " + std::to_string(value_max) + ", got " + std::to_string(value));
}

}  // namespace raylet
