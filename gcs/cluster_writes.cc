// What the head says and writes down: answers wait for the writes that they rest on.
#include <algorithm>
#include <utility>

#include "gcs/cluster_state.h"

namespace raylet {

Refused refuse(Code code, FailureCode failure, std::string message) {
  return {code, failure, std::move(message), {}};
}

Refused refuse_invalid(std::string message) {
  return refuse(Code::kInvalidArgument, FailureCode::kRequestInvalid, std::move(message));
}

Refused refuse_over_limit(std::string message) {
  return refuse(Code::kResourceExhausted, FailureCode::kLimitExceeded, std::move(message));
}

Refused refuse_for_now(std::string message) {
  return refuse(Code::kUnavailable, FailureCode::kUnavailable, std::move(message));
}

void Cluster::State::say(bool warning, std::string text) {
  effects->emplace_back(Notice{warning, std::move(text)});
}

void Cluster::State::reply_after(uint64_t ticket, CallId call, Answer answer) {
  if (std::holds_alternative<Refused>(answer)) ++totals.refusals_total;
  if (ticket <= persisted_ticket) {
    effects->emplace_back(HeadReply{call, std::move(answer)});
  } else {
    held[ticket].push_back({call, std::move(answer)});
  }
}

void Cluster::State::reply(CallId call, Answer answer) { reply_after(0, call, std::move(answer)); }

// The answer is about `table`: it waits until what it rests on is on disk.
void Cluster::State::reply_about(Table table, CallId call, Answer answer) {
  reply_after(touched[table], call, std::move(answer));
}

void Cluster::State::put(Table table, std::string key, Bytes value) {
  touched[table] = last_ticket + 1;
  writes.push_back({table, std::move(key), std::move(value)});
}

void Cluster::State::erase(Table table, std::string key) { put(table, std::move(key), nullptr); }

// After a table appended its own deletes to `writes`.
void Cluster::State::touch_if_grown(Table table, size_t size_before) {
  if (writes.size() > size_before) touched[table] = last_ticket + 1;
}

uint64_t Cluster::State::size_of(const Write& write) { return write.key.size() + size_bytes(write.value); }

bool Cluster::State::backlog_full() const {
  return unwritten_bytes >= options.unwritten_bytes_max ||
         unwritten_count + writes.size() >= options.unwritten_count_max;
}

Refused Cluster::State::refuse_for_backlog() const {
  return refuse_for_now("Redis has not yet acknowledged " + std::to_string(unwritten_count) + " writes (" +
                        std::to_string(unwritten_bytes) + " bytes); try again when it has");
}

void Cluster::State::flush_writes() {
  if (writes.empty()) return;
  Unwritten batch{++last_ticket, writes.size(), 0};
  for (const Write& write : writes) batch.bytes += size_of(write);
  unwritten_count += batch.count;
  unwritten_bytes += batch.bytes;
  unwritten.push_back(batch);
  totals.writes_total += batch.count;
  ++totals.persists_total;
  effects->emplace_back(PersistWrites{Ticket{batch.ticket}, std::exchange(writes, {})});
}

void Cluster::State::on(WritesPersisted& event) {
  MUST(event.ticket.number <= last_ticket, "writes acknowledged that were never asked for");
  persisted_ticket = std::max(persisted_ticket, event.ticket.number);
  while (!unwritten.empty() && unwritten.front().ticket <= persisted_ticket) {
    unwritten_count -= unwritten.front().count;
    unwritten_bytes -= unwritten.front().bytes;
    unwritten.pop_front();
  }
  while (!held.empty() && held.begin()->first <= persisted_ticket) {
    for (HeadReply& reply : held.begin()->second) effects->emplace_back(std::move(reply));
    held.erase(held.begin());
  }
}

}  // namespace raylet
