// core_bench: how fast the node's mind alone schedules, with workers that answer each batch at once.
//
// A step is told the results of all batches that the step before sent, in worker order, as a loop that drains
// its sockets would. Time spent making the made-up results is not counted. Prints a table; checks that every
// graph ended well and that nothing is left.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <sys/resource.h>

#include "daemons/raylet/core/node.h"
#include "protocol/words/check.h"

namespace raylet {
namespace {

using Clock = std::chrono::steady_clock;

struct Run {
  double submit_s = 0;
  double run_s = 0;
  double longest_step_ms = 0;
  uint64_t tasks = 0;
  uint64_t batches = 0;
  uint64_t steps = 0;
  double rss_bytes_per_task = 0;
};

double rss_bytes() {
  double pages = 0;
  if (FILE* file = std::fopen("/proc/self/statm", "r")) {
    long total = 0, resident = 0;
    if (std::fscanf(file, "%ld %ld", &total, &resident) == 2) pages = static_cast<double>(resident);
    std::fclose(file);
  }
  return pages * 4096;
}

class Bench {
 public:
  explicit Bench(uint32_t workers) : node_(options(workers)) {
    std::vector<Event> events;
    events.push_back(DriverArrived{driver_, JobId{0, 1}, {}, 1, true});
    step(events);
    while (!replies_.empty()) {
      std::vector<Event> next;
      next.swap(replies_);
      step(next);
    }
  }

  static NodeOptions options(uint32_t workers) {
    NodeOptions options;
    MUST(options.resources.set("CPU", workers).ok());
    return options;
  }

  // `deps_of` lists the dependencies of task i on earlier ones; function 1 unless `function_of` says otherwise.
  Run run(uint64_t tasks, const std::function<void(uint64_t, std::vector<uint64_t>&)>& deps_of,
          const std::function<uint32_t(uint64_t)>& function_of) {
    Run result;
    result.tasks = tasks;
    GraphId graph{1, ++graphs_};
    std::vector<Event> chunks;
    std::vector<uint64_t> deps;
    constexpr uint64_t kChunk = 8192;
    for (uint64_t first = 0; first < tasks; first += kChunk) {
      GraphChunk chunk;
      chunk.graph = graph;
      chunk.first_task = first;
      chunk.task_count = static_cast<uint32_t>(std::min(kChunk, tasks - first));
      chunk.last = first + chunk.task_count == tasks;
      chunk.fail_fast = true;
      chunk.wire_bytes = chunk.task_count * 40;
      if (first == 0) {
        for (uint32_t number : {1u, 2u}) {
          FunctionDef def;
          def.number = number;
          def.name = "f" + std::to_string(number);
          def.pickled = make_bytes("f");
          chunk.functions.push_back(def);
        }
      }
      for (uint32_t i = 0; i < chunk.task_count; ++i) {
        chunk.function_numbers.push_back(function_of(first + i));
        deps.clear();
        deps_of(first + i, deps);
        chunk.dep_counts.push_back(static_cast<uint32_t>(deps.size()));
        for (uint64_t dep : deps) chunk.deps.push_back(2 * dep);
      }
      for (uint32_t left = chunk.task_count; left > 0;) {
        uint32_t size = std::min(left, 64u);
        chunk.group_sizes.push_back(size);
        chunk.group_blobs.push_back(blob_);
        left -= size;
      }
      if (chunk.last) chunk.wanted.push_back(tasks - 1);
      chunks.push_back(ChunkArrived{driver_, std::move(chunk)});
    }
    double rss_before = rss_bytes();
    longest_step_s_ = 0;
    ended_ = false;
    uint64_t batches_before = batches_;
    double before = busy_s_;
    for (Event& chunk : chunks) {
      std::vector<Event> one;
      one.push_back(std::move(chunk));
      step(one);
    }
    result.submit_s = busy_s_ - before;
    result.rss_bytes_per_task = (rss_bytes() - rss_before) / static_cast<double>(tasks);
    before = busy_s_;
    while (!replies_.empty()) {
      std::vector<Event> next;
      next.swap(replies_);
      step(next);
      ++result.steps;
    }
    result.run_s = busy_s_ - before;
    MUST(ended_, "the graph did not end");
    std::vector<Event> release;
    release.push_back(ReferencesChanged{driver_, {}, {{graph, tasks - 1, 0}}, {}});
    step(release);
    NodeReport report = node_.report(now_);
    MUST(report.object_count == 0 && report.graphs.empty(), "something is left");
    result.batches = batches_ - batches_before;
    result.longest_step_ms = longest_step_s_ * 1e3;
    return result;
  }

 private:
  void step(std::vector<Event>& events) {
    now_ = now_ + std::chrono::microseconds(100);
    effects_.clear();
    Clock::time_point start = Clock::now();
    node_.step(now_, events, effects_);
    double took = std::chrono::duration<double>(Clock::now() - start).count();
    busy_s_ += took;
    longest_step_s_ = std::max(longest_step_s_, took);
    for (Effect& effect : effects_) {
      if (auto* start_worker = std::get_if<StartWorker>(&effect)) {
        SessionId session{1000 + start_worker->worker.number};
        replies_.push_back(WorkerArrived{session, start_worker->worker, 1});
      } else if (auto* send = std::get_if<SendBatch>(&effect)) {
        ++batches_;
        ResultsArrived results;
        results.session = SessionId{1000 + send->worker.number};
        results.batch = send->batch;
        results.results.resize(send->tasks.size());
        for (uint32_t i = 0; i < send->tasks.size(); ++i) {
          results.results[i].position = i;
          results.results[i].duration_us = 1;
          results.results[i].returns.resize(1);
          results.results[i].returns[0].payload = value_;
        }
        replies_.push_back(std::move(results));
      } else if (auto* end = std::get_if<ReportGraphEnd>(&effect)) {
        MUST(end->failure.code == FailureCode::kNone, end->failure.message.c_str());
        ended_ = true;
      } else if (auto* stop = std::get_if<StopWorker>(&effect)) {
        WorkerExited exited;
        exited.worker = stop->worker;
        replies_.push_back(std::move(exited));
      }
    }
  }

  Node node_;
  Instant now_;
  SessionId driver_{1};
  uint64_t graphs_ = 0;
  uint64_t batches_ = 0;
  double busy_s_ = 0;
  double longest_step_s_ = 0;
  bool ended_ = false;
  Bytes value_ = make_bytes("12345678");
  Bytes blob_ = make_bytes(std::string(64, 'b'));
  std::vector<Event> replies_;
  std::vector<Effect> effects_;
};

void print(const char* name, const Run& run) {
  std::printf("%-28s %9lu %10.0f %10.0f %10.0f %8lu %9.1f %8.0f\n", name, run.tasks,
              static_cast<double>(run.tasks) / (run.submit_s + run.run_s),
              static_cast<double>(run.tasks) / run.submit_s, static_cast<double>(run.tasks) / run.run_s,
              run.batches, run.longest_step_ms, run.rss_bytes_per_task);
  std::fflush(stdout);
}

}  // namespace

int bench(int argc, char** argv) {
  const char* only = argc > 1 ? argv[1] : "";
  std::printf("%-28s %9s %10s %10s %10s %8s %9s %8s\n", "graph", "tasks", "tasks/s", "intake/s", "run/s",
              "batches", "step ms", "bytes");
  auto one = [](uint64_t) { return 1u; };
  auto run = [&](const char* name, uint64_t tasks,
                 const std::function<void(uint64_t, std::vector<uint64_t>&)>& deps,
                 const std::function<uint32_t(uint64_t)>& function) {
    if (std::strstr(name, only) == nullptr) return;
    Bench bench(2);
    bench.run(3, [](uint64_t, std::vector<uint64_t>&) {}, [](uint64_t i) { return i == 2 ? 2u : 1u; });
    print(name, bench.run(tasks, deps, function));
  };
  for (uint64_t leaves : {8'192ul, 100'000ul, 1'000'000ul}) {
    run(("into one " + std::to_string(leaves)).c_str(), leaves + 1,
        [leaves](uint64_t task, std::vector<uint64_t>& deps) {
          if (task < leaves) return;
          for (uint64_t i = 0; i < leaves; ++i) deps.push_back(i);
        },
        [leaves](uint64_t task) { return task == leaves ? 2u : 1u; });
  }
  for (uint64_t leaves : {8'192ul, 65'536ul, 524'288ul}) {
    run(("tree " + std::to_string(2 * leaves - 1)).c_str(), 2 * leaves - 1,
        [leaves](uint64_t task, std::vector<uint64_t>& deps) {
          if (task < leaves) return;
          deps.push_back(2 * (task - leaves));
          deps.push_back(2 * (task - leaves) + 1);
        },
        one);
  }
  for (uint64_t length : {300ul, 100'000ul}) {
    run(("chain " + std::to_string(length)).c_str(), length,
        [](uint64_t task, std::vector<uint64_t>& deps) {
          if (task > 0) deps.push_back(task - 1);
        },
        one);
  }
  for (uint64_t count : {100'000ul, 1'000'000ul}) {
    run(("independent " + std::to_string(count)).c_str(), count, [](uint64_t, std::vector<uint64_t>&) {}, one);
  }
  run("one with 10000 readers", 10'002,
      [](uint64_t task, std::vector<uint64_t>& deps) {
        if (task > 0 && task < 10'001) deps.push_back(0);
        if (task == 10'001) {
          for (uint64_t i = 1; i < 10'001; ++i) deps.push_back(i);
        }
      },
      one);
  return 0;
}

}  // namespace raylet

int main(int argc, char** argv) { return raylet::bench(argc, argv); }
