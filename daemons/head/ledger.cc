#include "daemons/head/ledger.h"

#include <hiredis/hiredis.h>

#include <algorithm>
#include <charconv>
#include <random>

#include "daemons/kit/log.h"
#include "protocol/words/check.h"
#include "protocol/words/ids.h"

namespace raylet {
namespace {

constexpr const char* kClusterKey = "raylet:cluster";

std::string random_cluster_hex() {
  std::random_device device;
  std::string id;
  for (int i = 0; i < 4; ++i) {
    uint32_t word = device();
    id.append(reinterpret_cast<const char*>(&word), sizeof word);
  }
  return to_hex(id);
}

std::string_view text_of(const redisReply& reply) {
  return reply.str == nullptr ? std::string_view() : std::string_view(reply.str, reply.len);
}

bool is_error(const redisReply& reply) { return reply.type == REDIS_REPLY_ERROR; }

// Empty unless `reply` is a text.
std::string content_of(const redisReply& reply) {
  return reply.type == REDIS_REPLY_STRING ? std::string(text_of(reply)) : std::string();
}

// 0 unless `text` is a number.
uint64_t number_of(const std::string& text) {
  uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

// What Redis says, and what to do about it.
std::string explain(std::string_view error) {
  static constexpr std::pair<std::string_view, std::string_view> kAdvice[] = {
      {"OOM", "it is out of memory: raise its maxmemory, or set it to 0"},
      {"MISCONF", "it can't write to its disk: make room there"},
      {"NOAUTH", "it wants a password, which gcs does not give: use a Redis on a private unix socket"},
      {"NOPERM", "its access rules forbid what gcs needs: the keys raylet:* with reading, writing, MULTI, WATCH"},
      {"LOADING", "it is reading its files and will be there soon"},
      {"READONLY", "it is a replica: give the address of the primary"},
      {"WRONGTYPE", "something else uses the keys raylet:*"},
  };
  for (const auto& [start, advice] : kAdvice) {
    if (error.substr(0, start.size()) == start) {
      return "Redis answers '" + std::string(error) + "'; " + std::string(advice);
    }
  }
  return "Redis answers '" + std::string(error) + "'";
}

}  // namespace

Result<std::unique_ptr<Ledger>> Ledger::open(Loop& loop, const std::string& redis_address, Handlers handlers) {
  auto ledger = std::unique_ptr<Ledger>(new Ledger(loop, std::move(handlers)));
  Ledger* self = ledger.get();
  auto link = RedisLink::open(loop, redis_address,
                              {[self] { self->loaded_ ? self->meet_again() : self->meet(); },
                               [self](std::string reason) { self->lost(reason); }});
  if (!link.ok()) return link.error();
  ledger->link_ = *std::move(link);
  return ledger;
}

Ledger::Ledger(Loop& loop, Handlers handlers)
    : loop_(loop),
      handlers_(std::move(handlers)),
      retry_(loop,
             [this] {
               backing_off_ = false;
               stage_ == Stage::kRewriting ? rewrite_next() : start_commit();
             }),
      check_(loop, [this] { check_epoch(); }) {}

Ledger::~Ledger() = default;

std::string Ledger::key(const char* name) const { return "raylet:" + cluster_hex_ + ":" + name; }

// An error reply gives the connection up: the conversation starts again after the backoff.
void Ledger::ask(const std::vector<std::string_view>& arguments, RedisLink::OnReply on_reply) {
  link_->send(arguments, [this, on_reply = std::move(on_reply)](const redisReply& reply) {
    if (stage_ == Stage::kFenced) return;
    if (is_error(reply)) return link_->drop(explain(text_of(reply)));
    on_reply(reply);
  });
}

// ---------------------------------------------------------------- the first meeting

void Ledger::meet() {
  ++report_.connects_total;
  stage_ = Stage::kMeeting;
  check_settings();
  std::string fresh = random_cluster_hex();
  ask({"SET", kClusterKey, fresh, "NX"}, [](const redisReply&) {});
  ask({"GET", kClusterKey}, [this](const redisReply& reply) {
    cluster_hex_ = content_of(reply);
    if (cluster_hex_.size() != 32 || !from_hex(cluster_hex_)) {
      return link_->drop("the key raylet:cluster holds '" + cluster_hex_ +
                         "', which is no cluster id of 32 hex digits; something else uses it");
    }
    take_epoch();
  });
}

void Ledger::check_settings() {
  report_.complaints.clear();
  check_setting("appendonly", "yes", "what was acknowledged is lost when it restarts");
  check_setting("appendfsync", "always", "up to a second of what was acknowledged is lost when the machine fails");
  check_setting("maxmemory-policy", "noeviction", "it may throw records away");
}

void Ledger::check_setting(const std::string& name, const std::string& wanted, const std::string& danger) {
  link_->send({"CONFIG", "GET", name}, [this, name, wanted, danger](const redisReply& reply) {
    std::string complaint;
    if (reply.type == REDIS_REPLY_ARRAY && reply.elements == 2) {
      std::string found = content_of(*reply.element[1]);
      if (found == wanted) return;
      complaint = "Redis has " + name + " " + found + " instead of " + wanted + ": " + danger;
    } else {
      complaint =
          "Redis does not tell its setting " + name + ", which must be " + wanted + ": otherwise " + danger;
    }
    log::warn("{}", complaint);
    report_.complaints.push_back(std::move(complaint));
  });
}

void Ledger::take_epoch() {
  ask({"INCR", key("epoch")}, [this](const redisReply& reply) {
    if (reply.type != REDIS_REPLY_INTEGER) return link_->drop("INCR was answered with no number");
    epoch_ = static_cast<uint64_t>(reply.integer);
    load();
  });
}

void Ledger::load() {
  loading_ = {};
  ask({"WATCH", key("epoch")}, [](const redisReply&) {});
  ask({"GET", key("epoch")}, [this](const redisReply& reply) {
    if (number_of(content_of(reply)) != epoch_) link_->drop("another head started at the same time");
  });
  for (Table table : kTables) {
    ask({"HGETALL", key(table)}, [this, table](const redisReply& reply) { take_table(table, reply); });
  }
  ask({"GET", key("commit")}, [this](const redisReply& reply) {
    commit_ = number_of(content_of(reply));
    loaded_ = true;
    loading_.cluster = *from_hex(cluster_hex_);
    loading_.epoch = epoch_;
    log::info("read {} records cluster={} epoch={} commit={}", loading_.records.size(), cluster_hex_, epoch_,
              commit_);
    handlers_.on_loaded(std::exchange(loading_, {}));
    check_.set_after(kCheckPeriod);
    become_ready();
  });
}

void Ledger::take_table(Table table, const redisReply& reply) {
  for (size_t i = 0; i + 1 < reply.elements; i += 2) {
    loading_.records.push_back(
        {table, content_of(*reply.element[i]), make_bytes(content_of(*reply.element[i + 1]))});
  }
}

// ---------------------------------------------------------------- later meetings

void Ledger::meet_again() {
  if (stage_ == Stage::kAway) {
    ++report_.connects_total;
    check_settings();
  }
  stage_ = Stage::kMeeting;
  auto cluster = std::make_shared<std::string>();
  auto epoch = std::make_shared<std::string>();
  ask({"UNWATCH"}, [](const redisReply&) {});
  ask({"GET", kClusterKey}, [cluster](const redisReply& reply) { *cluster = content_of(reply); });
  ask({"WATCH", key("epoch")}, [](const redisReply&) {});
  ask({"GET", key("epoch")}, [epoch](const redisReply& reply) { *epoch = content_of(reply); });
  ask({"GET", key("commit")},
      [this, cluster, epoch](const redisReply& reply) { compare(*cluster, *epoch, content_of(reply)); });
}

void Ledger::compare(const std::string& cluster, const std::string& epoch, const std::string& commit) {
  if (!cluster.empty() && cluster != cluster_hex_) {
    return fence("the Redis at " + link_->address() + " belongs to cluster " + cluster + ", this head serves " +
                 cluster_hex_);
  }
  if (number_of(epoch) > epoch_) {
    return fence("a later head took over: the epoch is " + epoch + ", this one's is " + std::to_string(epoch_));
  }
  uint64_t found = number_of(commit);
  bool lost_something = cluster.empty() || number_of(epoch) < epoch_ || found < commit_ ||
                        (commit.empty() && commit_ > 0);
  if (lost_something) {
    log::error(
        "Redis came back older than what it had acknowledged: epoch '{}' commit '{}' instead of {} and {}; "
        "writing the whole state again",
        epoch, commit, epoch_, commit_);
    return rewrite();
  }
  if (found > commit_) {
    // The answer to the last commit was lost, the commit was not.
    commit_ = found;
    acknowledge();
  }
  become_ready();
}

void Ledger::rewrite() {
  ++report_.rewrites_total;
  stage_ = Stage::kRewriting;
  std::vector<Write> all = handlers_.everything();
  rewriting_.assign(std::make_move_iterator(all.begin()), std::make_move_iterator(all.end()));
  rewrite_begun_ = false;
  rewrite_next();
}

// Several transactions, because one with everything would be huge. The commit number comes with the last:
// without it, whoever comes next knows that the rewriting was not finished.
void Ledger::rewrite_next() {
  if (stage_ != Stage::kRewriting || in_transaction_ || backing_off_) return;
  size_t count = 0;
  uint64_t bytes = 0;
  if (rewrite_begun_) {
    while (count < rewriting_.size() && count < kCommitWritesMax && (count == 0 || bytes < kCommitBytesMax)) {
      bytes += size_bytes(rewriting_[count++].value);
    }
  }
  bool first = !rewrite_begun_;
  bool last = !first && count == rewriting_.size();
  begin_transaction([this, first, last, count](bool done) {
    if (!done) return retry_later();
    rewriting_.erase(rewriting_.begin(), rewriting_.begin() + static_cast<ptrdiff_t>(count));
    if (first) rewrite_begun_ = true;
    last ? become_ready() : rewrite_next();
  });
  if (first) {
    queue({"DEL", key("commit"), key(Table::kNodes), key(Table::kJobs), key(Table::kGraphs), key(Table::kNames)});
    queue({"SET", kClusterKey, cluster_hex_});
    queue({"SET", key("epoch"), std::to_string(epoch_)});
  }
  for (size_t i = 0; i < count; ++i) queue(rewriting_[i]);
  if (last) queue({"SET", key("commit"), std::to_string(commit_)});
  end_transaction();
}

void Ledger::become_ready() {
  stage_ = Stage::kReady;
  link_->settle();
  all_well();
  start_commit();
}

// ---------------------------------------------------------------- commits

void Ledger::persist(PersistWrites writes) {
  MUST(loaded_, "something to write before the state was read");
  waiting_.push_back(std::move(writes));
  start_commit();
}

bool Ledger::idle() const { return waiting_.empty(); }

void Ledger::start_commit() {
  if (stage_ != Stage::kReady || in_transaction_ || backing_off_ || waiting_.empty()) return;
  under_way_ = 0;
  uint64_t bytes = 0;
  uint64_t count = 0;
  while (under_way_ < waiting_.size() &&
         (under_way_ == 0 || (bytes < kCommitBytesMax && count < kCommitWritesMax))) {
    for (const Write& write : waiting_[under_way_].writes) bytes += size_bytes(write.value);
    count += waiting_[under_way_].writes.size();
    ++under_way_;
  }
  begin_transaction([this](bool done) { end_commit(done); });
  for (size_t i = 0; i < under_way_; ++i) {
    for (const Write& write : waiting_[i].writes) queue(write);
  }
  queue({"SET", key("commit"), std::to_string(commit_ + 1)});
  end_transaction();
}

void Ledger::end_commit(bool done) {
  if (!done) return retry_later();
  ++commit_;
  ++report_.commits_total;
  all_well();
  acknowledge();
  start_commit();
}

void Ledger::acknowledge() {
  if (under_way_ == 0) return;
  Ticket ticket = waiting_[under_way_ - 1].ticket;
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<ptrdiff_t>(under_way_));
  under_way_ = 0;
  handlers_.on_persisted(ticket);
}

void Ledger::begin_transaction(std::function<void(bool done)> then) {
  MUST(!in_transaction_, "a transaction within a transaction");
  in_transaction_ = true;
  transaction_done_ = false;
  transaction_error_.clear();
  transaction_then_ = std::move(then);
  queue({"MULTI"});
}

void Ledger::queue(const std::vector<std::string_view>& arguments) {
  link_->send(arguments, [this](const redisReply& reply) {
    if (is_error(reply) && transaction_error_.empty()) transaction_error_ = text_of(reply);
  });
}

void Ledger::queue(const Write& write) {
  std::string table = key(write.table);
  if (write.value) {
    queue({"HSET", table, write.key, *write.value});
  } else {
    queue({"HDEL", table, write.key});
  }
}

void Ledger::end_transaction() {
  link_->send({"EXEC"}, [this](const redisReply& reply) { take_exec(reply); });
  // At once, so that the next transaction is watched without another round trip.
  ask({"WATCH", key("epoch")}, [](const redisReply&) {});
  ask({"GET", key("epoch")}, [this](const redisReply& reply) { take_epoch_after(content_of(reply)); });
}

void Ledger::take_exec(const redisReply& reply) {
  transaction_done_ = reply.type == REDIS_REPLY_ARRAY;
  if (is_error(reply) && transaction_error_.empty()) transaction_error_ = text_of(reply);
  for (size_t i = 0; transaction_done_ && i < reply.elements; ++i) {
    if (!is_error(*reply.element[i])) continue;
    if (transaction_error_.empty()) transaction_error_ = text_of(*reply.element[i]);
  }
  transaction_done_ = transaction_done_ && transaction_error_.empty();
}

void Ledger::take_epoch_after(const std::string& epoch) {
  in_transaction_ = false;
  if (number_of(epoch) != epoch_) return meet_again();
  if (!transaction_error_.empty()) trouble(explain(transaction_error_));
  std::exchange(transaction_then_, nullptr)(transaction_done_);
}

// Notices in quiet times, too, that a later head started or that Redis lost its data.
void Ledger::check_epoch() {
  if (stage_ == Stage::kFenced) return;
  check_.set_after(kCheckPeriod);
  if (stage_ != Stage::kReady || in_transaction_) return;
  ask({"GET", key("epoch")}, [this](const redisReply& reply) {
    bool ours = number_of(content_of(reply)) == epoch_;
    if (stage_ == Stage::kReady && !in_transaction_ && !ours) meet_again();
  });
}

// ---------------------------------------------------------------- trouble

void Ledger::retry_later() {
  backing_off_ = true;
  retry_.set_after(retry_wait_);
  retry_wait_ = std::min(retry_wait_ * 2, kRetryMax);
}

void Ledger::trouble(const std::string& what) {
  ++report_.errors_total;
  report_.connected = false;
  report_.last_error = what;
  if (said_ != what) log::warn("what must last waits: {}", what);
  said_ = what;
}

void Ledger::all_well() {
  report_.connected = true;
  report_.last_error.clear();
  retry_wait_ = kRetryMin;
  if (!said_.empty()) log::info("Redis is well again");
  said_.clear();
}

void Ledger::lost(const std::string& reason) {
  if (stage_ == Stage::kFenced) return;
  stage_ = Stage::kAway;
  in_transaction_ = false;
  transaction_then_ = nullptr;
  rewriting_.clear();
  trouble("Redis at " + link_->address() + " can't be used: " + reason);
}

void Ledger::fence(std::string reason) {
  stage_ = Stage::kFenced;
  report_.connected = false;
  report_.last_error = reason;
  handlers_.on_fenced(std::move(reason));
}

}  // namespace raylet
