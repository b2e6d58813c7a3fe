#include "protocol/codec/id_codec.h"

#include <cstring>

#include "protocol/codec/limits.h"

namespace raylet {
namespace {

uint64_t load_big_endian_64(const char* from) {
  uint64_t value;
  std::memcpy(&value, from, sizeof value);
  return __builtin_bswap64(value);
}

uint32_t load_big_endian_32(const char* from) {
  uint32_t value;
  std::memcpy(&value, from, sizeof value);
  return __builtin_bswap32(value);
}

ObjectId load_object_id(const char* from) {
  return {{load_big_endian_64(from), load_big_endian_64(from + 8)},
          load_big_endian_64(from + 16),
          load_big_endian_32(from + 24)};
}

template <typename Id>
Result<Id> decode_wide_id(std::string_view bytes, const char* what) {
  std::optional<Id> id = Id::from_binary(bytes);
  if (!id || id->is_nil()) {
    return invalid(std::string(what) + ": expected an id of 16 bytes, not all zero, got " +
                   std::to_string(bytes.size()) + " bytes");
  }
  return *id;
}

}  // namespace

Result<std::vector<ObjectId>> decode_object_ids(std::string_view bytes, const char* what) {
  if (bytes.size() % ObjectId::kSizeBytes != 0) {
    return invalid(std::string(what) + ": expected ids of 28 bytes each, got " + std::to_string(bytes.size()) +
                   " bytes");
  }
  size_t count = bytes.size() / ObjectId::kSizeBytes;
  if (count > kIdsPerFrameMax) {
    return invalid(std::string(what) + ": at most " + std::to_string(kIdsPerFrameMax) + " ids fit a frame, got " +
                   std::to_string(count) + "; send them in several");
  }
  std::vector<ObjectId> ids;
  ids.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    ids.push_back(load_object_id(bytes.data() + i * ObjectId::kSizeBytes));
    if (ids.back().is_nil()) return invalid(std::string(what) + ": id " + std::to_string(i) + " is all zeros");
  }
  return ids;
}

Result<ObjectId> decode_object_id(std::string_view bytes, const char* what) {
  if (bytes.size() != ObjectId::kSizeBytes) {
    return invalid(std::string(what) + ": expected an object id of 28 bytes, got " + std::to_string(bytes.size()) +
                   " bytes");
  }
  ObjectId id = load_object_id(bytes.data());
  if (id.is_nil()) return invalid(std::string(what) + ": expected an object id, got all zeros");
  return id;
}

Result<GraphId> decode_graph_id(std::string_view bytes, const char* what) {
  return decode_wide_id<GraphId>(bytes, what);
}

Result<JobId> decode_job_id(std::string_view bytes, const char* what) {
  return decode_wide_id<JobId>(bytes, what);
}

void append_object_id(const ObjectId& id, std::string* out) {
  uint64_t wide[3] = {__builtin_bswap64(id.graph.high), __builtin_bswap64(id.graph.low),
                      __builtin_bswap64(id.task)};
  uint32_t index = __builtin_bswap32(id.index);
  char bytes[ObjectId::kSizeBytes];
  std::memcpy(bytes, wide, sizeof wide);
  std::memcpy(bytes + sizeof wide, &index, sizeof index);
  out->append(bytes, sizeof bytes);
}

std::string encode_object_ids(const std::vector<ObjectId>& ids) {
  std::string out;
  out.reserve(ids.size() * ObjectId::kSizeBytes);
  for (const ObjectId& id : ids) append_object_id(id, &out);
  return out;
}

}  // namespace raylet
