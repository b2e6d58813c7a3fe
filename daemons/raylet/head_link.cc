#include "daemons/raylet/head_link.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "daemons/kit/log.h"
#include "daemons/raylet/head_calls.h"
#include "daemons/raylet/wish_queue.h"
#include "protocol/codec/session_codec.h"
#include "protocol/words/check.h"

namespace raylet {
namespace {

constexpr Duration kHeartbeatWaitMax = std::chrono::seconds(5);
constexpr Duration kLeaveWaitMax = std::chrono::seconds(1);

using Methods = HeadCalls::Methods;

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

}  // namespace

struct HeadLink::State : std::enable_shared_from_this<HeadLink::State> {
  State(Loop& given_loop, Options given_options, Handlers given_handlers)
      : loop(given_loop),
        options(std::move(given_options)),
        handlers(std::move(given_handlers)),
        calls(loop, options.address, options.token),
        retry(loop, [this] { on_retry(); }),
        heartbeat(loop, [this] { send_heartbeat(); }),
        leave_deadline(loop, [this] { left(); }) {}

  Loop& loop;
  Options options;
  Handlers handlers;
  HeadCalls calls;
  WishQueue wishes;

  bool registering = false;
  bool registered = false;
  bool heartbeat_in_flight = false;
  uint64_t heard_moment = 0;  // the head's, when it last answered a heartbeat
  bool stale = false;
  bool backing_off = false;
  Duration backoff = kBackoffMin;
  Duration heartbeat_every = std::chrono::seconds(1);
  Report facts;
  Alarm retry;
  Alarm heartbeat;
  bool pump_posted = false;
  bool answers_posted = false;

  std::function<void()> on_left;
  bool leaving = false;
  bool leave_sent = false;
  Alarm leave_deadline;

  // ---------------------------------------------------------------- conversation

  template <typename Request, typename Reply, typename Then>
  void call(HeadCalls::Method<Request, Reply> method, Request request, Duration wait_max, Then then) {
    ++facts.calls_total;
    calls.start(method, std::move(request), wait_max, std::move(then));
  }

  void note_success() {
    backoff = kBackoffMin;
    if (!facts.last_error.empty()) log::info("the head answers again address={}", options.address);
    facts.last_error.clear();
    facts.connected = registered;
  }

  // Something failed that may work later: everything waits a little.
  void note_trouble(const std::string& what) {
    ++facts.retries_total;
    facts.connected = false;
    if (facts.last_error.empty()) {
      log::warn("the head can't do it now address={} reason=\"{}\"", options.address, what);
    }
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
    call(&Methods::RegisterNode, registration_of(options.self), Duration::zero(),
         [this](const grpc::Status& status, const v1::RegisterNodeReply& reply) { on_registered(status, reply); });
  }

  void on_registered(const grpc::Status& status, const v1::RegisterNodeReply& reply) {
    registering = false;
    if (!status.ok()) return note_trouble(status.error_message());
    Failure failure = failure_in(reply);
    if (failure.code == FailureCode::kRequestInvalid) return stop_as_stale(failure.message);
    if (failure.code != FailureCode::kNone) return note_trouble(failure.message);
    if (!facts.cluster.empty() && facts.cluster != reply.cluster()) {
      log::error(
          "the head serves another cluster than before: its Redis lost everything; what lives here is told "
          "to it again");
    }
    facts.cluster = reply.cluster();
    facts.epoch = reply.epoch();
    if (reply.heartbeat_ms() > 0) heartbeat_every = std::chrono::milliseconds(reply.heartbeat_ms());
    registered = true;
    heard_moment = 0;  // a head that serves another cluster counts anew
    note_success();
    log::info("registered with the head node={} epoch={}", options.self.node.hex(), facts.epoch);
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
    Usage usage = handlers.usage();
    v1::HeartbeatRequest request;
    request.set_node(options.self.node.binary());
    request.set_incarnation(options.self.incarnation.number);
    encode_resources(usage.available, request.mutable_available());
    request.set_store_used_bytes(usage.store_used_bytes);
    request.set_heard_moment(heard_moment);
    for (JobId job : wishes.known_jobs()) request.add_jobs(job.binary());
    for (GraphId graph : wishes.sent_graphs()) request.add_graphs(graph.binary());
    call(&Methods::Heartbeat, std::move(request), kHeartbeatWaitMax,
         [this](const grpc::Status& status, const v1::HeartbeatReply& reply) { on_heartbeat(status, reply); });
  }

  void on_heartbeat(const grpc::Status& status, const v1::HeartbeatReply& reply) {
    heartbeat_in_flight = false;
    if (!leaving) heartbeat.set_after(heartbeat_every);
    if (!status.ok()) return note_trouble(status.error_message());
    facts.epoch = reply.epoch();
    heard_moment = reply.moment();
    note_success();
    if (reply.register_again()) {
      log::warn("the head does not know this node: registering again");
      facts.connected = registered = false;
      return start_registration();
    }
    for (const std::string& bytes : reply.ended_jobs()) {
      std::optional<JobId> job = JobId::from_binary(bytes);
      if (!job || !wishes.register_again(*job)) continue;
      log::warn("the head does not know a job of this node: registering it again job={}", job->hex());
      wishes_changed();
    }
  }

  // ---------------------------------------------------------------- wishes

  void add(Ticket ticket, std::variant<Record, FindName> what) {
    wishes.add(ticket, std::move(what));
    wishes_changed();
  }

  // Nobody is told of an answer from within persist() or find_name().
  void wishes_changed() {
    if (wishes.has_answers()) post_answers();
    if (std::exchange(pump_posted, true)) return;
    loop.post([weak = weak_from_this()] {
      if (auto state = weak.lock()) {
        state->pump_posted = false;
        state->pump();
      }
    });
  }

  void post_answers() {
    if (std::exchange(answers_posted, true)) return;
    loop.post([weak = weak_from_this()] {
      auto state = weak.lock();
      if (!state) return;
      state->answers_posted = false;
      for (Event& event : state->wishes.take_answers()) state->handlers.on_event(std::move(event));
    });
  }

  void pump() {
    while (registered && !backing_off && !stale && wishes.calls_in_flight() < kCallsMax) {
      WishPtr wish = wishes.next();
      if (!wish) break;
      if (wishes.calls_in_flight() > 0 && wishes.bytes_in_flight() + wish->bytes > kCallBytesMax) break;
      if (!wishes.begin(wish)) continue;
      if (auto* find = std::get_if<FindName>(&wish->what)) {
        send(wish, *find);
      } else {
        std::visit([&](const auto& record) { send(wish, record); }, std::get<Record>(wish->what));
      }
    }
    if (wishes.has_answers()) post_answers();
    leave_if_done();
  }

  void send(const WishPtr& wish, const RecordGraph& record) { persist_by(&Methods::RecordGraph, wish, record); }
  void send(const WishPtr& wish, const ForgetGraph& record) { persist_by(&Methods::EndGraph, wish, record); }
  void send(const WishPtr& wish, const RecordJob& record) { persist_by(&Methods::RegisterJob, wish, record); }
  void send(const WishPtr& wish, const ForgetJob& record) { persist_by(&Methods::EndJob, wish, record); }
  void send(const WishPtr& wish, const RecordName& record) { persist_by(&Methods::RegisterName, wish, record); }
  void send(const WishPtr& wish, const ForgetName& record) { persist_by(&Methods::ForgetName, wish, record); }

  template <typename Request, typename Reply, typename Wanted>
  void persist_by(HeadCalls::Method<Request, Reply> method, const WishPtr& wish, const Wanted& record) {
    call(method, request_of(options.self, record), Duration::zero(),
         [this, wish](const grpc::Status& status, const Reply& reply) {
           if (!came_back(wish, status)) return;
           Persisted with;
           with.failure = status.ok() ? failure_in(reply) : failure_of(status);
           if constexpr (requires { reply.holder(); }) {
             if (std::optional<ObjectId> holder = ObjectId::from_binary(reply.holder()))
               with.name_holder = *holder;
           }
           wishes.answer(wish, std::move(with));
           wishes_changed();
         });
  }

  void send(const WishPtr& wish, const FindName& find) {
    call(&Methods::FindName, request_of(options.self, find), Duration::zero(),
         [this, wish](const grpc::Status& status, v1::FindNameReply& reply) {
           if (!came_back(wish, status)) return;
           NameFound found;
           found.ticket = std::get<FindName>(wish->what).ticket;
           std::optional<ObjectId> actor = ObjectId::from_binary(reply.actor());
           if (status.ok() && reply.found() && actor) {
             found.found = true;
             found.actor = *actor;
             found.handle = make_bytes(std::move(*reply.mutable_handle()));
           }
           wishes.answer_find(wish, std::move(found));
           wishes_changed();
         });
  }

  // False: it was not an answer that lasts, and the wish goes again later.
  bool came_back(const WishPtr& wish, const grpc::Status& status) {
    if (status.ok() || !is_passing(status)) {
      note_success();
      return true;
    }
    wishes.put_back(wish);
    note_trouble(status.error_message());
    wishes_changed();
    return false;
  }

  // ---------------------------------------------------------------- the end

  void leave_if_done() {
    if (!leaving || leave_sent || !wishes.empty()) return;
    leave_sent = true;
    if (!registered) return left();
    v1::LeaveNodeRequest request;
    request.set_node(options.self.node.binary());
    request.set_incarnation(options.self.incarnation.number);
    call(&Methods::LeaveNode, std::move(request), kLeaveWaitMax,
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
  state_->retry.clear();
  state_->heartbeat.clear();
  state_->leave_deadline.clear();
  state_->calls.close();
}

void HeadLink::persist(Persist effect) { state_->add(effect.ticket, std::move(effect.record)); }

void HeadLink::find_name(FindName effect) { state_->add(effect.ticket, std::move(effect)); }

void HeadLink::leave(Duration wait_max, std::function<void()> done) {
  MUST(!state_->leaving, "left twice");
  state_->leaving = true;
  state_->on_left = std::move(done);
  state_->heartbeat.clear();
  state_->leave_deadline.set_after(wait_max);
  state_->wishes_changed();
}

HeadLink::Report HeadLink::report() const {
  Report report = state_->facts;
  report.waiting_count = state_->wishes.size();
  report.waiting_bytes = state_->wishes.waiting_bytes();
  return report;
}

}  // namespace raylet
