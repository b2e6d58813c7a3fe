// What an earlier life left on disk, taken in again: nothing that contradicts the rest.
#include "gcs/cluster_state.h"

namespace raylet {

LoadReport Cluster::load(Instant now, const std::vector<StoredRecord>& records) {
  State& state = *state_;
  MUST(state.last_ticket == 0 && state.nodes.size() == 0 && state.jobs.size() == 0, "loaded twice");
  state.now = now;
  LoadReport report;
  auto refuse_record = [&](const StoredRecord& stored, const std::string& why) {
    report.refused.push_back(std::string(to_string(stored.table)) + " " + to_hex(stored.key) + ": " + why);
  };
  auto accept = [&](const StoredRecord& stored, const auto& decoded, const auto& key_of, const auto& take) {
    if (!decoded.ok()) return refuse_record(stored, decoded.error().message);
    if (key_of(*decoded) != stored.key) return refuse_record(stored, "it lies under another record's key");
    if (std::string why = take(*decoded); !why.empty()) return refuse_record(stored, why);
    ++report.loaded_count;
  };
  auto load_table = [&](Table table, const auto& load_one) {
    for (const StoredRecord& stored : records) {
      if (stored.table == table && stored.value) load_one(stored);
    }
  };
  load_table(Table::kNodes, [&](const StoredRecord& stored) {
    accept(stored, decode_node(*stored.value), [](const NodeRecord& node) { return node_key(node.node); },
           [&](const NodeRecord& node) -> std::string {
             if (auto refused = state.check(node)) return refused->message;
             if (state.nodes.find(node.node) != nullptr) return "the node was read already";
             NodeView seen;
             seen.node = node;
             seen.available = node.total;
             state.view.put(std::move(seen));
             state.nodes.put(node, now);
             return "";
           });
  });
  load_table(Table::kJobs, [&](const StoredRecord& stored) {
    accept(stored, decode_job(*stored.value), [](const JobRecord& job) { return job_key(job.job); },
           [&](const JobRecord& job) -> std::string {
             if (state.jobs.find(job.job) != nullptr) return "the job was read already";
             state.jobs.put(job, now);
             return "";
           });
  });
  load_table(Table::kGraphs, [&](const StoredRecord& stored) {
    accept(stored, decode_graph_part(*stored.value),
           [](const GraphPartRecord& part) { return graph_part_key(part.graph, part.part); },
           [&](const GraphPartRecord& part) -> std::string {
             if (state.jobs.find(part.job) == nullptr) return "its job " + part.job.hex() + " is not there";
             auto added = state.graphs.add(part, stored.value, state.moment);
             return added == GraphRecordTable::Added::kNew ? "" : "it contradicts other parts of its graph";
           });
  });
  load_table(Table::kNames, [&](const StoredRecord& stored) {
    accept(stored, decode_name(*stored.value),
           [](const NameRecord& name) { return name_key(name.name_space, name.name); },
           [&](const NameRecord& name) -> std::string {
             if (!name.detached && state.jobs.find(name.job) == nullptr) {
               return "its job " + name.job.hex() + " is not there";
             }
             if (state.names.find(name.name_space, name.name) != nullptr) return "the name was read already";
             state.names.add(name);
             return "";
           });
  });
  return report;
}

}  // namespace raylet
