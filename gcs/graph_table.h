// Graphs as they were recorded: parts of opaque bytes, each written once.
//
// Parts may come in any order and more than once. A graph is whole when its last part is known and every
// part before it is there. Its owner is the node that recorded it; a graph of one owner takes no parts from
// another.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "gcs/record.h"
#include "protocol/words/bytes.h"
#include "protocol/words/ids.h"

namespace raylet {

struct GraphSummary {
  GraphId graph;
  JobId job;
  NodeId owner;
  uint32_t parts = 0;
  uint64_t record_bytes = 0;
  bool complete = false;
};

class GraphRecordTable {
 public:
  struct Graph {
    JobId job;
    NodeId owner;
    Incarnation owner_incarnation;
    std::map<uint32_t, Bytes> parts;     // as stored
    std::optional<uint32_t> last_part;
    uint64_t bytes = 0;                  // of the parts as stored
    uint64_t recorded_moment = 0;        // of the head, when the first part came
    bool whole() const { return last_part && parts.size() == size_t{*last_part} + 1; }
  };

  enum class Added {
    kNew,
    kKnown,        // the very same part is there
    kDifferent,    // another part under that number is there
    kOtherOwner,   // or another job
    kBeyondLast,   // after the last part, or a second last one
  };

  size_t size() const { return graphs_.size(); }
  uint64_t part_count() const { return part_count_; }
  uint64_t bytes() const { return bytes_; }
  const std::map<GraphId, Graph>& graphs() const { return graphs_; }
  Graph* find(GraphId graph);
  const std::set<GraphId>& of_job(JobId job) const;
  const std::set<GraphId>& of_owner(NodeId owner) const;

  // `stored` is the encoding of `part`; its chunk is not looked at. Changes nothing unless kNew is answered.
  Added add(const GraphPartRecord& part, Bytes stored, uint64_t moment);
  // Forgets the graph and appends the deletes of its parts.
  void remove(GraphId graph, std::vector<Write>& writes);

  GraphSummary summary(GraphId graph) const;
  void validate() const;

 private:
  std::map<GraphId, Graph> graphs_;
  std::map<JobId, std::set<GraphId>> by_job_;
  std::map<NodeId, std::set<GraphId>> by_owner_;
  uint64_t part_count_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace raylet
