// What the head keeps on disk: four kinds of record, and how each is turned into bytes and back.
//
// A stored record is   u8 version | u8 table | fields | u32 CRC-32 of everything before it
// with numbers little-endian and strings as u32 size and bytes. Decoding takes any bytes whatever and
// answers an error for everything that encoding did not make: another version, another table, a wrong
// checksum, a field that runs over the end, bytes left over.
//
// Keys are made of ids alone, so that a record can be found and deleted without being read.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "protocol/words/bytes.h"
#include "protocol/words/ids.h"
#include "protocol/words/resources.h"
#include "protocol/words/result.h"

namespace raylet {

// One Redis hash each.
enum class Table : uint8_t { kNodes = 1, kJobs = 2, kGraphs = 3, kNames = 4 };
constexpr Table kTables[] = {Table::kNodes, Table::kJobs, Table::kGraphs, Table::kNames};

const char* to_string(Table table);

// A node as it registered: what does not change while this incarnation lives.
struct NodeRecord {
  NodeId node;
  Incarnation incarnation;
  std::string host;
  std::string address;  // where its raylet's gRPC listens: unix:/path or host:port
  Resources total;
  std::map<std::string, std::string> labels;
  uint64_t pid = 0;
  uint64_t store_capacity_bytes = 0;
  bool operator==(const NodeRecord&) const = default;
};

struct JobRecord {
  JobId job;
  NodeId node;  // where its driver is connected
  std::string script;
  uint64_t pid = 0;
  bool operator==(const JobRecord&) const = default;
};

// One part of a graph. `chunk` is a serialised GraphChunk, opaque here.
struct GraphPartRecord {
  GraphId graph;
  JobId job;
  NodeId owner;
  Incarnation owner_incarnation;
  uint32_t part = 0;
  bool last = false;
  std::string chunk;
  bool operator==(const GraphPartRecord&) const = default;
};

struct NameRecord {
  std::string name_space;
  std::string name;
  ObjectId actor;  // the object of its creation
  JobId job;
  NodeId node;
  bool detached = false;
  std::string handle;  // opaque: what a client needs to call it
  bool operator==(const NameRecord&) const = default;
};

// One change of what is on disk: `value` null deletes the key.
struct Write {
  Table table = Table::kNodes;
  std::string key;
  Bytes value;
};

// One record as it was found on disk.
struct StoredRecord {
  Table table = Table::kNodes;
  std::string key;
  Bytes value;
};

std::string node_key(NodeId node);
std::string job_key(JobId job);
std::string graph_part_key(GraphId graph, uint32_t part);
std::string name_key(std::string_view name_space, std::string_view name);

std::string encode(const NodeRecord& record);
std::string encode(const JobRecord& record);
std::string encode(const GraphPartRecord& record);
std::string encode(const NameRecord& record);

// `body` with its checksum: what a record's body becomes on its way to disk. For tests that damage bodies.
std::string with_checksum(std::string body);

Result<NodeRecord> decode_node(std::string_view stored);
Result<JobRecord> decode_job(std::string_view stored);
Result<GraphPartRecord> decode_graph_part(std::string_view stored);
Result<NameRecord> decode_name(std::string_view stored);

}  // namespace raylet
