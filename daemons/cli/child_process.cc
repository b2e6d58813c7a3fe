#include "daemons/cli/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

namespace raylet {
namespace {

// In the child, after fork: only calls that are safe there. Tells the error number through `report`.
[[noreturn]] void become(char* const* arguments, char* const* environment, int log, int report, pid_t parent) {
  const auto fail = [&] {
    const int error = errno;
    [[maybe_unused]] const ssize_t told = write(report, &error, sizeof(error));
    _exit(127);
  };
  // A process group of its own: a Ctrl-C at the terminal is for the supervisor alone to act upon.
  setpgid(0, 0);
  if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0) fail();
  if (getppid() != parent) _exit(127);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  signal(SIGHUP, SIG_DFL);
  const int null = open("/dev/null", O_RDONLY);
  if (null < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0) fail();
  if (dup2(report, 3) < 0 || fcntl(3, F_SETFD, FD_CLOEXEC) != 0) fail();
  report = 3;
  if (syscall(SYS_close_range, 4u, ~0u, 0u) != 0) fail();
  execvpe(arguments[0], arguments, environment);
  fail();
  _exit(127);
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), descriptor_(std::exchange(other.descriptor_, -1)) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  close_descriptor();
  pid_ = std::exchange(other.pid_, -1);
  descriptor_ = std::exchange(other.descriptor_, -1);
  return *this;
}

ChildProcess::~ChildProcess() { close_descriptor(); }

void ChildProcess::close_descriptor() {
  if (descriptor_ >= 0) close(descriptor_);
  descriptor_ = -1;
}

Result<ChildProcess> ChildProcess::start(const std::vector<std::string>& arguments,
                                         const std::vector<std::string>& environment,
                                         const std::string& log_path) {
  const auto failed = [&](const char* what, int error) {
    return Error{Code::kInternal, fmt::format("can't start {}: {}: {}", arguments[0], what, std::strerror(error))};
  };
  std::vector<std::string> argument_copies = arguments;
  std::vector<std::string> environment_copies;
  for (char** line = environ; *line != nullptr; ++line) {
    const std::string_view name = std::string_view(*line).substr(0, std::string_view(*line).find('=') + 1);
    bool replaced = false;
    for (const std::string& added : environment) replaced = replaced || added.compare(0, name.size(), name) == 0;
    if (!replaced) environment_copies.emplace_back(*line);
  }
  environment_copies.insert(environment_copies.end(), environment.begin(), environment.end());
  const auto argument_pointers = pointers(argument_copies);
  const auto environment_pointers = pointers(environment_copies);

  const int log = open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log < 0) return failed(log_path.c_str(), errno);
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) {
    const int error = errno;
    close(log);
    return failed("pipe", error);
  }
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) become(argument_pointers.data(), environment_pointers.data(), log, report[1], parent);
  const int fork_error = errno;
  close(log);
  close(report[1]);
  int error = pid < 0 ? fork_error : 0;
  // The pipe closes when exec succeeds.
  if (pid > 0 && read(report[0], &error, sizeof(error)) <= 0) error = 0;
  close(report[0]);
  if (error != 0) {
    if (pid > 0) waitpid(pid, nullptr, 0);
    return failed(pid < 0 ? "fork" : "exec", error);
  }
  ChildProcess child;
  child.pid_ = pid;
  child.descriptor_ = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (child.descriptor_ < 0) {
    const int pidfd_error = errno;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return failed("pidfd_open", pidfd_error);
  }
  return child;
}

void ChildProcess::signal(int number) const {
  if (running()) kill(pid_, number);
}

std::string ChildProcess::reap() {
  int status = 0;
  if (!running() || waitpid(pid_, &status, WNOHANG) != pid_) return "";
  pid_ = -1;
  close_descriptor();
  if (WIFSIGNALED(status)) {
    return fmt::format("was killed by signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)));
  }
  return fmt::format("exited with {}", WEXITSTATUS(status));
}

}  // namespace raylet
