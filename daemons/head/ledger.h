// Ledger: the head's state on disk, kept in Redis.
//
// Keys: "raylet:cluster" holds the cluster's id (32 hex digits), made once. Under "raylet:<id>:" lie "epoch"
// and "commit" (numbers) and one hash for each table: nodes, jobs, graphs, names.
//
// What always holds:
//   * One commit at a time: everything that waits goes as one MULTI/EXEC with the next commit number, and the
//     tickets are acknowledged when EXEC has answered. With appendfsync always that means: on disk.
//   * Fencing: each life of a head first increments the epoch. A commit is carried out only if the epoch is
//     still ours (WATCH); a head that finds a larger one calls on_fenced and writes nothing any more.
//   * After a lost connection the commit number tells whether the last commit arrived; if not, it is sent
//     again. Puts and deletes may be repeated without harm.
//   * A Redis that came back empty or older than what it had acknowledged is given the whole state again.
//   * An error of Redis (disk full, out of memory ...) is said once in the log and in the report, and the
//     commit is tried again until it works.
//
// The queue is bounded by whoever fills it: the core refuses new work beyond ClusterOptions::unwritten_*.
// Lives on the loop's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "daemons/kit/loop.h"
#include "daemons/kit/redis_link.h"
#include "gcs/effects.h"
#include "gcs/record.h"

namespace raylet {

class Ledger {
 public:
  static constexpr uint64_t kCommitBytesMax = 8 << 20;  // one larger write goes alone
  static constexpr uint64_t kCommitWritesMax = 10'000;
  static constexpr Duration kRetryMin = std::chrono::milliseconds(50);  // after an error of Redis
  static constexpr Duration kRetryMax = std::chrono::seconds(1);
  static constexpr Duration kCheckPeriod = std::chrono::seconds(2);     // of the epoch, while idle

  struct Loaded {
    std::string cluster;  // 16 bytes
    uint64_t epoch = 0;
    std::vector<StoredRecord> records;
  };

  struct Handlers {
    std::function<void(Loaded)> on_loaded;  // once; nothing else before
    std::function<void(Ticket)> on_persisted;
    std::function<std::vector<Write>()> everything;  // the whole state, for a Redis that has lost it
    std::function<void(std::string reason)> on_fenced;  // once; nothing else after
  };

  struct Report {
    bool connected = false;  // and in order: the last thing Redis was asked to do it did
    uint64_t commits_total = 0;
    uint64_t connects_total = 0;
    uint64_t rewrites_total = 0;
    uint64_t errors_total = 0;
    std::string last_error;               // empty while all is well
    std::vector<std::string> complaints;  // settings that endanger what is acknowledged
  };

  // An Error says what is wrong with the address. Connects at once.
  static Result<std::unique_ptr<Ledger>> open(Loop& loop, const std::string& redis_address, Handlers handlers);
  ~Ledger();

  // REQUIRES: on_loaded was called. Answered by on_persisted, in order.
  void persist(PersistWrites writes);
  bool idle() const;  // nothing waits
  const Report& report() const { return report_; }

 private:
  enum class Stage { kAway, kMeeting, kRewriting, kReady, kFenced };

  Ledger(Loop& loop, Handlers handlers);

  // The first meeting: settings, cluster id, an epoch of our own, everything that is stored.
  void meet();
  void check_settings();
  void check_setting(const std::string& name, const std::string& wanted, const std::string& danger);
  void take_epoch();
  void load();
  void take_table(Table table, const redisReply& reply);

  // After a lost connection, or when something looks wrong: is this still what we left?
  void meet_again();
  void compare(const std::string& cluster, const std::string& epoch, const std::string& commit);
  void rewrite();
  void rewrite_next();
  void become_ready();

  void start_commit();
  void end_commit(bool done);
  void acknowledge();
  void check_epoch();

  // One MULTI/EXEC under the watch on the epoch; `then` is told if it was carried out.
  void begin_transaction(std::function<void(bool done)> then);
  void queue(const std::vector<std::string_view>& arguments);
  void queue(const Write& write);
  void end_transaction();
  void take_exec(const redisReply& reply);
  void take_epoch_after(const std::string& epoch);

  void ask(const std::vector<std::string_view>& arguments, RedisLink::OnReply on_reply);
  void trouble(const std::string& what);
  void all_well();
  void lost(const std::string& reason);
  void retry_later();
  void fence(std::string reason);
  std::string key(const char* name) const;
  std::string key(Table table) const { return key(to_string(table)); }

  Loop& loop_;
  Handlers handlers_;
  std::unique_ptr<RedisLink> link_;
  Stage stage_ = Stage::kAway;
  bool loaded_ = false;
  std::string cluster_hex_;
  uint64_t epoch_ = 0;
  uint64_t commit_ = 0;  // the last one that Redis acknowledged
  Loaded loading_;

  std::deque<PersistWrites> waiting_;
  size_t under_way_ = 0;  // so many of waiting_, from its front, are in the commit under way
  std::deque<Write> rewriting_;
  bool rewrite_begun_ = false;

  // The transaction under way.
  bool in_transaction_ = false;
  bool backing_off_ = false;  // after one that failed
  bool transaction_done_ = false;
  std::string transaction_error_;
  std::function<void(bool done)> transaction_then_;

  Duration retry_wait_ = kRetryMin;
  Alarm retry_;
  Alarm check_;
  Report report_;
  std::string said_;  // the trouble that was logged last, so that it is logged once
};

}  // namespace raylet
