#include "gcs/record.h"

#include <array>
#include <limits>
#include <optional>

namespace raylet {
namespace {

constexpr uint8_t kRecordVersion = 1;
constexpr size_t kHeaderBytes = 2;
constexpr size_t kChecksumBytes = 4;

uint32_t crc32(std::string_view bytes) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> made{};
    for (uint32_t i = 0; i < made.size(); ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = (value & 1) ? (value >> 1) ^ 0xedb88320u : value >> 1;
      made[i] = value;
    }
    return made;
  }();
  uint32_t crc = 0xffffffffu;
  for (unsigned char byte : bytes) crc = table[(crc ^ byte) & 0xff] ^ (crc >> 8);
  return ~crc;
}

class Writer {
 public:
  explicit Writer(Table table, size_t expected_bytes = 0) {
    out_.reserve(expected_bytes + 64);
    out_.push_back(static_cast<char>(kRecordVersion));
    out_.push_back(static_cast<char>(table));
  }

  void number(uint64_t value, int size_bytes = 8) {
    for (int i = 0; i < size_bytes; ++i) out_.push_back(static_cast<char>(value >> (8 * i)));
  }
  void flag(bool value) { number(value, 1); }
  void text(std::string_view value) {
    MUST(value.size() <= std::numeric_limits<uint32_t>::max(), "a field of a record over 4 GiB");
    number(value.size(), 4);
    out_.append(value);
  }
  template <typename Id>
  void id(const Id& value) {
    out_.append(value.binary());
  }
  std::string finish() && { return with_checksum(std::move(out_)); }

 private:
  std::string out_;
};

// Reads fields in order; after the first that does not fit every further one is empty and ok() is false.
class Reader {
 public:
  Reader(std::string_view stored, Table table) {
    if (stored.size() < kHeaderBytes + kChecksumBytes) {
      fail("it has only " + std::to_string(stored.size()) + " bytes");
      return;
    }
    std::string_view checksum = stored.substr(stored.size() - kChecksumBytes);
    rest_ = stored.substr(0, stored.size() - kChecksumBytes);
    if (crc32(rest_) != little_endian(checksum)) {
      fail("its checksum is wrong");
      return;
    }
    uint64_t version = number(1);
    if (version != kRecordVersion) {
      fail("its version is " + std::to_string(version) + ", this head reads " + std::to_string(kRecordVersion));
      return;
    }
    uint64_t kind = number(1);
    if (kind != static_cast<uint64_t>(table)) fail("it belongs to table " + std::to_string(kind));
  }

  uint64_t number(size_t size_bytes = 8) { return little_endian(take(size_bytes)); }
  bool flag() {
    uint64_t value = number(1);
    if (value > 1) fail("a yes or no field is " + std::to_string(value));
    return value == 1;
  }
  std::string text() { return std::string(take(number(4))); }
  template <typename Id>
  Id id() {
    std::string_view binary = take(Id::kSizeBytes);
    return binary.empty() ? Id{} : *Id::from_binary(binary);
  }
  void fail(std::string why) {
    if (error_.empty()) error_ = std::move(why);
    rest_ = {};
  }
  bool ok() const { return error_.empty(); }

  template <typename Record>
  Result<Record> finish(Record record) {
    if (ok() && !rest_.empty()) fail(std::to_string(rest_.size()) + " bytes are left over");
    if (!ok()) return Error{Code::kDataLoss, "a stored record can't be read: " + error_};
    return record;
  }

 private:
  static uint64_t little_endian(std::string_view bytes) {
    uint64_t value = 0;
    for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
    return value;
  }
  std::string_view take(size_t size_bytes) {
    if (size_bytes > rest_.size()) {
      fail("a field runs over its end");
      return {};
    }
    std::string_view taken = rest_.substr(0, size_bytes);
    rest_.remove_prefix(size_bytes);
    return taken;
  }

  std::string_view rest_;
  std::string error_;
};

std::string big_endian(uint64_t value, int size_bytes) {
  std::string out;
  for (int shift = 8 * (size_bytes - 1); shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
  return out;
}

}  // namespace

std::string with_checksum(std::string body) {
  uint32_t checksum = crc32(body);
  for (size_t i = 0; i < kChecksumBytes; ++i) body.push_back(static_cast<char>(checksum >> (8 * i)));
  return body;
}

const char* to_string(Table table) {
  switch (table) {
    case Table::kNodes: return "nodes";
    case Table::kJobs: return "jobs";
    case Table::kGraphs: return "graphs";
    case Table::kNames: return "names";
  }
  MUST(false, "a table without a name");
}

std::string node_key(NodeId node) { return node.binary(); }

std::string job_key(JobId job) { return job.binary(); }

std::string graph_part_key(GraphId graph, uint32_t part) { return graph.binary() + big_endian(part, 4); }

std::string name_key(std::string_view name_space, std::string_view name) {
  std::string key = big_endian(name_space.size(), 4);
  key.append(name_space);
  key.append(name);
  return key;
}

std::string encode(const NodeRecord& record) {
  Writer out(Table::kNodes);
  out.id(record.node);
  out.number(record.incarnation.number);
  out.text(record.host);
  out.text(record.address);
  out.number(record.total.units().size(), 4);
  for (const auto& [name, units] : record.total.units()) {
    out.text(name);
    out.number(static_cast<uint64_t>(units));
  }
  out.number(record.labels.size(), 4);
  for (const auto& [name, value] : record.labels) {
    out.text(name);
    out.text(value);
  }
  out.number(record.pid);
  out.number(record.store_capacity_bytes);
  return std::move(out).finish();
}

Result<NodeRecord> decode_node(std::string_view stored) {
  Reader in(stored, Table::kNodes);
  NodeRecord record;
  record.node = in.id<NodeId>();
  record.incarnation = {in.number()};
  record.host = in.text();
  record.address = in.text();
  for (uint64_t left = in.number(4); left > 0 && in.ok(); --left) {
    std::string name = in.text();
    double amount = static_cast<double>(in.number()) / Resources::kUnitsPerWhole;
    if (!in.ok()) break;
    if (Status set = record.total.set(name, amount); !set.ok()) in.fail(set.error().message);
  }
  for (uint64_t left = in.number(4); left > 0 && in.ok(); --left) {
    std::string name = in.text();
    std::string value = in.text();
    record.labels[std::move(name)] = std::move(value);
  }
  record.pid = in.number();
  record.store_capacity_bytes = in.number();
  return in.finish(std::move(record));
}

std::string encode(const JobRecord& record) {
  Writer out(Table::kJobs);
  out.id(record.job);
  out.id(record.node);
  out.text(record.script);
  out.number(record.pid);
  return std::move(out).finish();
}

Result<JobRecord> decode_job(std::string_view stored) {
  Reader in(stored, Table::kJobs);
  JobRecord record;
  record.job = in.id<JobId>();
  record.node = in.id<NodeId>();
  record.script = in.text();
  record.pid = in.number();
  return in.finish(std::move(record));
}

std::string encode(const GraphPartRecord& record) {
  Writer out(Table::kGraphs, record.chunk.size());
  out.id(record.graph);
  out.id(record.job);
  out.id(record.owner);
  out.number(record.owner_incarnation.number);
  out.number(record.part, 4);
  out.flag(record.last);
  out.text(record.chunk);
  return std::move(out).finish();
}

Result<GraphPartRecord> decode_graph_part(std::string_view stored) {
  Reader in(stored, Table::kGraphs);
  GraphPartRecord record;
  record.graph = in.id<GraphId>();
  record.job = in.id<JobId>();
  record.owner = in.id<NodeId>();
  record.owner_incarnation = {in.number()};
  record.part = static_cast<uint32_t>(in.number(4));
  record.last = in.flag();
  record.chunk = in.text();
  return in.finish(std::move(record));
}

std::string encode(const NameRecord& record) {
  Writer out(Table::kNames);
  out.text(record.name_space);
  out.text(record.name);
  out.id(record.actor);
  out.id(record.job);
  out.id(record.node);
  out.flag(record.detached);
  out.text(record.handle);
  return std::move(out).finish();
}

Result<NameRecord> decode_name(std::string_view stored) {
  Reader in(stored, Table::kNames);
  NameRecord record;
  record.name_space = in.text();
  record.name = in.text();
  record.actor = in.id<ObjectId>();
  record.job = in.id<JobId>();
  record.node = in.id<NodeId>();
  record.detached = in.flag();
  record.handle = in.text();
  return in.finish(std::move(record));
}

}  // namespace raylet
