#include "daemons/raylet/null_workers.h"

#include <unistd.h>

namespace raylet {
namespace {

// The value bytes of None: client/ray/_serialize.py tells the layout.
Bytes value_bytes_of_none() {
  const char pickle[] = "\x80\x05N.";
  std::string value;
  auto put = [&](uint64_t number, int size_bytes) {
    for (int i = 0; i < size_bytes; ++i) value.push_back(static_cast<char>(number >> (8 * i)));
  };
  put(0x52565031, 4);
  put(0, 4);
  put(sizeof pickle - 1, 8);
  put(0, 8);
  value.append(pickle, sizeof pickle - 1);
  return make_bytes(std::move(value));
}

}  // namespace

NullWorkers::NullWorkers(SessionHost& host) : host_(host), none_(value_bytes_of_none()) {}

void NullWorkers::perform(const StartWorker& effect) {
  SessionId session = host_.next_session();
  sessions_[effect.worker] = session;
  workers_[session] = effect.worker;
  host_.tell(WorkerArrived{session, effect.worker, static_cast<uint64_t>(getpid())});
}

void NullWorkers::perform(const StopWorker& effect) {
  auto found = sessions_.find(effect.worker);
  if (found == sessions_.end()) return;
  SessionId session = found->second;
  sessions_.erase(found);
  workers_.erase(session);
  host_.tell(WorkerExited{effect.worker, 0, 0, false, ""});
  host_.tell(SessionClosed{session, false});
}

void NullWorkers::perform(const SendBatch& effect) {
  auto found = sessions_.find(effect.worker);
  if (found == sessions_.end()) return;
  ResultsArrived event{found->second, effect.batch, {}};
  event.results.resize(effect.tasks.size());
  for (size_t i = 0; i < effect.tasks.size(); ++i) {
    TaskResult& result = event.results[i];
    result.position = static_cast<uint32_t>(i);
    result.duration_us = 1;
    result.returns.resize(effect.tasks[i].return_count);
    for (TaskResult::Return& value : result.returns) value.payload = none_;
  }
  host_.tell(std::move(event));
}

void NullWorkers::perform(const RetractBatches& effect) { host_.tell(BatchesRetracted{effect.worker, {}}); }

}  // namespace raylet
