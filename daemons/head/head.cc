#include "daemons/head/head.h"

#include "daemons/kit/log.h"
#include "daemons/kit/metrics.h"
#include "protocol/words/overloaded.h"

namespace raylet {
namespace {

Refused come_later(std::string why) {
  return {Code::kUnavailable, FailureCode::kUnavailable, std::move(why), {}};
}

}  // namespace

Result<std::unique_ptr<Head>> Head::open(Loop& loop, const std::string& redis_address, Handlers handlers) {
  auto head = std::unique_ptr<Head>(new Head(loop, redis_address, std::move(handlers)));
  Head* self = head.get();
  auto ledger = Ledger::open(loop, redis_address,
                             {[self](Ledger::Loaded loaded) { self->on_loaded(std::move(loaded)); },
                              [self](Ticket ticket) { self->add(WritesPersisted{ticket}); },
                              [self] { return self->cluster_->everything(); },
                              [self](std::string reason) { self->handlers_.on_fenced(std::move(reason)); }});
  if (!ledger.ok()) return ledger.error();
  head->ledger_ = *std::move(ledger);
  loop.set_turn_end([self] { self->step(); });
  return head;
}

Head::Head(Loop& loop, std::string redis_address, Handlers handlers)
    : loop_(loop),
      redis_address_(std::move(redis_address)),
      handlers_(std::move(handlers)),
      wake_(loop, [this] { add(HeadTick{}); }) {}

Head::~Head() { loop_.set_turn_end([] {}); }

void Head::on_loaded(Ledger::Loaded loaded) {
  identity_ = {loaded.cluster, loaded.epoch};
  ClusterOptions options;
  options.epoch = loaded.epoch;
  cluster_ = std::make_unique<Cluster>(options);
  LoadReport report = cluster_->load(loop_.now(), loaded.records);
  refused_records_ = report.refused.size();
  for (const std::string& why : report.refused) log::error("a stored record is left alone: {}", why);
  add(HeadTick{});
  handlers_.on_loaded();
}

void Head::add(HeadEvent event) {
  events_.push_back(std::move(event));
  loop_.request_turn_end();
}

void Head::ask(HeadEvent event, OnAnswer on_answer) {
  if (going_down_) return on_answer(come_later("this head is going down"));
  if (!loaded()) {
    const std::string& trouble = ledger_->report().last_error;
    return on_answer(come_later("this head is reading its state from Redis" +
                                (trouble.empty() ? std::string() : "; " + trouble)));
  }
  if (calls_.size() >= kCallsMax) {
    return on_answer(come_later(std::to_string(calls_.size()) + " requests wait already"));
  }
  CallId call{++last_call_};
  std::visit(
      [call](auto& which) {
        if constexpr (requires { which.call; }) which.call = call;
      },
      event);
  calls_.emplace(call, std::move(on_answer));
  add(std::move(event));
}

WatchId Head::open_watch(uint64_t known_version, OnChange on_change) {
  WatchId watch{++last_watch_};
  if (!loaded() || going_down_) {
    on_change(nullptr);
    return watch;
  }
  watches_.emplace(watch, std::move(on_change));
  add(WatchOpened{watch, known_version});
  return watch;
}

void Head::watch_ready(WatchId watch) {
  if (watches_.count(watch) > 0) add(WatchReady{watch});
}

void Head::close_watch(WatchId watch) {
  if (watches_.erase(watch) > 0) add(WatchClosed{watch});
}

void Head::refuse_all() {
  going_down_ = true;
  for (auto& [call, on_answer] : std::exchange(calls_, {})) on_answer(come_later("this head is going down"));
  for (auto& [watch, on_change] : std::exchange(watches_, {})) on_change(nullptr);
}

bool Head::idle() const { return events_.empty() && ledger_->idle(); }

void Head::step() {
  if (!loaded()) return;
  std::swap(stepping_, events_);
  cluster_->step(loop_.now(), stepping_, effects_);
  stepping_.clear();
  for (HeadEffect& effect : effects_) perform(effect);
  effects_.clear();
}

void Head::perform(HeadEffect& effect) {
  std::visit(Overloaded{[&](PersistWrites& writes) { ledger_->persist(std::move(writes)); },
                        [&](HeadReply& reply) {
                          auto at = calls_.find(reply.call);
                          if (at == calls_.end()) return;  // refused when this head was told to go
                          OnAnswer on_answer = std::move(at->second);
                          calls_.erase(at);
                          on_answer(std::move(reply.answer));
                        },
                        [&](ViewChanged& changed) {
                          if (auto at = watches_.find(changed.watch); at != watches_.end())
                            at->second(&changed.part);
                        },
                        [&](WatchRefused& refused) {
                          auto at = watches_.find(refused.watch);
                          if (at == watches_.end()) return;
                          OnChange on_change = std::move(at->second);
                          watches_.erase(at);
                          on_change(nullptr);
                        },
                        [&](Notice& notice) {
                          notice.warning ? log::warn("{}", notice.text) : log::info("{}", notice.text);
                        },
                        [&](WakeHeadAt& wake) { wake_.set(wake.at); }},
             effect);
}

ClusterReport Head::report() const { return cluster_ ? cluster_->report() : ClusterReport{}; }

std::string Head::metrics_text() const {
  ClusterReport core = report();
  const Ledger::Report& ledger = ledger_->report();
  MetricsText text;
  text.gauges({
      {"raylet_head_loop_lag_seconds", "How late the head's loop is.", loop_.lag_seconds()},
      {"raylet_head_epoch", "Which life of the head this is.", core.epoch},
      {"raylet_head_nodes", "Nodes that are registered.", core.node_count},
      {"raylet_head_nodes_suspect", "Nodes that have been silent for a while.", core.suspect_count},
      {"raylet_head_jobs", "Jobs that have not ended.", core.job_count},
      {"raylet_head_graphs", "Graphs that are recorded.", core.graph_count},
      {"raylet_head_graph_bytes", "Bytes of recorded graphs.", core.graph_bytes},
      {"raylet_head_names", "Names of actors.", core.name_count},
      {"raylet_head_view_watchers", "Readers of the view's changes.", core.watch_count},
      {"raylet_head_calls_waiting", "Requests without an answer yet.", calls_.size()},
      {"raylet_head_writes_waiting", "Writes that Redis has not acknowledged.", core.unwritten_count},
      {"raylet_head_write_bytes_waiting", "Bytes of these writes.", core.unwritten_bytes},
      {"raylet_head_redis_connected", "1 if Redis is there and in order.", ledger.connected ? 1 : 0},
      {"raylet_head_refused_records", "Stored records that could not be read.", refused_records_},
  });
  text.counters({
      {"raylet_head_calls_total", "Requests ever.", last_call_},
      {"raylet_head_refusals_total", "Requests that were refused.", core.refusals_total},
      {"raylet_head_writes_total", "Writes ever given to Redis.", core.writes_total},
      {"raylet_head_commits_total", "Commits that Redis acknowledged.", ledger.commits_total},
      {"raylet_head_redis_connects_total", "Connections made to Redis.", ledger.connects_total},
      {"raylet_head_redis_errors_total", "Times that Redis could not do what it was asked.", ledger.errors_total},
      {"raylet_head_state_rewrites_total", "Times that Redis had lost the state.", ledger.rewrites_total},
      {"raylet_head_nodes_died_total", "Nodes given up after their lease.", core.nodes_died_total},
      {"raylet_head_jobs_expired_total", "Jobs ended because nobody renewed their lease.",
       core.jobs_expired_total},
  });
  return text.take();
}

}  // namespace raylet
