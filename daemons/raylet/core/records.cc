// What the head writes down: jobs at once, graphs that run for long, names before they are used.
#include "daemons/raylet/core/node_state.h"

namespace raylet {

void Node::State::record_long_graphs() {
  while (!unrecorded_.empty()) {
    auto [sequence, ref] = *unrecorded_.begin();
    Graph* graph = graphs_.find(ref);
    if (graph == nullptr || graph->end_reported) {
      unrecorded_.erase(unrecorded_.begin());
      continue;
    }
    Instant due = graph->arrived_at + options_.record_after;
    if (due > now_) {
      wake_by(due);
      return;
    }
    unrecorded_.erase(unrecorded_.begin());
    graph->recording = true;
    recording_.push_back(ref);
  }
}

// Parts that arrived since; the last of them when the graph is whole.
void Node::State::record_parts() {
  std::erase_if(recording_, [&](const TaskRef& ref) {
    Graph* graph = graphs_.find(ref);
    if (graph == nullptr || graph->end_reported) return true;
    for (auto& chunk : graph->chunks) {
      Ticket ticket = next_ticket();
      pending_records_[ticket] = {PendingRecord::Kind::kGraphPart, graph->id, graph->job->id, {}};
      bool last = chunk->last;
      emit(Persist{ticket, RecordGraph{graph->id, graph->job->id, graph->parts_sent++, last, std::move(chunk)}});
    }
    graph->chunks.clear();
    return graph->last;
  });
}

void Node::State::forget_record(Graph& graph) {
  if (graph.parts_sent == 0) return;
  emit(Persist{next_ticket(), ForgetGraph{graph.id}});
}

void Node::State::on(Persisted& event) {
  auto found = pending_records_.find(event.ticket);
  if (found == pending_records_.end()) return;
  PendingRecord record = found->second;
  pending_records_.erase(found);
  switch (record.kind) {
    case PendingRecord::Kind::kGraphPart: {
      Graph* graph = graphs_.find(record.graph);
      if (graph == nullptr || graph->end_reported || event.failure.code != FailureCode::kNone) return;
      if (++graph->parts_durable == graph->parts_sent && graph->last && graph->chunks.empty()) {
        graph->durable = true;
        if (sessions_.find(graph->session) != nullptr) {
          emit(ReportProgress{graph->session, graph->id, std::move(graph->progress),
                              uint64_t{graph->finished} + graph->failed, graph->arrived, true});
          graph->progress.clear();
        }
      }
      return;
    }
    case PendingRecord::Kind::kJob: {
      auto job = jobs_.find(record.job);
      if (job == jobs_.end() || job->second->ended) {
        emit(Persist{next_ticket(), ForgetJob{record.job}});
        return;
      }
      job->second->recorded = event.failure.code == FailureCode::kNone;
      return;
    }
    case PendingRecord::Kind::kName: {
      auto actor = actors_.find(record.actor);
      if (actor != actors_.end()) name_persisted(*actor->second, event);
      return;
    }
    case PendingRecord::Kind::kOther:
      return;
  }
}

}  // namespace raylet
