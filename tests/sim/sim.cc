// sim: runs the cores in virtual time, a seed at a time, and says which seed broke which invariant.
//
//   bazel run //tests/sim:sim -- --seeds 1..300
//   bazel run //tests/sim:sim -- --seed 17 --verbose
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <unistd.h>

#include "tests/sim/driver.h"
#include "tests/sim/head_host.h"
#include "tests/sim/node_host.h"
#include "tests/sim/store_host.h"
#include "tests/sim/worker.h"
#include "tests/sim/world.h"

namespace raylet::sim {
namespace {

const World* g_running = nullptr;

// A MUST of a core has failed: its own message is out; say which seed it was.
void report_abort(int) {
  if (g_running != nullptr) {
    std::fprintf(stderr, "a core stopped itself at %.6f s\n",
                 static_cast<double>(g_running->now().since_start_ns) * 1e-9);
    g_running->trace.print({Who::kNode});
  }
  std::_Exit(1);
}

struct Outcome {
  bool passed = false;
  uint64_t hash = 0;
  uint64_t events = 0;
};

Outcome run_seed(uint64_t seed, bool verbose) {
  World world(seed, verbose);
  g_running = &world;
  Outcome outcome;
  try {
    world.run();
    outcome.passed = true;
  } catch (const Violation& violation) {
    std::fprintf(stderr, "at %.6f s invariant %s\n", static_cast<double>(world.now().since_start_ns) * 1e-9,
                 violation.what());
    world.trace.print(violation.about);
  }
  outcome.hash = world.trace.hash();
  outcome.events = world.queue.ran();
  g_running = nullptr;
  return outcome;
}

int run(uint64_t first, uint64_t last, bool verbose, bool twice) {
  uint64_t passed = 0;
  uint64_t events = 0;
  for (uint64_t seed = first; seed <= last; ++seed) {
    Outcome outcome = run_seed(seed, verbose);
    events += outcome.events;
    if (outcome.passed && twice) {
      Outcome again = run_seed(seed, false);
      if (again.hash != outcome.hash) {
        std::fprintf(stderr, "seed %llu: invariant R1: the same seed went another way\n",
                     static_cast<unsigned long long>(seed));
        return 1;
      }
    }
    if (!outcome.passed) {
      std::fprintf(stderr, "%llu seeds passed, then seed %llu failed\n", static_cast<unsigned long long>(passed),
                   static_cast<unsigned long long>(seed));
      return 1;
    }
    ++passed;
    if (first == last) {
      std::printf("seed %llu: trace hash %016llx\n", static_cast<unsigned long long>(seed),
                  static_cast<unsigned long long>(outcome.hash));
    }
  }
  std::printf("%llu of %llu seeds passed, %llu events\n", static_cast<unsigned long long>(passed),
              static_cast<unsigned long long>(last - first + 1), static_cast<unsigned long long>(events));
  return 0;
}

int usage(const char* what) {
  std::fprintf(stderr,
               "%s\nusage: sim --seeds A..B [--twice] | --seed N [--verbose] [--twice]\n"
               "  --twice   each seed again; its trace must be the same\n",
               what);
  return 2;
}

int main_of(int argc, char** argv) {
  uint64_t first = 1;
  uint64_t last = 20;
  bool verbose = false;
  bool twice = false;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    char* end = nullptr;
    if (word == "--verbose") {
      verbose = true;
    } else if (word == "--twice") {
      twice = true;
    } else if (word == "--help") {
      usage("sim: the cores in virtual time");
      return 0;
    } else if ((word == "--seed" || word == "--seeds") && i + 1 < argc) {
      const char* text = argv[++i];
      first = last = std::strtoull(text, &end, 10);
      if (word == "--seeds" && std::strncmp(end, "..", 2) == 0) last = std::strtoull(end + 2, &end, 10);
      if (end == text || *end != 0 || last < first) return usage("--seed takes a number, --seeds takes A..B");
    } else {
      return usage(("unknown flag " + word).c_str());
    }
  }
  std::signal(SIGABRT, report_abort);
  std::signal(SIGSEGV, report_abort);
  return run(first, last, verbose, twice);
}

}  // namespace
}  // namespace raylet::sim

int main(int argc, char** argv) { return raylet::sim::main_of(argc, argv); }
