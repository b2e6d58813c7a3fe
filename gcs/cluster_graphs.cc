// Recorded graphs, part by part, each of one owner.
#include <utility>

#include "gcs/cluster_state.h"

namespace raylet {

void Cluster::State::on(GraphPartCame& event) {
  const GraphPartRecord& part = event.part;
  if (part.graph.is_nil()) return reply(event.call, refuse_invalid("a graph needs an id that is not all zeros"));
  if (part.chunk.size() > options.record_bytes_max) {
    return reply(event.call, refuse_over_limit("a part of a graph may have " +
                                               std::to_string(options.record_bytes_max) + " bytes, not " +
                                               std::to_string(part.chunk.size())));
  }
  if (jobs.find(part.job) == nullptr) return reply(event.call, refuse_unknown_job(part.job));
  switch (nodes.standing(part.owner, part.owner_incarnation)) {
    case NodeTable::Standing::kSame:
      break;
    case NodeTable::Standing::kOlder:
      return reply(event.call, refuse(Code::kFailedPrecondition, FailureCode::kRequestInvalid,
                                      "incarnation " + std::to_string(part.owner_incarnation.number) +
                                          " of node " + part.owner.hex() + " is not its newest"));
    default:
      return reply(event.call, refuse_unknown_node(part.owner));
  }
  if (GraphRecordTable::Graph* known = graphs.find(part.graph); known != nullptr && takes_over(part, *known)) {
    remove_graph(part.graph);
  }
  if (graphs.find(part.graph) == nullptr || graphs.find(part.graph)->parts.count(part.part) == 0) {
    if (graphs.bytes() + part.chunk.size() > options.graph_bytes_max ||
        graphs.part_count() >= options.graph_part_count_max) {
      return reply(event.call, refuse_over_limit("recorded graphs have " + std::to_string(graphs.bytes()) +
                                                 " bytes in " + std::to_string(graphs.part_count()) +
                                                 " parts, which leaves no room for this one"));
    }
    if (backlog_full()) return reply(event.call, refuse_for_backlog());
  }
  Bytes stored = make_bytes(encode(part));
  switch (graphs.add(part, stored, moment)) {
    case GraphRecordTable::Added::kNew:
      put(Table::kGraphs, graph_part_key(part.graph, part.part), std::move(stored));
      [[fallthrough]];
    case GraphRecordTable::Added::kKnown:
      return reply_about(Table::kGraphs, event.call, Acknowledged{});
    case GraphRecordTable::Added::kDifferent:
      return refuse_part(event, "another part is recorded under this number");
    case GraphRecordTable::Added::kOtherOwner:
      return refuse_part(event, "the graph belongs to another job or to another node that lives");
    case GraphRecordTable::Added::kBeyondLast:
      return refuse_part(event, "it contradicts which part is the last one");
  }
}

// The graph was recorded by a life that is over, and its driver has sent it again to another.
bool Cluster::State::takes_over(const GraphPartRecord& part, const GraphRecordTable::Graph& known) const {
  if (part.job != known.job) return false;
  if (part.owner != known.owner) return nodes.find(known.owner) == nullptr;
  return part.owner_incarnation > known.owner_incarnation;
}

void Cluster::State::refuse_part(const GraphPartCame& event, const std::string& why) {
  reply_about(Table::kGraphs, event.call,
              refuse(Code::kAlreadyExists, FailureCode::kRequestInvalid,
                     "part " + std::to_string(event.part.part) + " of graph " + event.part.graph.hex() +
                         " is refused: " + why));
}

void Cluster::State::remove_graph(GraphId graph) {
  size_t before = writes.size();
  graphs.remove(graph, writes);
  touch_if_grown(Table::kGraphs, before);
}

void Cluster::State::on(GraphEnded& event) {
  remove_graph(event.graph);
  reply_about(Table::kGraphs, event.call, Acknowledged{});
}

void Cluster::State::on(GraphsAsked& event) {
  GraphList list;
  if (event.job.is_nil()) {
    for (const auto& [id, graph] : graphs.graphs()) list.graphs.push_back(graphs.summary(id));
  } else {
    for (GraphId id : graphs.of_job(event.job)) list.graphs.push_back(graphs.summary(id));
  }
  reply_about(Table::kGraphs, event.call, std::move(list));
}

}  // namespace raylet
