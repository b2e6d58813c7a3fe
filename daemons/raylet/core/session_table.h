// Sessions: who is connected, what each may name and what each waits for.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "daemons/raylet/core/effects.h"
#include "daemons/raylet/core/job_table.h"
#include "protocol/words/ids.h"

namespace raylet {

struct Worker;

struct LeasedSlab {
  SegmentId segment;
  uint64_t offset = 0;
  uint64_t size_bytes = 0;
  bool lost = false;  // its store died with it
};

struct Session {
  SessionId id;
  uint32_t slot = 0;  // what shares name it by
  Job* job = nullptr;        // of drivers; a worker's is its worker's
  Worker* worker = nullptr;  // of workers
  bool is_driver = false;
  bool local = true;
  bool closed = false;
  uint64_t pid = 0;
  uint32_t first_share = 0;
  uint64_t held_count = 0;
  uint64_t credit_withheld = 0;
  std::unordered_map<uint32_t, uint32_t> functions;  // its number -> the node's
  std::unordered_map<SlabId, LeasedSlab> slabs;
  std::unordered_map<uint64_t, uint32_t> gets;  // by request number
};

// One question for several objects.
struct Get {
  SessionId session;
  RequestId request;
  bool values = true;
  uint64_t left = 0;  // answers still to give
  std::vector<uint32_t> objects;  // those waited for, each used once by this get
  std::vector<ObjectAnswer> answers;  // of this step
  bool answering = false;
  bool live = false;
  bool over = false;
};

class SessionTable {
 public:
  Session& add(const SessionId& id) {
    uint32_t slot = static_cast<uint32_t>(slots_.size());
    if (free_.empty()) {
      slots_.push_back(nullptr);
    } else {
      slot = free_.back();
      free_.pop_back();
    }
    slots_[slot] = std::make_unique<Session>();
    slots_[slot]->id = id;
    slots_[slot]->slot = slot;
    by_id_[id] = slot;
    return *slots_[slot];
  }
  void remove(Session& session) {
    by_id_.erase(session.id);
    free_.push_back(session.slot);
    slots_[session.slot].reset();
  }
  Session* find(const SessionId& id) {
    auto found = by_id_.find(id);
    return found == by_id_.end() ? nullptr : slots_[found->second].get();
  }
  const Session* find(const SessionId& id) const { return const_cast<SessionTable*>(this)->find(id); }
  Session& at(uint32_t slot) { return *slots_[slot]; }
  template <typename Visit>
  void each(Visit visit) const {
    for (const auto& slot : slots_) {
      if (slot) visit(*slot);
    }
  }

 private:
  std::vector<std::unique_ptr<Session>> slots_{1};
  std::vector<uint32_t> free_;
  std::unordered_map<SessionId, uint32_t> by_id_;
};

}  // namespace raylet
