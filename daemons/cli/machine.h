// What this machine has that a node may use: CPUs and memory, as limited by affinity and by cgroups.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace raylet {

struct Machine {
  double cpus = 1;                      // whole, at least 1
  uint64_t memory_available_bytes = 0;  // what could be allotted at this moment
};

// Never fails: what can't be read does not limit.
Machine look_at_machine();

// The pure parts, on the texts of the kernel's files. Each gives `otherwise` when the text sets no limit or
// makes no sense.
double cpus_of_cpu_max(std::string_view cpu_max, double otherwise);  // cgroup v2 cpu.max
uint64_t bytes_of_meminfo(std::string_view meminfo, std::string_view field, uint64_t otherwise);
uint64_t bytes_of_limit(std::string_view memory_max, uint64_t otherwise);  // cgroup memory.max
std::string cgroup_path(std::string_view proc_self_cgroup);                // "" when not on cgroup v2

}  // namespace raylet
