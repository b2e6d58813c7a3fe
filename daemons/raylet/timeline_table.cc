#include "daemons/raylet/timeline_table.h"

#include <algorithm>

namespace raylet {

void TimelineTable::sent(Instant now, SendBatch& batch, uint64_t pid) {
  if (function_names_.size() > kFunctionNamesMax) function_names_.clear();
  for (const FunctionDef& function : batch.functions) function_names_.try_emplace(function.number, function.name);
  auto record = std::make_unique<Batch>();
  record->worker = batch.worker;
  record->pid = pid;
  record->number = batch.batch;
  record->sent = now;
  record->graphs = std::move(batch.graphs);
  record->tasks = std::move(batch.tasks);
  record->names = std::move(batch.names);
  record->outcomes.resize(record->tasks.size());
  record->open = record->tasks.size();
  under_way_[batch.worker].push_back(std::move(record));
}

void TimelineTable::reported(Instant now, WorkerId worker, uint64_t number,
                             const std::vector<TaskResult>& results) {
  auto found = under_way_.find(worker);
  if (found == under_way_.end()) return;
  auto& batches = found->second;
  auto at =
      std::find_if(batches.begin(), batches.end(), [&](const auto& batch) { return batch->number == number; });
  if (at == batches.end()) return;
  Batch& batch = **at;
  for (const TaskResult& result : results) {
    if (result.position >= batch.outcomes.size() || batch.open == 0) continue;  // a worker may say anything
    --batch.open;
    if (result.status == TaskResult::Status::kHandedBack) continue;
    ++batch.finished;
    batch.outcomes[result.position] = {now, result.duration_us, result.status};
  }
  if (batch.open > 0) return;
  std::unique_ptr<Batch> done = std::move(*at);
  batches.erase(at);
  retire(std::move(done));
}

void TimelineTable::retracted(WorkerId worker, uint64_t number) {
  auto found = under_way_.find(worker);
  if (found == under_way_.end()) return;
  std::erase_if(found->second, [&](const auto& batch) { return batch->number == number; });
}

void TimelineTable::worker_gone(WorkerId worker) {
  auto found = under_way_.find(worker);
  if (found == under_way_.end()) return;
  for (auto& batch : found->second) retire(std::move(batch));
  under_way_.erase(found);
}

void TimelineTable::retire(std::unique_ptr<Batch> batch) {
  if (batch->finished == 0) return;
  finished_kept_ += batch->finished;
  finished_total_ += batch->finished;
  finished_.push_back(std::move(batch));
  while (finished_kept_ > kFinishedMax) {
    finished_kept_ -= finished_.front()->finished;
    finished_.pop_front();
  }
}

std::vector<TimelineTable::Entry> TimelineTable::newest(const GraphId& graph, size_t limit) const {
  std::vector<Entry> entries;
  for (auto at = finished_.rbegin(); at != finished_.rend() && entries.size() < limit; ++at) {
    const Batch& batch = **at;
    for (size_t i = batch.tasks.size(); i-- > 0 && entries.size() < limit;) {
      const SendBatch::Task& task = batch.tasks[i];
      const Outcome& outcome = batch.outcomes[i];
      if (outcome.status == TaskResult::Status::kHandedBack) continue;
      if (!graph.is_nil() && batch.graphs[task.graph] != graph) continue;
      auto function = function_names_.find(task.function);
      std::string name = task.name > 0                       ? batch.names[task.name - 1]
                         : function != function_names_.end() ? function->second
                                                             : std::string();
      entries.push_back({std::move(name), batch.graphs[task.graph], task.index, task.attempt, batch.worker,
                         batch.pid, batch.sent, outcome.reported, outcome.duration_us, outcome.status});
    }
  }
  std::reverse(entries.begin(), entries.end());
  return entries;
}

}  // namespace raylet
