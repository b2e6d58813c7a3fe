#include "daemons/raylet/driver_session.h"

#include <utility>

#include "daemons/kit/log.h"
#include "daemons/raylet/frame_codec.h"

namespace raylet {
namespace {

// A chunk may be started with any credit left, so the debt is bounded by the largest frame.
constexpr int64_t kDebtBytesMax = kFrameBytesMax;

}  // namespace

void fill_failure(v1::Failure* message, v1::ErrorCode code, std::string text) {
  message->set_code(code);
  message->set_message(std::move(text));
}

DriverSession::DriverSession(Loop& loop, SessionHost& host, bool local)
    : host_(host), local_(local), id_(host.next_session()), hello_alarm_(loop, [this] {
        refuse_hello(v1::REQUEST_INVALID, "no hello came within 5 s; a session begins with one");
      }) {
  hello_alarm_.set_after(kHelloWaitMax);
}

void DriverSession::take(v1::ClientFrame frame, size_t wire_bytes) {
  if (state_ == State::kClosed) return;
  if (state_ != State::kWelcome) {
    if (state_ == State::kNew && frame.has_hello()) return take_hello(frame.hello());
    return refuse_hello(v1::REQUEST_INVALID,
                        "a session begins with a hello, answered before anything else is sent");
  }
  switch (frame.body_case()) {
    case v1::ClientFrame::kHello:
      return refuse(frame, "this session has had its hello");
    case v1::ClientFrame::kGoodbye:
      return leave(true, "goodbye");
    case v1::ClientFrame::kResults:
    case v1::ClientFrame::kBlocked:
    case v1::ClientFrame::kOutput:
      return refuse(frame, "only a worker sends this");
    default:
      break;
  }
  if (take_own(frame)) return;
  FrameSubject subject = subject_of(frame);
  if (frame.has_graph_chunk()) {
    credit_bytes_ -= static_cast<int64_t>(wire_bytes);
    if (credit_bytes_ < -kDebtBytesMax) {
      return close("it sent more graph chunks than it had credit for; a driver waits for Credit frames");
    }
  }
  bool chunk = frame.has_graph_chunk();
  Result<std::optional<Event>> event = decode_client_frame(id_, std::move(frame), wire_bytes);
  if (!event.ok()) {
    send(encode_refusal(subject, event.error()));
    // What is refused takes no room: its credit goes straight back.
    if (chunk) give_credit({id_, wire_bytes});
    return;
  }
  if (event->has_value()) host_.tell(std::move(**event));
}

void DriverSession::take_hello(const v1::Hello& hello) {
  state_ = State::kGreeting;
  hello_alarm_.clear();
  host_.when_versions_known([this, hello, weak = std::weak_ptr(alive_)](const WorkerVersions& versions,
                                                                        const std::string& trouble) {
    if (!weak.expired() && state_ == State::kGreeting) finish_hello(hello, versions, trouble);
  });
}

void DriverSession::finish_hello(const v1::Hello& hello, const WorkerVersions& versions,
                                 const std::string& trouble) {
  if (!trouble.empty()) return refuse_hello(v1::UNAVAILABLE, trouble);
  Failure failure = check_hello(hello, versions);
  if (failure.code == FailureCode::kNone && hello.role() != v1::Hello::DRIVER) {
    failure.code = FailureCode::kRequestInvalid;
    failure.message = "only drivers say hello here; a worker's socket is given to it by the raylet";
  }
  if (failure.code != FailureCode::kNone) {
    return refuse_hello(static_cast<v1::ErrorCode>(failure.code), failure.message);
  }
  job_ = *JobId::from_binary(hello.job());
  pid_ = hello.pid();
  state_ = State::kWelcome;
  v1::ServerFrame frame;
  *frame.mutable_hello_reply() = host_.welcome(id_, job_);
  credit_bytes_ = static_cast<int64_t>(frame.hello_reply().graph_credit_bytes());
  credit_step_bytes_ = frame.hello_reply().graph_credit_bytes() / 16;
  send(frame);
  if (state_ != State::kWelcome) return;
  host_.driver_arrived(*this, hello);
}

void DriverSession::refuse_hello(v1::ErrorCode code, const std::string& message) {
  v1::ServerFrame frame;
  fill_failure(frame.mutable_hello_reply()->mutable_failure(), code, message);
  frame.mutable_hello_reply()->set_protocol_version(kSessionProtocolVersion);
  (void)write(frame).ok();
  leave(false, "hello refused: " + message);
}

void DriverSession::refuse(const v1::ClientFrame& frame, const std::string& message) {
  send(encode_refusal(subject_of(frame), invalid(message)));
}

void DriverSession::send(const v1::ServerFrame& frame) {
  if (state_ == State::kClosed) return;
  Status sent = write(frame);
  if (!sent.ok()) return close("a frame for it could not be made: " + sent.error().message);
  if (queued_bytes() > kQueuedBytesMax) close("it does not read what it is sent");
}

void DriverSession::give_credit(const GiveCredit& effect) {
  // Not a frame for every small chunk: it would wake the driver once more for each call.
  owed_bytes_ += effect.bytes;
  if (owed_bytes_ < credit_step_bytes_) return;
  credit_bytes_ += static_cast<int64_t>(owed_bytes_);
  send(encode(GiveCredit{effect.session, owed_bytes_}));
  owed_bytes_ = 0;
}

void DriverSession::close(const std::string& reason) {
  if (state_ == State::kClosed) return;
  v1::ServerFrame frame;
  frame.mutable_refusal()->set_about("session");
  fill_failure(frame.mutable_refusal()->mutable_failure(), v1::UNAVAILABLE,
               "the raylet closes this session: " + reason);
  (void)write(frame).ok();
  leave(false, reason);
}

void DriverSession::lost(const std::string& reason) { leave(false, reason); }

void DriverSession::leave(bool goodbye, const std::string& reason) {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  hello_alarm_.clear();
  close_carrier();
  log::info("driver left session={} job={} reason={}", id_.number, job_.hex(), reason);
  host_.driver_left(*this, goodbye, reason);
}

}  // namespace raylet
