#include "daemons/raylet/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

extern char** environ;

namespace raylet {
namespace {

// Between fork and exec only calls that are safe in a process with threads.
[[noreturn]] void become(char* const* arguments, char* const* environment, int log, int channel, int null, int report,
                         pid_t parent) {
  setsid();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // the parent died before it could be watched
  signal(SIGPIPE, SIG_DFL);
  signal(SIGINT, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // The report must not be overwritten by the channel's fixed number.
  int safe_report = fcntl(report, F_DUPFD_CLOEXEC, kChannelDescriptor + 1);
  int safe_channel = fcntl(channel, F_DUPFD_CLOEXEC, kChannelDescriptor + 1);
  bool placed = safe_report >= 0 && safe_channel >= 0 && dup2(null, 0) == 0 && dup2(log, 1) == 1 && dup2(log, 2) == 2 &&
                dup2(safe_channel, kChannelDescriptor) == kChannelDescriptor;
  if (placed) execvpe(arguments[0], arguments, environment);
  int reason = errno;
  ssize_t ignored = write(safe_report >= 0 ? safe_report : report, &reason, sizeof reason);
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

Result<pid_t> start_child(ChildSpec spec) {
  MUST(!spec.arguments.empty());
  FileDescriptor log(open(spec.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log.valid()) {
    return Error{Code::kUnavailable, "can't write the log " + spec.log_path + ": " + std::strerror(errno)};
  }
  FileDescriptor null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  int ends[2];
  if (!null.valid() || pipe2(ends, O_CLOEXEC) != 0) {
    return Error{Code::kResourceExhausted, std::string("no descriptors to start a process: ") + std::strerror(errno)};
  }
  FileDescriptor report_in(ends[0]);
  FileDescriptor report_out(ends[1]);
  std::vector<char*> arguments = pointers(spec.arguments);
  std::vector<char*> environment = pointers(spec.environment);
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid < 0) {
    return Error{Code::kResourceExhausted, "can't start " + spec.arguments[0] + ": " + std::strerror(errno)};
  }
  if (pid == 0) {
    become(arguments.data(), environment.data(), log.number(), spec.channel.number(), null.number(),
           report_out.number(), parent);
  }
  report_out = FileDescriptor();
  int reason = 0;
  ssize_t got;
  do {
    got = read(report_in.number(), &reason, sizeof reason);
  } while (got < 0 && errno == EINTR);
  if (got == static_cast<ssize_t>(sizeof reason)) {
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

std::string read_tail(const std::string& path, size_t bytes_max) {
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!file.valid() || fstat(file.number(), &status) != 0 || status.st_size <= 0) return {};
  size_t size = static_cast<size_t>(status.st_size);
  size_t from = size > bytes_max ? size - bytes_max : 0;
  std::string text(size - from, '\0');
  ssize_t got = pread(file.number(), text.data(), text.size(), static_cast<off_t>(from));
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  if (from > 0) {
    if (size_t line = text.find('\n'); line != std::string::npos) text.erase(0, line + 1);
  }
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace raylet
