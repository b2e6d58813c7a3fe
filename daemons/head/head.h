// Head: the cluster's core and its ledger on one loop.
//
// Requests collect within a turn of the loop; at its end the core is stepped with all of them, and what they
// change goes to Redis as one commit. Lives on the loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemons/head/head_codec.h"
#include "daemons/head/ledger.h"
#include "daemons/kit/loop.h"
#include "gcs/cluster.h"

namespace raylet {

class Head {
 public:
  // Requests without an answer. Beyond it a request is told to come later.
  static constexpr size_t kCallsMax = 50'000;

  using OnAnswer = std::function<void(Answer)>;
  // A part of the view, or nothing: the watch has ended.
  using OnChange = std::function<void(const ViewPart* part)>;

  struct Handlers {
    std::function<void()> on_loaded;                    // once: requests are served from now on
    std::function<void(std::string reason)> on_fenced;  // a later head took over: this one must exit
  };

  // An Error says what is wrong with the address of Redis.
  static Result<std::unique_ptr<Head>> open(Loop& loop, const std::string& redis_address, Handlers handlers);
  ~Head();

  // Exactly one answer comes, maybe at once.
  void ask(HeadEvent event, OnAnswer on_answer);

  WatchId open_watch(uint64_t known_version, OnChange on_change);
  void watch_ready(WatchId watch);
  void close_watch(WatchId watch);

  // Answers what still waits: this head is going down.
  void refuse_all();
  bool loaded() const { return cluster_ != nullptr; }
  // Everything that was asked for is on disk.
  bool idle() const;

  const HeadIdentity& identity() const { return identity_; }
  const std::string& redis_address() const { return redis_address_; }
  ClusterReport report() const;
  const Ledger::Report& ledger_report() const { return ledger_->report(); }
  size_t calls_waiting() const { return calls_.size(); }
  uint64_t calls_total() const { return last_call_; }
  std::string metrics_text() const;

 private:
  Head(Loop& loop, std::string redis_address, Handlers handlers);
  void on_loaded(Ledger::Loaded loaded);
  void add(HeadEvent event);
  void step();
  void perform(HeadEffect& effect);

  Loop& loop_;
  std::string redis_address_;
  Handlers handlers_;
  std::unique_ptr<Ledger> ledger_;
  std::unique_ptr<Cluster> cluster_;  // null until loaded
  HeadIdentity identity_;
  size_t refused_records_ = 0;
  bool going_down_ = false;
  uint64_t last_call_ = 0;
  uint64_t last_watch_ = 0;
  std::unordered_map<CallId, OnAnswer> calls_;
  std::unordered_map<WatchId, OnChange> watches_;
  std::vector<HeadEvent> events_;
  std::vector<HeadEvent> stepping_;
  std::vector<HeadEffect> effects_;
  Alarm wake_;
};

}  // namespace raylet
