#include "tests/sim/trace.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "protocol/words/ids.h"

namespace raylet::sim {
namespace {

const char* name_of(Who who) {
  switch (who) {
    case Who::kWorld: return "world";
    case Who::kNode: return "raylet";
    case Who::kStore: return "store";
    case Who::kHead: return "head";
    case Who::kRedis: return "redis";
    case Who::kDriver: return "driver";
    case Who::kWorker: return "worker";
  }
  return "?";
}

}  // namespace

void Trace::note(Instant at, Actor actor, const char* what, uint64_t a, uint64_t b, uint64_t c) {
  for (uint64_t word :
       {static_cast<uint64_t>(at.since_start_ns), static_cast<uint64_t>(actor.who), actor.number, a, b, c}) {
    hash_ = mix_bits(hash_, word);
  }
  for (const char* letter = what; *letter != 0; ++letter) {
    hash_ = mix_bits(hash_, static_cast<uint64_t>(*letter));
  }
  lines_.push_back({at, actor, what, a, b, c});
  if (lines_.size() > kKeptMax) {
    lines_.pop_front();
  }
  if (verbose_) {
    print(lines_.back());
  }
}

void Trace::print(const Line& line) {
  std::fprintf(stderr, "%12.6f  %-6s %-4llu %-22s %llu %llu %llu\n",
               static_cast<double>(line.at.since_start_ns) * 1e-9, name_of(line.actor.who),
               static_cast<unsigned long long>(line.actor.number), line.what,
               static_cast<unsigned long long>(line.a), static_cast<unsigned long long>(line.b),
               static_cast<unsigned long long>(line.c));
}

void Trace::print(const Actor& about) const {
  std::fprintf(stderr, "seed %llu; replay: bazel run //tests/sim:sim -- --seed %llu --verbose\n",
               static_cast<unsigned long long>(seed_), static_cast<unsigned long long>(seed_));
  std::vector<const Line*> own;
  for (auto line = lines_.rbegin(); line != lines_.rend() && own.size() < kPrintedMax; ++line) {
    if (line->actor == about) {
      own.push_back(&*line);
    }
  }
  std::fprintf(stderr, "the last of %s %llu:\n", name_of(about.who),
               static_cast<unsigned long long>(about.number));
  std::for_each(own.rbegin(), own.rend(), [](const Line* line) { print(*line); });
  std::fprintf(stderr, "the last of all:\n");
  for (size_t at = lines_.size() - std::min(lines_.size(), kPrintedMax); at < lines_.size(); ++at) {
    print(lines_[at]);
  }
}

}  // namespace raylet::sim
