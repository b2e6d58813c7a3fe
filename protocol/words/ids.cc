#include "protocol/words/ids.h"

namespace raylet {
namespace {

void append_big_endian(std::string& out, uint64_t value, int size_bytes) {
  for (int shift = 8 * (size_bytes - 1); shift >= 0; shift -= 8) {
    out.push_back(static_cast<char>(value >> shift));
  }
}

uint64_t read_big_endian(std::string_view in) {
  uint64_t value = 0;
  for (unsigned char byte : in) {
    value = (value << 8) | byte;
  }
  return value;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string to_hex(std::string_view binary) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * binary.size());
  for (unsigned char byte : binary) {
    hex.push_back(kDigits[byte >> 4]);
    hex.push_back(kDigits[byte & 15]);
  }
  return hex;
}

std::optional<std::string> from_hex(std::string_view hex) {
  if (hex.size() % 2 != 0) return std::nullopt;
  std::string binary;
  binary.reserve(hex.size() / 2);
  for (size_t i = 0; i < hex.size(); i += 2) {
    int high = hex_digit(hex[i]);
    int low = hex_digit(hex[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    binary.push_back(static_cast<char>(high << 4 | low));
  }
  return binary;
}

template <typename Tag>
std::string WideId<Tag>::binary() const {
  std::string out;
  out.reserve(kSizeBytes);
  append_big_endian(out, high, 8);
  append_big_endian(out, low, 8);
  return out;
}

template <typename Tag>
std::string WideId<Tag>::hex() const {
  return to_hex(binary());
}

template <typename Tag>
std::optional<WideId<Tag>> WideId<Tag>::from_binary(std::string_view binary) {
  if (binary.size() != kSizeBytes) return std::nullopt;
  return WideId{read_big_endian(binary.substr(0, 8)), read_big_endian(binary.substr(8, 8))};
}

template struct WideId<GraphTag>;
template struct WideId<JobTag>;
template struct WideId<NodeTag>;

std::string ObjectId::binary() const {
  std::string out;
  out.reserve(kSizeBytes);
  append_big_endian(out, graph.high, 8);
  append_big_endian(out, graph.low, 8);
  append_big_endian(out, task, 8);
  append_big_endian(out, index, 4);
  return out;
}

std::string ObjectId::hex() const { return to_hex(binary()); }

std::optional<ObjectId> ObjectId::from_binary(std::string_view binary) {
  if (binary.size() != kSizeBytes) return std::nullopt;
  return ObjectId{{read_big_endian(binary.substr(0, 8)), read_big_endian(binary.substr(8, 8))},
                  read_big_endian(binary.substr(16, 8)),
                  static_cast<uint32_t>(read_big_endian(binary.substr(24, 4)))};
}

std::optional<ObjectId> ObjectId::from_hex(std::string_view hex) {
  std::optional<std::string> binary = raylet::from_hex(hex);
  return binary ? from_binary(*binary) : std::nullopt;
}

}  // namespace raylet
