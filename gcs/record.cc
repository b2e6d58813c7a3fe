#include "gcs/record.h"

#include <array>
#include <limits>
#include <utility>

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

// The fields of each kind of record in their order, told once: to the writer and to the reader.
template <typename Record>
struct Layout;

template <>
struct Layout<NodeRecord> {
  static constexpr Table kTable = Table::kNodes;
  static void visit(auto& fields, auto& record) {
    fields(record.node, record.incarnation, record.host, record.address, record.total, record.labels, record.pid,
           record.store_capacity_bytes);
  }
};

template <>
struct Layout<JobRecord> {
  static constexpr Table kTable = Table::kJobs;
  static void visit(auto& fields, auto& record) { fields(record.job, record.node, record.script, record.pid); }
};

template <>
struct Layout<GraphPartRecord> {
  static constexpr Table kTable = Table::kGraphs;
  static void visit(auto& fields, auto& record) {
    fields(record.graph, record.job, record.owner, record.owner_incarnation, record.part, record.last,
           record.chunk);
  }
};

template <>
struct Layout<NameRecord> {
  static constexpr Table kTable = Table::kNames;
  static void visit(auto& fields, auto& record) {
    fields(record.name_space, record.name, record.actor, record.job, record.node, record.detached, record.handle);
  }
};

class Writer {
 public:
  explicit Writer(Table table, size_t expected_bytes) {
    out_.reserve(expected_bytes);
    number(kRecordVersion, 1);
    number(static_cast<uint64_t>(table), 1);
  }

  template <typename... Field>
  void operator()(const Field&... fields) {
    (write(fields), ...);
  }
  std::string finish() && { return with_checksum(std::move(out_)); }

 private:
  void number(uint64_t value, int size_bytes) {
    for (int i = 0; i < size_bytes; ++i) out_.push_back(static_cast<char>(value >> (8 * i)));
  }
  void write(uint64_t value) { number(value, 8); }
  void write(uint32_t value) { number(value, 4); }
  void write(bool value) { number(value, 1); }
  void write(const Incarnation& value) { write(value.number); }
  void write(const std::string& value) {
    MUST(value.size() <= std::numeric_limits<uint32_t>::max(), "a field of a record over 4 GiB");
    number(value.size(), 4);
    out_.append(value);
  }
  void write(const Resources& value) {
    number(value.units().size(), 4);
    for (const auto& [name, units] : value.units()) {
      write(name);
      write(static_cast<uint64_t>(units));
    }
  }
  void write(const std::map<std::string, std::string>& value) {
    number(value.size(), 4);
    for (const auto& [name, text] : value) {
      write(name);
      write(text);
    }
  }
  template <typename Id>
    requires requires { Id::kSizeBytes; }
  void write(const Id& value) {
    out_.append(value.binary());
  }

  std::string out_;
};

// Reads fields in order; after the first that does not fit every further one is empty.
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

  template <typename... Field>
  void operator()(Field&... fields) {
    (read(fields), ...);
  }

  template <typename Record>
  Result<Record> finish(Record record) {
    if (ok() && !rest_.empty()) fail(std::to_string(rest_.size()) + " bytes are left over");
    if (!ok()) return Error{Code::kDataLoss, "a stored record can't be read: " + error_};
    return record;
  }

 private:
  void read(uint64_t& value) { value = number(8); }
  void read(uint32_t& value) { value = static_cast<uint32_t>(number(4)); }
  void read(bool& value) {
    uint64_t came = number(1);
    if (came > 1) fail("a yes or no field is " + std::to_string(came));
    value = came == 1;
  }
  void read(Incarnation& value) { read(value.number); }
  void read(std::string& value) { value = take(number(4)); }
  void read(Resources& value) {
    for (uint64_t left = number(4); left > 0 && ok(); --left) {
      std::string name(take(number(4)));
      double amount = static_cast<double>(number(8)) / Resources::kUnitsPerWhole;
      if (!ok()) return;
      if (Status set = value.set(name, amount); !set.ok()) fail(set.error().message);
    }
  }
  void read(std::map<std::string, std::string>& value) {
    for (uint64_t left = number(4); left > 0 && ok(); --left) {
      std::string name(take(number(4)));
      read(value[std::move(name)]);
    }
  }
  template <typename Id>
    requires requires { Id::kSizeBytes; }
  void read(Id& value) {
    std::string_view binary = take(Id::kSizeBytes);
    value = binary.empty() ? Id{} : *Id::from_binary(binary);
  }

  uint64_t number(size_t size_bytes) { return little_endian(take(size_bytes)); }
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
  void fail(std::string why) {
    if (error_.empty()) error_ = std::move(why);
    rest_ = {};
  }
  bool ok() const { return error_.empty(); }

  std::string_view rest_;
  std::string error_;
};

template <typename Record>
std::string encode_as_laid_out(const Record& record, size_t large_bytes = 0) {
  Writer out(Layout<Record>::kTable, large_bytes + 128);
  Layout<Record>::visit(out, record);
  return std::move(out).finish();
}

template <typename Record>
Result<Record> decode_as_laid_out(std::string_view stored) {
  Reader in(stored, Layout<Record>::kTable);
  Record record;
  Layout<Record>::visit(in, record);
  return in.finish(std::move(record));
}

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

std::string encode(const NodeRecord& record) { return encode_as_laid_out(record); }
std::string encode(const JobRecord& record) { return encode_as_laid_out(record); }
std::string encode(const GraphPartRecord& record) { return encode_as_laid_out(record, record.chunk.size()); }
std::string encode(const NameRecord& record) { return encode_as_laid_out(record, record.handle.size()); }

Result<NodeRecord> decode_node(std::string_view stored) { return decode_as_laid_out<NodeRecord>(stored); }
Result<JobRecord> decode_job(std::string_view stored) { return decode_as_laid_out<JobRecord>(stored); }
Result<GraphPartRecord> decode_graph_part(std::string_view stored) {
  return decode_as_laid_out<GraphPartRecord>(stored);
}
Result<NameRecord> decode_name(std::string_view stored) { return decode_as_laid_out<NameRecord>(stored); }

}  // namespace raylet
