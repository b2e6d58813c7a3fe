#include "daemons/cli/machine.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>

namespace raylet {
namespace {

constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

double cpus_of_affinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

uint64_t number_at(std::string_view text, uint64_t otherwise) {
  const size_t start = text.find_first_not_of(" \t");
  if (start == std::string_view::npos) return otherwise;
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data() + start, text.data() + text.size(), number);
  return error == std::errc() ? number : otherwise;
}

}  // namespace

double cpus_of_cpu_max(std::string_view cpu_max, double otherwise) {
  const size_t space = cpu_max.find(' ');
  if (space == std::string_view::npos) return otherwise;
  const uint64_t quota = number_at(cpu_max.substr(0, space), 0);
  const uint64_t period = number_at(cpu_max.substr(space), 0);
  if (quota == 0 || period == 0) return otherwise;
  return std::max(1.0, std::floor(static_cast<double>(quota) / static_cast<double>(period)));
}

uint64_t bytes_of_meminfo(std::string_view meminfo, std::string_view field, uint64_t otherwise) {
  const size_t at = meminfo.find(std::string(field) + ":");
  if (at == std::string_view::npos) return otherwise;
  const uint64_t kib = number_at(meminfo.substr(at + field.size() + 1), kNoLimit);
  return kib == kNoLimit ? otherwise : kib * 1024;
}

uint64_t bytes_of_limit(std::string_view memory_max, uint64_t otherwise) {
  // Version 1 writes a number near 2^63 for "no limit".
  const uint64_t limit = number_at(memory_max, kNoLimit);
  return limit >= uint64_t{1} << 60 ? otherwise : limit;
}

std::string cgroup_path(std::string_view proc_self_cgroup) {
  const size_t at = proc_self_cgroup.find("0::");
  if (at == std::string_view::npos) return "";
  const size_t start = at + 3;
  return std::string(proc_self_cgroup.substr(start, proc_self_cgroup.find('\n', start) - start));
}

Machine look_at_machine() {
  Machine machine;
  machine.cpus = cpus_of_affinity();
  machine.memory_available_bytes = bytes_of_meminfo(read_text("/proc/meminfo"), "MemAvailable", uint64_t{1} << 30);

  // A limit of any ancestor is a limit of ours.
  std::string group = cgroup_path(read_text("/proc/self/cgroup"));
  while (true) {
    const std::string directory = "/sys/fs/cgroup" + (group == "/" ? "" : group);
    machine.cpus = std::min(machine.cpus, cpus_of_cpu_max(read_text(directory + "/cpu.max"), machine.cpus));
    const uint64_t limit = bytes_of_limit(read_text(directory + "/memory.max"), kNoLimit);
    if (limit != kNoLimit) {
      const uint64_t used = bytes_of_limit(read_text(directory + "/memory.current"), 0);
      machine.memory_available_bytes = std::min(machine.memory_available_bytes, limit > used ? limit - used : 0);
    }
    if (group.empty() || group == "/") break;
    group.resize(group.rfind('/'));
  }
  const uint64_t limit_v1 = bytes_of_limit(read_text("/sys/fs/cgroup/memory/memory.limit_in_bytes"), kNoLimit);
  machine.memory_available_bytes = std::min(machine.memory_available_bytes, limit_v1);
  return machine;
}

}  // namespace raylet
