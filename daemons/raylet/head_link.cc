#include "daemons/raylet/head_link.h"

#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "protocol/codec/session_codec.h"
#include "protocol/wire/head.grpc.pb.h"
#include "protocol/words/check.h"
#include "protocol/words/overloaded.h"

namespace raylet {
namespace {

constexpr Duration kHeartbeatWaitMax = std::chrono::seconds(5);
constexpr Duration kLeaveWaitMax = std::chrono::seconds(1);

using NameKey = std::pair<std::string, std::string>;  // namespace, name

// How many calls gRPC still works on. Outlives the link, because gRPC's threads count down.
class CallsUnderWay {
 public:
  void begin() {
    std::lock_guard lock(mutex_);
    ++count_;
  }
  void end() {
    std::lock_guard lock(mutex_);
    if (--count_ == 0) none_left_.notify_all();
  }
  void wait_for_none() {
    std::unique_lock lock(mutex_);
    none_left_.wait(lock, [this] { return count_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable none_left_;
  int count_ = 0;
};

std::shared_ptr<grpc::Channel> make_channel(const std::string& address) {
  grpc::ChannelArguments arguments;
  auto set_ms = [&](const char* name, Duration value) {
    arguments.SetInt(name, static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(value).count()));
  };
  set_ms(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, HeadLink::kBackoffMin);
  set_ms(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, std::chrono::seconds(1));
  set_ms(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, HeadLink::kBackoffMax / 2);
  set_ms(GRPC_ARG_KEEPALIVE_TIME_MS, std::chrono::seconds(10));
  set_ms(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, std::chrono::seconds(10));
  arguments.SetMaxSendMessageSize(-1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

// The same call may be answered otherwise later. What only an operator can repair counts as such: the record
// waits until it is repaired.
bool is_passing(const grpc::Status& status) {
  switch (status.error_code()) {
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::OUT_OF_RANGE:
    case grpc::StatusCode::FAILED_PRECONDITION:
    case grpc::StatusCode::ALREADY_EXISTS:
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return false;
    default:
      return true;
  }
}

Failure failure_of(const grpc::Status& status) {
  Failure failure;
  failure.code = status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED ? FailureCode::kLimitExceeded
                                                                             : FailureCode::kRequestInvalid;
  failure.message = status.error_message();
  return failure;
}

Failure failure_of(v1::Failure message) {
  Result<Failure> failure = decode_failure(std::move(message));
  if (failure.ok()) return *std::move(failure);
  Failure unreadable;
  unreadable.code = FailureCode::kRequestInvalid;
  unreadable.message = "the head refused: " + failure.error().message;
  return unreadable;
}

template <typename Reply>
Failure failure_in(const Reply& reply) {
  if constexpr (requires { reply.failure(); }) {
    if (reply.has_failure() && reply.failure().code() != v1::ERROR_NONE) return failure_of(reply.failure());
  }
  return {};
}

struct Call {
  grpc::ClientContext context;
  virtual ~Call() = default;
};

template <typename Request, typename Reply>
struct CallOf : Call {
  Request request;
  Reply reply;
};

}  // namespace

struct HeadLink::State : std::enable_shared_from_this<HeadLink::State> {
  // One wish, from persist() or find_name() or the link itself, until it is answered.
  struct Item {
    uint64_t number = 0;  // in the order of their coming
    std::variant<Record, FindName> wish;
    Ticket ticket;        // nil: the link's own wish, nobody waits for an answer
    JobId job;
    uint64_t bytes = 0;
    size_t blocked_by = 0;
    std::vector<std::shared_ptr<Item>> blocks;
    bool in_flight = false;
    bool ever_sent = false;
    bool dropped = false;  // no longer wanted: not tried again
    bool answered = false;
  };
  using ItemPtr = std::shared_ptr<Item>;

  struct Job {
    RecordJob record;
    ItemPtr registration;  // while under way
    ItemPtr ending;        // likewise
    Failure refused;       // the head does not want it: nor anything of it
    bool sent = false;     // the head may know it
    bool known = false;    // the head said that it does
    std::set<uint64_t> items;  // without an answer
  };
  struct Graph {
    JobId job;
    bool sent = false;  // the head may know it
    std::set<uint64_t> parts;  // without an answer
  };
  struct Name {
    ItemPtr last;                    // the last wish about it without an answer
    std::optional<RecordName> held;  // acknowledged, not forgotten
  };

  State(Loop& given_loop, Options given_options, Handlers given_handlers)
      : loop(given_loop),
        options(std::move(given_options)),
        handlers(std::move(given_handlers)),
        stub(v1::Head::NewStub(make_channel(options.address))),
        retry(loop, [this] { on_retry(); }),
        heartbeat(loop, [this] { send_heartbeat(); }),
        leave_deadline(loop, [this] { left(); }) {}

  Loop& loop;
  Options options;
  Handlers handlers;
  std::unique_ptr<v1::Head::Stub> stub;
  std::shared_ptr<CallsUnderWay> under_way = std::make_shared<CallsUnderWay>();
  std::set<std::shared_ptr<Call>> calls;

  // Conversation.
  bool registering = false;
  bool registered = false;
  bool heartbeat_in_flight = false;
  bool stale = false;
  bool backing_off = false;
  Duration backoff = kBackoffMin;
  Duration heartbeat_every = std::chrono::seconds(1);
  Report facts;
  Alarm retry;
  Alarm heartbeat;

  // Wishes.
  uint64_t last_number = 0;
  std::map<uint64_t, ItemPtr> items;  // all without an answer
  std::map<uint64_t, ItemPtr> ready;  // those that nothing blocks and that are not in flight
  std::map<JobId, Job> jobs;
  std::map<GraphId, Graph> graphs;
  std::map<NameKey, Name> names;
  size_t calls_in_flight = 0;
  uint64_t call_bytes = 0;
  bool pump_posted = false;
  std::vector<Event> answers;
  bool answers_posted = false;

  std::function<void()> on_left;
  bool leaving = false;
  bool leave_sent = false;
  Alarm leave_deadline;

  // ---------------------------------------------------------------- calls

  // `start` begins the call; `then` is called on the loop with its end, unless the link is gone by then.
  template <typename Request, typename Reply, typename Start, typename Then>
  void call(std::shared_ptr<CallOf<Request, Reply>> call, Start start, Then then) {
    ++facts.calls_total;
    calls.insert(call);
    if (!options.token.empty()) call->context.AddMetadata("authorization", "Bearer " + options.token);
    under_way->begin();
    // The call goes to the loop with its answer, so that gRPC's thread never lets go of the last channel: gRPC
    // would then wait on that thread for that very thread to end.
    start(stub->async(), &call->context, &call->request, &call->reply,
          [weak = weak_from_this(), call, then, where = &loop, counter = under_way](grpc::Status status) mutable {
            where->post([weak, call = std::move(call), then, status] {
              std::shared_ptr<State> state = weak.lock();
              if (!state) return;
              state->calls.erase(call);
              then(status, call->reply);
            });
            counter->end();
          });
  }

  void note_success() {
    backoff = kBackoffMin;
    if (!facts.last_error.empty()) spdlog::info("the head answers again address={}", options.address);
    facts.last_error.clear();
    facts.connected = registered;
  }

  // Something failed that may work later: everything waits a little.
  void note_trouble(const std::string& what) {
    ++facts.retries_total;
    facts.connected = false;
    if (facts.last_error.empty()) spdlog::warn("the head can't do it now address={} reason=\"{}\"", options.address, what);
    facts.last_error = what.empty() ? "no reason given" : what;
    if (backing_off) return;
    backing_off = true;
    retry.set_after(backoff);
    backoff = std::min(backoff * 2, kBackoffMax);
  }

  void on_retry() {
    backing_off = false;
    registered ? pump() : start_registration();
  }

  // ---------------------------------------------------------------- membership

  void start_registration() {
    if (registering || stale || backing_off || leave_sent) return;
    registering = true;
    registered = false;
    auto fresh = std::make_shared<CallOf<v1::RegisterNodeRequest, v1::RegisterNodeReply>>();
    const Self& self = options.self;
    v1::NodeInfo* info = fresh->request.mutable_info();
    info->set_node(self.node.binary());
    info->set_incarnation(self.incarnation.number);
    info->set_host(self.host);
    info->set_address(self.address);
    encode_resources(self.total, info->mutable_total());
    for (const auto& [name, value] : self.labels) (*info->mutable_labels())[name] = value;
    info->set_pid(self.pid);
    info->set_store_capacity_bytes(self.store_capacity_bytes);
    call(
        fresh,
        [](auto* async, auto* context, auto* request, auto* reply, auto done) {
          async->RegisterNode(context, request, reply, std::move(done));
        },
        [this](const grpc::Status& status, const v1::RegisterNodeReply& reply) { on_registered(status, reply); });
  }

  void on_registered(const grpc::Status& status, const v1::RegisterNodeReply& reply) {
    registering = false;
    if (!status.ok()) return note_trouble(status.error_message());
    Failure failure = failure_in(reply);
    if (failure.code == FailureCode::kRequestInvalid) return stop_as_stale(failure.message);
    if (failure.code != FailureCode::kNone) return note_trouble(failure.message);
    if (!facts.cluster.empty() && facts.cluster != reply.cluster()) {
      spdlog::error("the head serves another cluster than before: its Redis lost everything; what lives here is told "
                    "to it again");
    }
    facts.cluster = reply.cluster();
    facts.epoch = reply.epoch();
    if (reply.heartbeat_ms() > 0) heartbeat_every = std::chrono::milliseconds(reply.heartbeat_ms());
    registered = true;
    note_success();
    spdlog::info("registered with the head node={} epoch={}", options.self.node.hex(), facts.epoch);
    send_heartbeat();
    pump();
  }

  void stop_as_stale(const std::string& reason) {
    stale = true;
    registered = false;
    facts.connected = false;
    facts.last_error = reason;
    heartbeat.clear();
    retry.clear();
    handlers.on_stale(reason);
  }

  void send_heartbeat() {
    if (stale || leaving || heartbeat_in_flight) return;
    heartbeat.set_after(heartbeat_every);
    if (!registered) return start_registration();
    heartbeat_in_flight = true;
    auto fresh = std::make_shared<CallOf<v1::HeartbeatRequest, v1::HeartbeatReply>>();
    Usage usage = handlers.usage();
    fresh->context.set_deadline(std::chrono::system_clock::now() + kHeartbeatWaitMax);
    fresh->request.set_node(options.self.node.binary());
    fresh->request.set_incarnation(options.self.incarnation.number);
    encode_resources(usage.available, fresh->request.mutable_available());
    fresh->request.set_store_used_bytes(usage.store_used_bytes);
    for (const auto& [id, job] : jobs) {
      if (job.known) fresh->request.add_jobs(id.binary());
    }
    for (const auto& [id, graph] : graphs) {
      if (graph.sent) fresh->request.add_graphs(id.binary());
    }
    call(
        fresh,
        [](auto* async, auto* context, auto* request, auto* reply, auto done) {
          async->Heartbeat(context, request, reply, std::move(done));
        },
        [this](const grpc::Status& status, const v1::HeartbeatReply& reply) { on_heartbeat(status, reply); });
  }

  void on_heartbeat(const grpc::Status& status, const v1::HeartbeatReply& reply) {
    heartbeat_in_flight = false;
    if (!leaving) heartbeat.set_after(heartbeat_every);
    if (!status.ok()) return note_trouble(status.error_message());
    facts.epoch = reply.epoch();
    note_success();
    if (reply.register_again()) {
      spdlog::warn("the head does not know this node: registering again");
      facts.connected = registered = false;
      return start_registration();
    }
    for (const std::string& bytes : reply.ended_jobs()) {
      if (std::optional<JobId> job = JobId::from_binary(bytes)) register_again(*job);
    }
  }

  // The head gave the job up, or lost it; its driver is here all the same.
  void register_again(JobId id) {
    auto at = jobs.find(id);
    if (at == jobs.end() || !at->second.known || at->second.registration) return;
    spdlog::warn("the head does not know a job of this node: registering it again job={}", id.hex());
    at->second.known = false;
    add(Ticket{}, Record(at->second.record));
    std::vector<RecordName> held;
    for (const auto& [key, name] : names) {
      if (name.held && name.held->job == id && !name.last) held.push_back(*name.held);
    }
    for (RecordName& name : held) add(Ticket{}, Record(std::move(name)));
  }

  // ---------------------------------------------------------------- wishes

  void add(Ticket ticket, std::variant<Record, FindName> wish) {
    auto item = std::make_shared<Item>();
    item->number = ++last_number;
    item->ticket = ticket;
    item->wish = std::move(wish);
    items.emplace(item->number, item);
    if (auto* find = std::get_if<FindName>(&item->wish)) {
      wait_for_name(item, {find->name_space, find->name}, false);
    } else {
      std::visit([&](const auto& record) { place(item, record); }, std::get<Record>(item->wish));
    }
    if (!item->answered && item->blocked_by == 0) ready.emplace(item->number, item);
    post_pump();
  }

  void block(const ItemPtr& item, const ItemPtr& by) {
    if (!by || by->answered) return;
    by->blocks.push_back(item);
    ++item->blocked_by;
  }

  void join_job(const ItemPtr& item, JobId id) {
    item->job = id;
    auto at = jobs.find(id);
    if (at == jobs.end()) return;
    block(item, at->second.registration);
    at->second.items.insert(item->number);
  }

  void wait_for_name(const ItemPtr& item, const NameKey& key, bool changes) {
    auto at = names.find(key);
    if (at != names.end()) block(item, at->second.last);
    if (changes) names[key].last = item;
  }

  void place(const ItemPtr& item, const RecordJob& record) {
    Job& job = jobs[record.job];
    block(item, job.registration);
    block(item, job.ending);
    job.refused = {};
    job.record = record;
    job.registration = item;
    item->job = record.job;
    job.items.insert(item->number);
  }

  void place(const ItemPtr& item, const RecordGraph& record) {
    item->bytes = record.chunk ? record.chunk->wire_bytes : 0;
    facts.waiting_bytes += item->bytes;
    join_job(item, record.job);
    Graph& graph = graphs[record.graph];
    graph.job = record.job;
    graph.parts.insert(item->number);
  }

  void place(const ItemPtr& item, const ForgetGraph& record) {
    auto at = graphs.find(record.graph);
    if (at == graphs.end()) return answer(item, {});
    join_job(item, at->second.job);
    std::set<uint64_t> parts = at->second.parts;
    for (uint64_t part : parts) drop_or_wait(item, part);
    if (!at->second.sent) {
      graphs.erase(at);
      answer(item, {});
    }
  }

  void place(const ItemPtr& item, const ForgetJob& record) {
    auto at = jobs.find(record.job);
    if (at == jobs.end()) return;  // one of an earlier life, maybe: the head is asked all the same
    item->job = record.job;
    block(item, at->second.ending);
    at->second.ending = item;
    std::set<uint64_t> others = std::exchange(at->second.items, {item->number});
    for (uint64_t other : others) drop_or_wait(item, other);
    if (!at->second.sent) answer(item, {});
  }

  void place(const ItemPtr& item, const RecordName& record) {
    join_job(item, record.job);
    wait_for_name(item, {record.name_space, record.name}, true);
  }

  void place(const ItemPtr& item, const ForgetName& record) {
    NameKey key{record.name_space, record.name};
    wait_for_name(item, key, true);
    names[key].held.reset();
  }

  // `item` makes `number` pointless: it is dropped, or waited for if the head is at work on it.
  void drop_or_wait(const ItemPtr& item, uint64_t number) {
    auto at = items.find(number);
    if (at == items.end()) return;
    ItemPtr other = at->second;
    if (is_lasting(*other)) return block(item, other);
    if (other->in_flight) {
      other->dropped = true;
      return block(item, other);
    }
    answer(other, {});
  }

  // Not made pointless by the end of its job.
  static bool is_lasting(const Item& item) {
    const auto* record = std::get_if<Record>(&item.wish);
    if (record == nullptr || std::holds_alternative<ForgetJob>(*record)) return true;
    const auto* name = std::get_if<RecordName>(record);
    return name != nullptr && name->detached;
  }

  // The end of an item: its answer, the tables, and whoever waited for it.
  void answer(const ItemPtr& item, Persisted with) {
    if (std::exchange(item->answered, true)) return;
    items.erase(item->number);
    ready.erase(item->number);
    facts.waiting_bytes -= item->bytes;
    if (auto at = jobs.find(item->job); at != jobs.end()) at->second.items.erase(item->number);
    if (const auto* record = std::get_if<Record>(&item->wish)) {
      bool done = with.failure.code == FailureCode::kNone && !item->dropped;
      auto at = jobs.find(item->job);
      if (std::holds_alternative<RecordJob>(*record) && at != jobs.end()) at->second.refused = with.failure;
      std::visit([&](const auto& which) { finish(item, which, done); }, *record);
      if (!item->ticket.is_nil()) {
        with.ticket = item->ticket;
        tell(std::move(with));
      }
    }
    for (const ItemPtr& waiting : std::exchange(item->blocks, {})) {
      if (--waiting->blocked_by == 0 && !waiting->answered) ready.emplace(waiting->number, waiting);
    }
    post_pump();
  }

  void finish(const ItemPtr& item, const RecordJob& record, bool done) {
    auto at = jobs.find(record.job);
    if (at == jobs.end() || at->second.registration != item) return;
    at->second.registration.reset();
    at->second.known = done && item->ever_sent;
  }
  void finish(const ItemPtr& item, const RecordGraph& record, bool) {
    if (auto at = graphs.find(record.graph); at != graphs.end()) at->second.parts.erase(item->number);
  }
  void finish(const ItemPtr&, const ForgetGraph& record, bool) { graphs.erase(record.graph); }
  void finish(const ItemPtr& item, const ForgetJob& record, bool) {
    for (auto at = graphs.begin(); at != graphs.end();) {
      bool gone = at->second.job == record.job && at->second.parts.empty();
      at = gone ? graphs.erase(at) : std::next(at);
    }
    for (auto at = names.begin(); at != names.end();) {
      bool gone = at->second.held && at->second.held->job == record.job && !at->second.held->detached;
      if (gone) at->second.held.reset();
      at = !at->second.held && !at->second.last ? names.erase(at) : std::next(at);
    }
    auto at = jobs.find(record.job);
    if (at == jobs.end() || at->second.ending != item) return;
    at->second.ending.reset();
    at->second.sent = at->second.known = false;
    if (!at->second.registration) jobs.erase(at);  // else its driver has come back already
  }
  void finish(const ItemPtr& item, const RecordName& record, bool done) {
    Name& name = names[{record.name_space, record.name}];
    if (done && item->ever_sent) name.held = record;
    finish_name(item, {record.name_space, record.name});
  }
  void finish(const ItemPtr& item, const ForgetName& record, bool) {
    finish_name(item, {record.name_space, record.name});
  }
  void finish_name(const ItemPtr& item, const NameKey& key) {
    auto at = names.find(key);
    if (at == names.end()) return;
    if (at->second.last == item) at->second.last.reset();
    if (!at->second.last && !at->second.held) names.erase(at);
  }

  void tell(Event event) {
    answers.push_back(std::move(event));
    if (std::exchange(answers_posted, true)) return;
    loop.post([weak = weak_from_this()] {
      if (auto state = weak.lock()) state->deliver();
    });
  }

  void deliver() {
    answers_posted = false;
    for (Event& event : std::exchange(answers, {})) handlers.on_event(std::move(event));
  }

  // ---------------------------------------------------------------- sending

  void post_pump() {
    if (std::exchange(pump_posted, true)) return;
    loop.post([weak = weak_from_this()] {
      if (auto state = weak.lock()) {
        state->pump_posted = false;
        state->pump();
      }
    });
  }

  void pump() {
    while (registered && !backing_off && !stale && !ready.empty() && calls_in_flight < kCallsMax) {
      ItemPtr item = ready.begin()->second;
      if (calls_in_flight > 0 && call_bytes + item->bytes > kCallBytesMax) break;
      ready.erase(ready.begin());
      if (const Failure* refused = refusal_of_job(*item)) {
        Persisted with;
        with.failure = *refused;
        answer(item, std::move(with));
        continue;
      }
      item->in_flight = true;
      item->ever_sent = true;
      ++calls_in_flight;
      call_bytes += item->bytes;
      if (auto* find = std::get_if<FindName>(&item->wish)) {
        send(item, *find);
      } else {
        std::visit([&](const auto& record) { send(item, record); }, std::get<Record>(item->wish));
      }
    }
    leave_if_done();
  }

  // What belongs to a job that the head refused for good is refused with it.
  const Failure* refusal_of_job(const Item& item) const {
    const auto* record = std::get_if<Record>(&item.wish);
    if (record == nullptr) return nullptr;
    if (!std::holds_alternative<RecordGraph>(*record) && !std::holds_alternative<RecordName>(*record)) return nullptr;
    auto at = jobs.find(item.job);
    return at != jobs.end() && at->second.refused.code != FailureCode::kNone ? &at->second.refused : nullptr;
  }

  void send(const ItemPtr& item, const RecordGraph& record) {
    graphs[record.graph].sent = true;
    auto fresh = std::make_shared<CallOf<v1::RecordGraphRequest, v1::RecordGraphReply>>();
    v1::GraphChunk chunk;
    if (record.chunk) encode_graph_chunk(*record.chunk, &chunk);
    fresh->request.set_graph(record.graph.binary());
    fresh->request.set_job(record.job.binary());
    fresh->request.set_owner(options.self.node.binary());
    fresh->request.set_owner_incarnation(options.self.incarnation.number);
    fresh->request.set_part(record.part);
    fresh->request.set_last(record.last);
    chunk.SerializeToString(fresh->request.mutable_record());
    persist_by(item, fresh, [](auto* async, auto* context, auto* request, auto* reply, auto done) {
      async->RecordGraph(context, request, reply, std::move(done));
    });
  }

  void send(const ItemPtr& item, const ForgetGraph& record) {
    auto fresh = std::make_shared<CallOf<v1::EndGraphRequest, v1::EndGraphReply>>();
    fresh->request.set_graph(record.graph.binary());
    persist_by(item, fresh, [](auto* async, auto* context, auto* request, auto* reply, auto done) {
      async->EndGraph(context, request, reply, std::move(done));
    });
  }

  void send(const ItemPtr& item, const RecordJob& record) {
    jobs[record.job].sent = true;
    auto fresh = std::make_shared<CallOf<v1::RegisterJobRequest, v1::RegisterJobReply>>();
    v1::JobInfo* info = fresh->request.mutable_info();
    info->set_job(record.job.binary());
    info->set_node(options.self.node.binary());
    info->set_script(record.script);
    info->set_pid(record.pid);
    persist_by(item, fresh, [](auto* async, auto* context, auto* request, auto* reply, auto done) {
      async->RegisterJob(context, request, reply, std::move(done));
    });
  }

  void send(const ItemPtr& item, const ForgetJob& record) {
    auto fresh = std::make_shared<CallOf<v1::EndJobRequest, v1::EndJobReply>>();
    fresh->request.set_job(record.job.binary());
    persist_by(item, fresh, [](auto* async, auto* context, auto* request, auto* reply, auto done) {
      async->EndJob(context, request, reply, std::move(done));
    });
  }

  void send(const ItemPtr& item, const RecordName& record) {
    auto fresh = std::make_shared<CallOf<v1::RegisterNameRequest, v1::RegisterNameReply>>();
    fresh->request.set_namespace_(record.name_space);
    fresh->request.set_name(record.name);
    fresh->request.set_actor(record.actor.binary());
    fresh->request.set_job(record.job.binary());
    fresh->request.set_node(options.self.node.binary());
    fresh->request.set_detached(record.detached);
    if (record.handle) fresh->request.set_handle(*record.handle);
    persist_by(item, fresh, [](auto* async, auto* context, auto* request, auto* reply, auto done) {
      async->RegisterName(context, request, reply, std::move(done));
    });
  }

  void send(const ItemPtr& item, const ForgetName& record) {
    auto fresh = std::make_shared<CallOf<v1::ForgetNameRequest, v1::ForgetNameReply>>();
    fresh->request.set_namespace_(record.name_space);
    fresh->request.set_name(record.name);
    fresh->request.set_actor(record.actor.binary());
    persist_by(item, fresh, [](auto* async, auto* context, auto* request, auto* reply, auto done) {
      async->ForgetName(context, request, reply, std::move(done));
    });
  }

  void send(const ItemPtr& item, const FindName& find) {
    auto fresh = std::make_shared<CallOf<v1::FindNameRequest, v1::FindNameReply>>();
    fresh->request.set_namespace_(find.name_space);
    fresh->request.set_name(find.name);
    call(
        fresh,
        [](auto* async, auto* context, auto* request, auto* reply, auto done) {
          async->FindName(context, request, reply, std::move(done));
        },
        [this, item](const grpc::Status& status, v1::FindNameReply& reply) {
          if (!come_back(item, status)) return;
          NameFound found;
          found.ticket = std::get<FindName>(item->wish).ticket;
          std::optional<ObjectId> actor = ObjectId::from_binary(reply.actor());
          if (status.ok() && reply.found() && actor) {
            found.found = true;
            found.actor = *actor;
            found.handle = make_bytes(std::move(*reply.mutable_handle()));
          }
          tell(std::move(found));
          answer(item, {});
        });
  }

  template <typename Request, typename Reply, typename Start>
  void persist_by(const ItemPtr& item, const std::shared_ptr<CallOf<Request, Reply>>& fresh, Start start) {
    call(fresh, start, [this, item](const grpc::Status& status, const Reply& reply) {
      if (!come_back(item, status)) return;
      Persisted with;
      with.failure = status.ok() ? failure_in(reply) : failure_of(status);
      if constexpr (requires { reply.holder(); }) {
        if (std::optional<ObjectId> holder = ObjectId::from_binary(reply.holder())) with.name_holder = *holder;
      }
      answer(item, std::move(with));
    });
  }

  // False: it was not an answer that lasts, and the item goes again later.
  bool come_back(const ItemPtr& item, const grpc::Status& status) {
    item->in_flight = false;
    --calls_in_flight;
    call_bytes -= item->bytes;
    if (status.ok() || !is_passing(status)) {
      note_success();
      post_pump();
      return true;
    }
    if (item->dropped) {
      answer(item, {});
    } else {
      ready.emplace(item->number, item);
    }
    note_trouble(status.error_message());
    return false;
  }

  // ---------------------------------------------------------------- the end

  void leave_if_done() {
    if (!leaving || leave_sent || !items.empty()) return;
    leave_sent = true;
    if (!registered) return left();
    auto fresh = std::make_shared<CallOf<v1::LeaveNodeRequest, v1::LeaveNodeReply>>();
    fresh->context.set_deadline(std::chrono::system_clock::now() + kLeaveWaitMax);
    fresh->request.set_node(options.self.node.binary());
    fresh->request.set_incarnation(options.self.incarnation.number);
    call(
        fresh,
        [](auto* async, auto* context, auto* request, auto* reply, auto done) {
          async->LeaveNode(context, request, reply, std::move(done));
        },
        [this](const grpc::Status&, const v1::LeaveNodeReply&) { left(); });
  }

  void left() {
    stale = true;  // nothing is sent any more
    leave_deadline.clear();
    retry.clear();
    if (auto done = std::exchange(on_left, nullptr)) done();
  }
};

HeadLink::HeadLink(Loop& loop, Options options, Handlers handlers)
    : state_(std::make_shared<State>(loop, std::move(options), std::move(handlers))) {
  loop.post([weak = std::weak_ptr(state_)] {
    if (auto state = weak.lock()) state->start_registration();
  });
}

HeadLink::~HeadLink() {
  std::shared_ptr<CallsUnderWay> under_way = state_->under_way;
  state_->retry.clear();
  state_->heartbeat.clear();
  state_->leave_deadline.clear();
  for (const std::shared_ptr<Call>& call : state_->calls) call->context.TryCancel();
  state_.reset();
  under_way->wait_for_none();
}

void HeadLink::persist(Persist effect) { state_->add(effect.ticket, std::move(effect.record)); }

void HeadLink::find_name(FindName effect) { state_->add(effect.ticket, std::move(effect)); }

void HeadLink::leave(Duration wait_max, std::function<void()> done) {
  MUST(!state_->leaving, "left twice");
  state_->leaving = true;
  state_->on_left = std::move(done);
  state_->heartbeat.clear();
  state_->leave_deadline.set_after(wait_max);
  state_->post_pump();
}

HeadLink::Report HeadLink::report() const {
  Report report = state_->facts;
  report.waiting_count = state_->items.size();
  return report;
}

}  // namespace raylet
