// Bytes: an immutable run of bytes that several owners share without a copy. Cores carry them and never
// look inside. A null pointer means "no bytes", which is not the same as zero bytes.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

namespace raylet {

using Bytes = std::shared_ptr<const std::string>;

inline Bytes make_bytes(std::string content) { return std::make_shared<const std::string>(std::move(content)); }

inline size_t size_bytes(const Bytes& bytes) { return bytes ? bytes->size() : 0; }

}  // namespace raylet
