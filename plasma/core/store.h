// Store: the mind of a plasma-store: which bytes of which segment are whose.
//
// A session leases a slab, writes into it, and its raylet seals objects in it; what is sealed belongs to no
// session. Leases that find no room wait in order, while evictable objects are asked back from the raylet.
// The raylet's channel is the only voice the store obeys, and it never crashes on what it hears: a command
// that makes no sense is complained about and changes nothing.
//
// What always holds (validate() checks it): every byte of a segment is free, unsealed in one slab, or in one
// object; what segments may keep resident is at most the capacity; whoever waits has a deadline or waits for a
// segment that is being made.
//
// Pure and single-threaded: no clock, socket, thread, file, log or global.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "plasma/core/effects.h"
#include "plasma/core/events.h"
#include "plasma/core/lease_queue.h"
#include "plasma/core/object_table.h"
#include "plasma/core/segment_table.h"
#include "plasma/core/slab_table.h"
#include "protocol/words/time.h"

namespace raylet::plasma {

struct StoreOptions {
  uint64_t capacity_bytes = uint64_t{1} << 30;      // rounded down to whole pages; at least kCapacityBytesMin
  uint64_t segment_bytes = uint64_t{256} << 20;     // of shared segments, at most the capacity
  uint64_t warm_ahead_bytes = uint64_t{256} << 20;  // free bytes kept touched ahead of use
  uint64_t warm_step_bytes = 8 << 20;
  Duration own_idle_max = std::chrono::seconds(10);    // how long an empty own segment keeps its pages
  Duration usage_interval = std::chrono::milliseconds(10);
  Duration segment_retry = std::chrono::seconds(1);    // after a segment could not be made
};

class Store {
 public:
  static constexpr uint64_t kCapacityBytesMin = 1 << 20;
  static constexpr size_t kAdoptedSegmentsMax = SegmentTable::kSegmentsMax;

  // REQUIRES: capacity_bytes >= kCapacityBytesMin.
  explicit Store(StoreOptions options);

  // Takes in `events` in their order and appends what must be done to `effects`. `now` never goes back.
  void step(Instant now, std::span<const Event> events, std::vector<Effect>& effects);

  // Reading; nothing changes.
  Usage usage() const;
  uint64_t evictions_asked_total() const { return evictions_asked_total_; }
  uint64_t complaints_total() const { return complaints_total_; }
  const ObjectTable& objects() const { return objects_; }
  const SlabTable& slabs() const { return slabs_; }
  const SegmentTable& segments() const { return segments_; }

  // Stops the process if the tables contradict each other. Linear in what the store knows: for tests.
  void validate() const;

 private:
  enum class State { kSilent, kAdopting, kReady };

  void on(const Started& event);
  void on(const SegmentAdopted& event);
  void on(const AdoptionDone& event);
  void on(const LeaseAsked& event);
  void on(const ObjectSealed& event);
  void on(const ObjectPinned& event);
  void on(const ObjectUnpinned& event);
  void on(const ObjectFreed& event);
  void on(const ObjectTouched& event);
  void on(const SlabReturned& event);
  void on(const SessionEnded& event);
  void on(const SegmentMade& event);
  void on(const SegmentFailed& event);
  void on(const SegmentWarmed& event);
  void on(const Tick&) {}

  void adopt_slab(const AdoptionDone::Slab& slab);
  void become_ready();
  void remove_object(const ObjectId& id);
  void end_slab(SlabId slab);

  void serve_leases();
  bool try_lease(WaitingLease& lease);
  bool make_segment_for(uint64_t size_bytes);
  void make_room(WaitingLease& lease);
  void refuse_late_leases();
  void cool_idle_segments();
  void warm_ahead();
  void tell_usage();
  void set_alarm();

  void refuse(const WaitingLease& lease, FailureCode code, std::string message);
  void complain(std::string text);

  // Constant after construction.
  const StoreOptions options_;

  // Of the step under way.
  Instant now_;
  std::vector<Effect>* effects_ = nullptr;

  State state_ = State::kSilent;
  uint64_t incarnation_ = 0;
  uint64_t segments_to_adopt_ = 0;
  SegmentTable segments_;
  SlabTable slabs_;
  ObjectTable objects_;
  LeaseQueue leases_;
  SegmentId making_;   // nil: none
  bool warming_ = false;
  Instant make_again_;  // not before, after a failure
  std::string make_failure_;  // why the last segment could not be made; empty: it could
  Usage usage_told_;
  Instant usage_told_at_;
  uint64_t evictions_asked_total_ = 0;
  uint64_t complaints_total_ = 0;
};

}  // namespace raylet::plasma
