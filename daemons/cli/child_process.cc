#include "daemons/cli/child_process.h"

#include <fmt/core.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "daemons/kit/spawn.h"

namespace raylet {

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
  ChildSpec spec{arguments, environment_with(environment), log_path, SIGTERM};
  Result<pid_t> pid = spawn(std::move(spec));
  if (!pid.ok()) return pid.error();
  ChildProcess child;
  child.pid_ = *pid;
  child.descriptor_ = static_cast<int>(syscall(SYS_pidfd_open, *pid, 0));
  if (child.descriptor_ < 0) {
    const int error = errno;
    kill(*pid, SIGKILL);
    waitpid(*pid, nullptr, 0);
    return Error{Code::kInternal, fmt::format("can't watch {}: {}", arguments[0], std::strerror(error))};
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
