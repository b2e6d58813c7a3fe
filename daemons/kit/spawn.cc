#include "daemons/kit/spawn.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

namespace raylet {
namespace {

struct Descriptors {
  int null = -1;
  int log = -1;
  int channel = -1;  // -1: none
  int report = -1;   // where the child tells the error number that keeps it from its program
};

bool place(const Descriptors& ours) {
  if (dup2(ours.null, 0) < 0 || dup2(ours.log, 1) < 0 || dup2(ours.log, 2) < 0) return false;
  if (ours.channel >= 0 && dup2(ours.channel, kChannelDescriptor) < 0) return false;
  unsigned first_of_ours = ours.channel >= 0 ? kChannelDescriptor + 1 : kChannelDescriptor;
  return syscall(SYS_close_range, first_of_ours, ~0u, CLOSE_RANGE_CLOEXEC) == 0;
}

// Between fork and exec only calls that are safe in a process with threads.
[[noreturn]] void become(char* const* arguments, char* const* environment, int death_signal, Descriptors ours,
                         pid_t parent) {
  setsid();
  prctl(PR_SET_PDEATHSIG, death_signal);
  if (getppid() != parent) _exit(127);  // the parent died before it could be watched
  for (int number : {SIGPIPE, SIGHUP, SIGINT, SIGTERM}) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // Out of the way of the numbers that are to be filled.
  for (int* number : {&ours.null, &ours.log, &ours.channel, &ours.report}) {
    if (*number >= 0) *number = fcntl(*number, F_DUPFD_CLOEXEC, kChannelDescriptor + 1);
  }
  if (place(ours)) execvpe(arguments[0], arguments, environment);
  int reason = errno;
  ssize_t ignored = write(ours.report, &reason, sizeof reason);
  (void)ignored;
  _exit(127);
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& text : strings) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

Result<pid_t> spawn(ChildSpec spec) {
  MUST(!spec.arguments.empty());
  FileDescriptor log(open(spec.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log.valid()) {
    return Error{Code::kUnavailable, "can't write the log " + spec.log_path + ": " + std::strerror(errno)};
  }
  auto no_descriptors = [&] {
    return Error{Code::kResourceExhausted,
                 "no descriptors to start " + spec.arguments[0] + ": " + std::strerror(errno)};
  };
  FileDescriptor null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!null.valid()) return no_descriptors();
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return no_descriptors();
  FileDescriptor report_in(ends[0]);
  FileDescriptor report_out(ends[1]);
  std::vector<char*> arguments = pointers(spec.arguments);
  std::vector<char*> environment = pointers(spec.environment);
  Descriptors ours{null.number(), log.number(), spec.channel.number(), report_out.number()};
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid < 0) {
    return Error{Code::kResourceExhausted, "can't start " + spec.arguments[0] + ": " + std::strerror(errno)};
  }
  if (pid == 0) become(arguments.data(), environment.data(), spec.death_signal, ours, parent);
  report_out = FileDescriptor();
  int reason = 0;
  ssize_t got;
  do {
    got = read(report_in.number(), &reason, sizeof reason);  // nothing: the pipe closed as exec succeeded
  } while (got < 0 && errno == EINTR);
  if (got == static_cast<ssize_t>(sizeof reason)) {
    waitpid(pid, nullptr, 0);
    return Error{Code::kNotFound, "can't execute " + spec.arguments[0] + ": " + std::strerror(reason)};
  }
  return pid;
}

std::vector<std::string> environment_with(const std::vector<std::string>& changes) {
  std::vector<std::string> result = changes;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    std::string_view text = *entry;
    std::string_view name = text.substr(0, text.find('=') + 1);
    bool changed = false;
    for (const std::string& change : changes) changed = changed || change.compare(0, name.size(), name) == 0;
    if (!changed) result.emplace_back(text);
  }
  return result;
}

}  // namespace raylet
