#include "daemons/raylet/zygote_link.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>

#include "daemons/kit/log.h"
#include "daemons/kit/log_tail.h"
#include "daemons/kit/spawn.h"
#include "protocol/wire/zygote.pb.h"

namespace raylet {
namespace {

constexpr size_t kTroubleBytesMax = 2'000;

}  // namespace

ZygoteLink::ZygoteLink(Loop& loop, ChildTable& children, Options options, Handlers handlers)
    : loop_(loop),
      children_(children),
      options_(std::move(options)),
      handlers_(std::move(handlers)),
      restart_alarm_(loop, [this] { start(); }),
      ready_alarm_(loop, [this] {
        log::error("zygote killed pid={} reason=not_ready", pid_);
        if (pid_ > 0) kill(pid_, SIGKILL);
      }) {}

void ZygoteLink::start() {
  if (stopped_) return;
  Result<SocketPair> pair = make_socket_pair();
  if (!pair.ok()) return fail(pair.error().message);
  ChildSpec spec;
  spec.arguments = {options_.python, "-m", "ray._worker.zygote", "--channel-fd",
                    std::to_string(kChannelDescriptor)};
  spec.environment = options_.environment;
  spec.log_path = options_.log_path;
  spec.channel = std::move(pair->theirs);
  Result<pid_t> pid = spawn(std::move(spec));
  if (!pid.ok()) return fail(pid.error().message);
  pid_ = *pid;
  log::info("zygote started pid={}", pid_);
  // Its end of the channel says nothing that its death does not.
  link_ = std::make_unique<PacketLink>(loop_, std::move(pair->ours),
                                       PacketLink::Handlers{[this](Packet packet) { receive(std::move(packet)); },
                                                            [this](std::string) {
                                                              if (pid_ > 0) kill(pid_, SIGKILL);
                                                            }});
  children_.watch(pid_, [this](int status) { exited(status); });
  ready_alarm_.set_after(kReadyWaitMax);
}

void ZygoteLink::fork(WorkerId worker, const std::string& stdout_path, const std::string& stderr_path,
                      FileDescriptor socket) {
  if (stopped_) return;
  v1::ZygoteCommand command;
  command.mutable_fork()->set_worker(worker.number);
  command.mutable_fork()->set_stdout_path(stdout_path);
  command.mutable_fork()->set_stderr_path(stderr_path);
  if (!ready_) {
    waiting_.push_back({worker, command.SerializeAsString(), std::move(socket)});
    return;
  }
  asked_.insert(worker);
  children_.expect_fork();
  send(command.SerializeAsString(), std::move(socket));
}

void ZygoteLink::preload(const std::vector<std::string>& modules) {
  if (!ready_ || modules.empty()) return;
  v1::ZygoteCommand command;
  for (const std::string& module : modules) command.mutable_preload()->add_modules(module);
  send(command.SerializeAsString());
}

void ZygoteLink::send(const std::string& frame, FileDescriptor descriptor) {
  Status sent = link_->send(frame, std::move(descriptor));
  if (!sent.ok()) log::error("zygote command not sent reason={}", sent.error().message);
}

void ZygoteLink::receive(Packet packet) {
  v1::ZygoteEvent event;
  if (!event.ParseFromString(packet.frame)) {
    log::error("zygote killed pid={} reason=not_a_frame", pid_);
    kill(pid_, SIGKILL);
    return;
  }
  if (event.has_ready() && !ready_) {
    ready_ = true;
    backoff_ = kBackoffMin;
    failures_ = 0;
    ready_alarm_.clear();
    log::info("zygote ready pid={} python={}", pid_, event.ready().python_version());
    std::vector<Waiting> waiting = std::move(waiting_);
    waiting_.clear();
    for (Waiting& request : waiting) {
      asked_.insert(request.worker);
      children_.expect_fork();
      send(request.frame, std::move(request.socket));
    }
    handlers_.on_ready({event.ready().python_version(), event.ready().cloudpickle_version()});
  } else if (event.has_forked()) {
    if (asked_.erase(WorkerId{event.forked().worker()}) == 0) return;
    handlers_.on_forked(WorkerId{event.forked().worker()}, static_cast<pid_t>(event.forked().pid()));
    children_.settle_fork();
  } else if (event.has_failed()) {
    if (asked_.erase(WorkerId{event.failed().worker()}) == 0) return;
    handlers_.on_fork_failed(WorkerId{event.failed().worker()}, event.failed().reason());
    children_.settle_fork();
  }
}

void ZygoteLink::exited(int status) {
  if (stopped_) {
    pid_ = 0;
    return;
  }
  link_->drain();
  link_.reset();
  pid_ = 0;
  ready_ = false;
  ready_alarm_.clear();
  std::string how = WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                                        : "exit status " + std::to_string(WEXITSTATUS(status));
  fail("the Python process that forks workers ended by " + how + ": " +
       read_tail(options_.log_path, kTroubleBytesMax));
}

void ZygoteLink::fail(const std::string& trouble) {
  log::warn("zygote lost, next try in {} ms: {}",
            std::chrono::duration_cast<std::chrono::milliseconds>(backoff_).count(), trouble);
  std::unordered_set<WorkerId> asked = std::move(asked_);
  asked_.clear();
  for (WorkerId worker : asked) {
    handlers_.on_fork_failed(worker, trouble);
    children_.settle_fork();
  }
  if (++failures_ >= kFailuresMax) {
    std::vector<Waiting> waiting = std::move(waiting_);
    waiting_.clear();
    for (Waiting& request : waiting) handlers_.on_fork_failed(request.worker, trouble);
  }
  handlers_.on_trouble(trouble);
  restart_alarm_.set_after(backoff_);
  backoff_ = std::min(backoff_ * 2, kBackoffMax);
}

void ZygoteLink::stop() {
  stopped_ = true;
  restart_alarm_.clear();
  ready_alarm_.clear();
  waiting_.clear();
  if (pid_ > 0) kill(pid_, SIGKILL);
}

}  // namespace raylet
