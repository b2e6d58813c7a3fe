// Memory: what local processes wrote into the store's segments. A read finds exactly what was written there
// last, so an extent that was given away too early shows as a wrong value.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "daemons/raylet/core/effects.h"
#include "protocol/words/ids.h"

namespace raylet::sim {

// A value: what stands for its content, and the references inside.
struct Content {
  uint64_t hash = 0;
  std::vector<ObjectId> contained;
  bool operator==(const Content&) const = default;
};

class Memory {
 public:
  void write(const StoredAt& at, Content content) {
    auto& segment = segments_[at.segment.number];
    auto first = segment.upper_bound(at.offset);
    if (first != segment.begin() && std::prev(first)->first + std::prev(first)->second.first > at.offset) {
      --first;
    }
    auto last = segment.lower_bound(at.offset + at.size_bytes);
    segment.erase(first, last);
    segment[at.offset] = {at.size_bytes, std::move(content)};
  }
  // Null: these bytes were overwritten, or never written as one value.
  const Content* read(const StoredAt& at) const {
    auto segment = segments_.find(at.segment.number);
    if (segment == segments_.end()) return nullptr;
    auto found = segment->second.find(at.offset);
    return found == segment->second.end() || found->second.first != at.size_bytes ? nullptr
                                                                                  : &found->second.second;
  }
  void clear() { segments_.clear(); }

 private:
  std::map<uint64_t, std::map<uint64_t, std::pair<uint64_t, Content>>> segments_;
};

}  // namespace raylet::sim
