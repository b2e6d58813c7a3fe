#include "daemons/store/warmer.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <utility>

namespace raylet {
namespace {

constexpr int kNice = 10;
constexpr uint64_t kShareOfAvailable = 4;

}  // namespace

Warmer::Warmer() {
  // Signals are the loop's.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Warmer::~Warmer() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Warmer::submit(std::function<void()> job) {
  {
    std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  changed_.notify_one();
}

void Warmer::run() {
  pthread_setname_np(pthread_self(), "warmer");
  // On Linux a priority belongs to the thread. Without the right to lower it, it is as good as any other.
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kNice);
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (stopping_) return;
    std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
    lock.lock();
  }
}

uint64_t warm_ahead_bytes(uint64_t wish_bytes) {
  std::ifstream meminfo("/proc/meminfo");
  std::string name;
  uint64_t kilobytes = 0;
  std::string unit;
  while (meminfo >> name >> kilobytes && std::getline(meminfo, unit)) {
    if (name == "MemAvailable:") return std::min(wish_bytes, kilobytes * 1024 / kShareOfAvailable);
  }
  return 0;
}

}  // namespace raylet
