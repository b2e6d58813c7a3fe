#include "daemons/raylet/worker_fleet.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <utility>

#include "daemons/kit/log.h"
#include "daemons/kit/log_tail.h"
#include "daemons/raylet/frame_codec.h"

namespace raylet {
namespace {

// How often the kernel has killed a process for want of memory since the machine started.
uint64_t read_oom_kills() {
  std::ifstream file("/proc/vmstat");
  std::string name;
  for (uint64_t value; file >> name >> value;) {
    if (name == "oom_kill") return value;
  }
  return 0;
}

void remove_if_empty(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) == 0 && status.st_size == 0) unlink(path.c_str());
}

std::string describe(int status) {
  return WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                             : "exit status " + std::to_string(WEXITSTATUS(status));
}

// What the core is told of every task in a batch that can't be sent.
ResultsArrived failed_results(SessionId session, const SendBatch& batch, const std::string& reason) {
  ResultsArrived event{session, batch.batch, {}};
  for (uint32_t i = 0; i < batch.tasks.size(); ++i) {
    TaskResult result;
    result.position = i;
    result.status = TaskResult::Status::kFailed;
    result.failure.code = FailureCode::kLimitExceeded;
    result.failure.message =
        "the task could not be sent to a worker: " + reason + "; pass large arguments by ray.put";
    event.results.push_back(std::move(result));
  }
  return event;
}

}  // namespace

WorkerFleet::WorkerFleet(Loop& loop, SessionHost& host, ChildTable& children, TimelineTable& timeline,
                         Options options, Handlers handlers)
    : loop_(loop),
      host_(host),
      children_(children),
      timeline_(timeline),
      options_(std::move(options)),
      handlers_(std::move(handlers)),
      zygote_(loop, children, options_.zygote,
              {[this](const WorkerVersions& versions) { handlers_.on_versions(versions, ""); },
               [this](const std::string& trouble) { handlers_.on_versions({}, trouble); },
               [this](WorkerId worker, pid_t pid) { forked(worker, pid); },
               [this](WorkerId worker, const std::string& reason) { fork_failed(worker, reason); }}),
      oom_kills_seen_(read_oom_kills()) {}

void WorkerFleet::set_setup(const JobId& job, const JobSetup& setup) { setups_[job] = setup.encoded; }

void WorkerFleet::perform(const StartWorker& effect) {
  if (!leaving_) start(effect.worker, 1);
}

void WorkerFleet::start(WorkerId id, int tries) {
  Result<SocketPair> pair = make_socket_pair();
  if (!pair.ok()) {
    host_.tell(WorkerStartFailed{id, pair.error().message});
    return;
  }
  SessionId session = host_.next_session();
  auto process = std::make_unique<WorkerProcess>(
      loop_, host_.segments(), id, session, std::move(*pair),
      LocalCarrier::Handlers{[this, id](v1::ClientFrame frame, size_t wire_bytes) {
                               if (auto found = workers_.find(id); found != workers_.end()) {
                                 receive(*found->second, std::move(frame), wire_bytes);
                               }
                             },
                             // Our duplicate keeps the socket open: this is a worker that breaks the rules.
                             [this, id](std::string reason) {
                               auto found = workers_.find(id);
                               if (found == workers_.end()) return;
                               log::error("worker killed worker={} reason={}", id.number, reason);
                               found->second->signal(SIGKILL);
                             }});
  std::string path = options_.log_directory + "/worker-" + std::to_string(id.number);
  process->stdout_path = path + ".out";
  process->stderr_path = path + ".err";
  process->tries = tries;
  FileDescriptor theirs = process->duplicate_their_end();
  WorkerProcess& worker = *process;
  workers_[id] = std::move(process);
  by_session_[session] = &worker;
  if (!theirs.valid()) return start_failed(id, "this process has no descriptor left");
  zygote_.fork(id, worker.stdout_path, worker.stderr_path, std::move(theirs));
  loop_.after(kStartWaitMax, [this, id] {
    auto found = workers_.find(id);
    if (found == workers_.end() || found->second->state == WorkerProcess::State::kArrived) return;
    found->second->signal(SIGKILL);
    if (found->second->pid == 0) start_failed(id, "no worker came from the zygote within 60 s");
  });
}

void WorkerFleet::perform(const StopWorker& effect) {
  auto found = workers_.find(effect.worker);
  if (found == workers_.end()) return;
  WorkerProcess& worker = *found->second;
  worker.stop_asked = true;
  if (!effect.gently) {
    worker.kill_sent = true;
    worker.signal(SIGKILL);
    return;
  }
  v1::ServerFrame frame;
  frame.mutable_exit()->set_reason("the raylet has no more use for it");
  (void)worker.carrier().send(frame).ok();
  loop_.after(kLeaveWaitMax, [this, id = effect.worker] {
    if (auto late = workers_.find(id); late != workers_.end()) {
      late->second->kill_sent = true;
      late->second->signal(SIGKILL);
    }
  });
}

void WorkerFleet::perform(SendBatch& effect) {
  auto found = workers_.find(effect.worker);
  if (found == workers_.end()) return;  // it died in this turn; WorkerExited is on its way to the core
  WorkerProcess& worker = *found->second;
  auto setup = setups_.find(effect.job);
  Status sent = worker.send_batch(effect, setup == setups_.end() ? nullptr : setup->second);
  if (!sent.ok()) {
    host_.tell(failed_results(worker.session(), effect, sent.error().message));
    return;
  }
  timeline_.sent(loop_.now(), effect, static_cast<uint64_t>(worker.pid));
}

void WorkerFleet::perform(const RetractBatches& effect) {
  auto found = workers_.find(effect.worker);
  if (found == workers_.end()) return;
  std::vector<uint64_t> numbers = found->second->retract();
  for (uint64_t number : numbers) timeline_.retracted(effect.worker, number);
  host_.tell(BatchesRetracted{effect.worker, std::move(numbers)});
}

void WorkerFleet::perform(const InterruptTask& effect) {
  if (auto found = workers_.find(effect.worker); found != workers_.end()) found->second->interrupt(effect);
}

WorkerProcess* WorkerFleet::find(SessionId session) {
  auto found = by_session_.find(session);
  return found == by_session_.end() ? nullptr : found->second;
}

void WorkerFleet::answer(WorkerProcess& worker, const AnswerGet& effect) {
  for (const ObjectAnswer& answer : effect.answers) {
    if (answer.kind == ObjectAnswer::Kind::kLocated) worker.carrier().introduce(answer.at.segment);
  }
  for (const v1::ServerFrame& frame : encode_answers(effect)) {
    Status sent = worker.carrier().send(frame);
    if (!sent.ok()) log::error("answer lost worker={} reason={}", worker.worker().number, sent.error().message);
  }
}

void WorkerFleet::grant(WorkerProcess& worker, const GrantSlab& effect) {
  if (effect.failure.code == FailureCode::kNone) worker.carrier().introduce(effect.at.segment);
  (void)worker.carrier().send(encode(effect)).ok();
}

void WorkerFleet::forget_segments() {
  for (auto& [id, worker] : workers_) worker->carrier().forget_segments();
}

size_t WorkerFleet::queued_packets() const {
  size_t count = 0;
  for (const auto& [id, worker] : workers_) count += worker->carrier().queued_packets();
  return count;
}

void WorkerFleet::leave_all() {
  leaving_ = true;
  zygote_.stop();
  v1::ServerFrame frame;
  frame.mutable_exit()->set_reason("the node is stopping");
  for (auto& [id, worker] : workers_) {
    worker->stop_asked = true;
    (void)worker->carrier().send(frame).ok();
  }
}

void WorkerFleet::kill_all() {
  for (auto& [id, worker] : workers_) worker->signal(SIGKILL);
}

void WorkerFleet::receive(WorkerProcess& worker, v1::ClientFrame frame, size_t wire_bytes) {
  if (worker.state == WorkerProcess::State::kGreeting || worker.state == WorkerProcess::State::kForking) {
    return greet(worker, frame);
  }
  if (worker.state != WorkerProcess::State::kArrived) return;
  if (frame.has_output()) return handlers_.on_output(worker.job, std::move(*frame.mutable_output()));
  FrameSubject subject = subject_of(frame);
  Result<std::optional<Event>> event = decode_client_frame(worker.session(), std::move(frame), wire_bytes);
  if (!event.ok()) {
    log::error("frame refused worker={} about={} reason={}", worker.worker().number, subject.about,
               event.error().message);
    (void)worker.carrier().send(encode_refusal(subject, event.error())).ok();
    // Results that can't be read would leave their tasks running for ever.
    if (std::string_view(subject.about) == "results") worker.signal(SIGKILL);
    return;
  }
  if (!event->has_value()) return;
  if (auto* results = std::get_if<ResultsArrived>(&**event)) {
    timeline_.reported(loop_.now(), worker.worker(), results->batch, results->results);
  }
  host_.tell(std::move(**event));
}

void WorkerFleet::greet(WorkerProcess& worker, const v1::ClientFrame& frame) {
  std::string trouble;
  if (!frame.has_hello()) {
    trouble = "its first frame was no hello";
  } else if (frame.hello().protocol_version() != kSessionProtocolVersion) {
    trouble = "it speaks protocol version " + std::to_string(frame.hello().protocol_version());
  } else if (frame.hello().role() != v1::Hello::WORKER || frame.hello().worker() != worker.worker().number) {
    trouble = "it takes itself for another";
  }
  if (!trouble.empty()) {
    log::error("worker killed worker={} reason={}", worker.worker().number, trouble);
    worker.signal(SIGKILL);
    return;
  }
  // The hello may overtake the zygote's word on the pid; the worker's own word will do for the core.
  worker.state = WorkerProcess::State::kArrived;
  worker.claimed_pid = static_cast<pid_t>(frame.hello().pid());
  v1::ServerFrame reply;
  *reply.mutable_hello_reply() = host_.welcome(worker.session(), JobId{});
  (void)worker.carrier().send(reply).ok();
  host_.tell(WorkerArrived{worker.session(), worker.worker(), frame.hello().pid()});
}

void WorkerFleet::forked(WorkerId id, pid_t pid) {
  children_.watch(pid, [this, id](int status) { exited(id, status); });
  auto found = workers_.find(id);
  if (found == workers_.end() || leaving_) {
    kill(pid, SIGKILL);
    return;
  }
  WorkerProcess& worker = *found->second;
  worker.pid = pid;
  if (worker.state == WorkerProcess::State::kForking) worker.state = WorkerProcess::State::kGreeting;
  if (worker.kill_sent) worker.signal(SIGKILL);
  log::debug("worker forked worker={} pid={}", id.number, pid);
}

void WorkerFleet::exited(WorkerId id, int status) {
  auto found = workers_.find(id);
  if (found == workers_.end()) return;
  WorkerProcess& worker = *found->second;
  pid_t pid = std::exchange(worker.pid, 0);  // reaped: the number may be another's
  worker.carrier().drain();
  bool arrived = worker.state == WorkerProcess::State::kArrived;
  worker.state = WorkerProcess::State::kGone;
  if (worker.stop_asked) {
    log::debug("worker left worker={} pid={} by={}", id.number, pid, describe(status));
  } else {
    log::warn("worker died worker={} pid={} job={} by={}", id.number, pid, worker.job.hex(), describe(status));
  }
  std::string last_words;
  if (!worker.stop_asked) last_words = read_tail(worker.stderr_path, kLastWordsBytesMax);
  remove_if_empty(worker.stdout_path);
  remove_if_empty(worker.stderr_path);
  children_.kill_strays();
  if (!arrived) {
    return start_failed(id, "it ended by " + describe(status) + " before it said hello" +
                                (last_words.empty() ? "" : ": " + last_words));
  }
  WorkerExited event;
  event.worker = id;
  event.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  event.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
  event.last_words = std::move(last_words);
  if (event.signal == SIGKILL && !worker.kill_sent) {
    uint64_t oom_kills = read_oom_kills();
    event.out_of_memory = oom_kills > oom_kills_seen_;
    oom_kills_seen_ = oom_kills;
  }
  SessionId session = worker.session();
  timeline_.worker_gone(id);
  remove(worker);
  host_.tell(std::move(event));
  host_.tell(SessionClosed{session, false});
}

void WorkerFleet::fork_failed(WorkerId id, const std::string& reason) {
  auto found = workers_.find(id);
  if (found == workers_.end()) return;
  // It was born all the same, and the zygote died before it could say so.
  if (found->second->claimed_pid != 0) return forked(id, found->second->claimed_pid);
  int tries = found->second->tries;
  if (tries >= kForkTriesMax || found->second->stop_asked || leaving_) return start_failed(id, reason);
  log::warn("worker not forked, tried again worker={} reason={}", id.number, reason);
  remove(*found->second);
  start(id, tries + 1);
}

void WorkerFleet::start_failed(WorkerId id, const std::string& reason) {
  auto found = workers_.find(id);
  if (found == workers_.end()) return;
  log::warn("worker not started worker={} reason={}", id.number, reason);
  found->second->signal(SIGKILL);
  remove(*found->second);
  host_.tell(WorkerStartFailed{id, reason});
}

void WorkerFleet::remove(WorkerProcess& worker) {
  worker.carrier().close();
  by_session_.erase(worker.session());
  // Later: this may be called from within the worker's own carrier.
  auto found = workers_.find(worker.worker());
  std::shared_ptr<WorkerProcess> last(std::move(found->second));
  workers_.erase(found);
  loop_.post([last] {});
}

}  // namespace raylet
