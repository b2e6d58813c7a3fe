#include "daemons/raylet/wish_queue.h"

namespace raylet {
namespace {

// Not made pointless by the end of its job.
bool is_lasting(const Wish& wish) {
  const auto* record = std::get_if<Record>(&wish.what);
  if (record == nullptr || std::holds_alternative<ForgetJob>(*record)) return true;
  const auto* name = std::get_if<RecordName>(record);
  return name != nullptr && name->detached;
}

void visit_what(const Wish& wish, const auto& visitor) {
  if (const auto* find = std::get_if<FindName>(&wish.what)) return visitor(*find);
  std::visit(visitor, std::get<Record>(wish.what));
}

}  // namespace

// ---------------------------------------------------------------- coming

void WishQueue::add(Ticket ticket, std::variant<Record, FindName> what) {
  auto wish = std::make_shared<Wish>();
  wish->number = ++last_number_;
  wish->ticket = ticket;
  wish->what = std::move(what);
  wishes_.emplace(wish->number, wish);
  visit_what(*wish, [&](const auto& which) { place(wish, which); });
  if (!wish->answered && wish->blocked_by == 0) ready_.emplace(wish->number, wish);
}

bool WishQueue::register_again(JobId id) {
  auto at = jobs_.find(id);
  if (at == jobs_.end() || !at->second.known || at->second.registration) return false;
  at->second.known = false;
  add(Ticket{}, Record(at->second.record));
  std::vector<RecordName> held;
  for (const auto& [key, name] : names_) {
    if (name.held && name.held->job == id && !name.last) held.push_back(*name.held);
  }
  for (RecordName& name : held) add(Ticket{}, Record(std::move(name)));
  return true;
}

void WishQueue::block(const WishPtr& wish, const WishPtr& by) {
  if (!by || by->answered) return;
  by->blocks.push_back(wish);
  ++wish->blocked_by;
}

void WishQueue::join_job(const WishPtr& wish, JobId id) {
  wish->job = id;
  auto at = jobs_.find(id);
  if (at == jobs_.end()) return;
  block(wish, at->second.registration);
  at->second.wishes.insert(wish->number);
}

void WishQueue::wait_for_name(const WishPtr& wish, const NameKey& key, bool changes) {
  auto at = names_.find(key);
  if (at != names_.end()) block(wish, at->second.last);
  if (changes) names_[key].last = wish;
}

void WishQueue::place(const WishPtr& wish, const RecordJob& record) {
  Job& job = jobs_[record.job];
  block(wish, job.registration);
  block(wish, job.ending);
  job.refused = {};
  job.record = record;
  job.registration = wish;
  wish->job = record.job;
  job.wishes.insert(wish->number);
}

void WishQueue::place(const WishPtr& wish, const RecordGraph& record) {
  wish->bytes = record.chunk ? record.chunk->wire_bytes : 0;
  waiting_bytes_ += wish->bytes;
  join_job(wish, record.job);
  Graph& graph = graphs_[record.graph];
  graph.job = record.job;
  graph.parts.insert(wish->number);
}

void WishQueue::place(const WishPtr& wish, const ForgetGraph& record) {
  auto at = graphs_.find(record.graph);
  if (at == graphs_.end()) return answer(wish, {});
  join_job(wish, at->second.job);
  std::set<uint64_t> parts = at->second.parts;
  for (uint64_t part : parts) drop_or_wait(wish, part);
  if (!at->second.sent) {
    graphs_.erase(at);
    answer(wish, {});
  }
}

void WishQueue::place(const WishPtr& wish, const ForgetJob& record) {
  auto at = jobs_.find(record.job);
  if (at == jobs_.end()) return;  // one of an earlier life, maybe: the head is asked all the same
  wish->job = record.job;
  block(wish, at->second.ending);
  at->second.ending = wish;
  std::set<uint64_t> others = std::exchange(at->second.wishes, {wish->number});
  for (uint64_t other : others) drop_or_wait(wish, other);
  if (!at->second.sent) answer(wish, {});
}

void WishQueue::place(const WishPtr& wish, const RecordName& record) {
  join_job(wish, record.job);
  wait_for_name(wish, {record.name_space, record.name}, true);
}

void WishQueue::place(const WishPtr& wish, const ForgetName& record) {
  NameKey key{record.name_space, record.name};
  wait_for_name(wish, key, true);
  names_[key].held.reset();
}

void WishQueue::place(const WishPtr& wish, const FindName& find) {
  wait_for_name(wish, {find.name_space, find.name}, false);
}

// `wish` makes `number` pointless: it is dropped, or waited for if the head is at work on it.
void WishQueue::drop_or_wait(const WishPtr& wish, uint64_t number) {
  auto at = wishes_.find(number);
  if (at == wishes_.end()) return;
  WishPtr other = at->second;
  if (is_lasting(*other)) return block(wish, other);
  if (other->in_flight) {
    other->dropped = true;
    return block(wish, other);
  }
  answer(other, {});
}

// ---------------------------------------------------------------- going

bool WishQueue::begin(const WishPtr& wish) {
  ready_.erase(wish->number);
  if (const Failure* refused = refusal_of_job(*wish)) {
    Persisted with;
    with.failure = *refused;
    answer(wish, std::move(with));
    return false;
  }
  wish->in_flight = true;
  wish->ever_sent = true;
  ++calls_in_flight_;
  bytes_in_flight_ += wish->bytes;
  if (const auto* record = std::get_if<Record>(&wish->what)) {
    if (const auto* job = std::get_if<RecordJob>(record)) jobs_[job->job].sent = true;
    if (const auto* graph = std::get_if<RecordGraph>(record)) graphs_[graph->graph].sent = true;
  }
  return true;
}

const Failure* WishQueue::refusal_of_job(const Wish& wish) const {
  const auto* record = std::get_if<Record>(&wish.what);
  if (record == nullptr) return nullptr;
  if (!std::holds_alternative<RecordGraph>(*record) && !std::holds_alternative<RecordName>(*record))
    return nullptr;
  auto at = jobs_.find(wish.job);
  return at != jobs_.end() && at->second.refused.code != FailureCode::kNone ? &at->second.refused : nullptr;
}

void WishQueue::end_flight(const WishPtr& wish) {
  if (!std::exchange(wish->in_flight, false)) return;
  --calls_in_flight_;
  bytes_in_flight_ -= wish->bytes;
}

void WishQueue::put_back(const WishPtr& wish) {
  end_flight(wish);
  if (wish->dropped) return answer(wish, {});
  ready_.emplace(wish->number, wish);
}

std::vector<JobId> WishQueue::known_jobs() const {
  std::vector<JobId> known;
  for (const auto& [id, job] : jobs_) {
    if (job.known) known.push_back(id);
  }
  return known;
}

std::vector<GraphId> WishQueue::sent_graphs() const {
  std::vector<GraphId> sent;
  for (const auto& [id, graph] : graphs_) {
    if (graph.sent) sent.push_back(id);
  }
  return sent;
}

// ---------------------------------------------------------------- over

// The end of a wish: its answer, the tables, and whoever waited for it.
void WishQueue::answer(const WishPtr& wish, Persisted with) {
  if (std::exchange(wish->answered, true)) return;
  end_flight(wish);
  wishes_.erase(wish->number);
  ready_.erase(wish->number);
  waiting_bytes_ -= wish->bytes;
  if (auto at = jobs_.find(wish->job); at != jobs_.end()) at->second.wishes.erase(wish->number);
  if (const auto* record = std::get_if<Record>(&wish->what)) {
    bool done = with.failure.code == FailureCode::kNone && !wish->dropped;
    auto at = jobs_.find(wish->job);
    if (std::holds_alternative<RecordJob>(*record) && at != jobs_.end()) at->second.refused = with.failure;
    std::visit([&](const auto& which) { finish(wish, which, done); }, *record);
    if (!wish->ticket.is_nil()) {
      with.ticket = wish->ticket;
      answers_.push_back(std::move(with));
    }
  }
  for (const WishPtr& waiting : std::exchange(wish->blocks, {})) {
    if (--waiting->blocked_by == 0 && !waiting->answered) ready_.emplace(waiting->number, waiting);
  }
}

void WishQueue::answer_find(const WishPtr& wish, NameFound found) {
  answers_.push_back(std::move(found));
  answer(wish, {});
}

void WishQueue::finish(const WishPtr& wish, const RecordJob& record, bool done) {
  auto at = jobs_.find(record.job);
  if (at == jobs_.end() || at->second.registration != wish) return;
  at->second.registration.reset();
  at->second.known = done && wish->ever_sent;
}

void WishQueue::finish(const WishPtr& wish, const RecordGraph& record, bool) {
  if (auto at = graphs_.find(record.graph); at != graphs_.end()) at->second.parts.erase(wish->number);
}

void WishQueue::finish(const WishPtr&, const ForgetGraph& record, bool) { graphs_.erase(record.graph); }

void WishQueue::finish(const WishPtr& wish, const ForgetJob& record, bool) {
  std::erase_if(graphs_, [&](const auto& entry) {
    return entry.second.job == record.job && entry.second.parts.empty();
  });
  for (auto at = names_.begin(); at != names_.end();) {
    std::optional<RecordName>& held = at->second.held;
    if (held && held->job == record.job && !held->detached) held.reset();
    at = !held && !at->second.last ? names_.erase(at) : std::next(at);
  }
  auto at = jobs_.find(record.job);
  if (at == jobs_.end() || at->second.ending != wish) return;
  at->second.ending.reset();
  at->second.sent = at->second.known = false;
  if (!at->second.registration) jobs_.erase(at);  // else its driver has come back already
}

void WishQueue::finish(const WishPtr& wish, const RecordName& record, bool done) {
  Name& name = names_[{record.name_space, record.name}];
  if (done && wish->ever_sent) name.held = record;
  finish_name(wish, {record.name_space, record.name});
}

void WishQueue::finish(const WishPtr& wish, const ForgetName& record, bool) {
  finish_name(wish, {record.name_space, record.name});
}

void WishQueue::finish_name(const WishPtr& wish, const NameKey& key) {
  auto at = names_.find(key);
  if (at == names_.end()) return;
  if (at->second.last == wish) at->second.last.reset();
  if (!at->second.last && !at->second.held) names_.erase(at);
}

}  // namespace raylet
