#include "plasma/core/store.h"

#include <algorithm>
#include <utility>

#include "protocol/words/check.h"

namespace raylet::plasma {
namespace {

StoreOptions rounded(StoreOptions options) {
  MUST(options.capacity_bytes >= Store::kCapacityBytesMin, "a store needs some room");
  options.capacity_bytes = round_down(options.capacity_bytes, kPageBytes);
  options.segment_bytes = round_down(std::min(options.segment_bytes, options.capacity_bytes), kPageBytes);
  options.warm_ahead_bytes = std::min(options.warm_ahead_bytes, options.capacity_bytes);
  options.warm_step_bytes = round_up(options.warm_step_bytes, kPageBytes);
  return options;
}

std::string number(uint64_t value) { return std::to_string(value); }

}  // namespace

Store::Store(StoreOptions options)
    : options_(rounded(options)), segments_(options_.capacity_bytes, options_.segment_bytes) {}

void Store::step(Instant now, std::span<const Event> events, std::vector<Effect>& effects) {
  MUST(now >= now_, "time never goes back");
  now_ = now;
  effects_ = &effects;
  for (const Event& event : events) {
    std::visit([this](const auto& happened) { on(happened); }, event);
  }
  if (state_ == State::kReady) {
    serve_leases();
    refuse_late_leases();
    cool_idle_segments();
    warm_ahead();
    tell_usage();
    set_alarm();
  }
  effects_ = nullptr;
}

// ---------------------------------------------------------------- beginning

void Store::on(const Started& event) {
  if (state_ != State::kSilent) return complain("a second hello");
  incarnation_ = event.incarnation;
  if (event.segment_count == 0) return become_ready();
  if (event.segment_count > kAdoptedSegmentsMax) {
    complain("a hello with " + number(event.segment_count) + " segments; at most " + number(kAdoptedSegmentsMax) +
             " are adopted");
  }
  segments_to_adopt_ = event.segment_count;
  state_ = State::kAdopting;
}

void Store::on(const SegmentAdopted& event) {
  if (state_ != State::kAdopting || segments_to_adopt_ == 0) {
    return complain("segment " + number(event.segment.number) + " to adopt that was not announced");
  }
  --segments_to_adopt_;
  if (!segments_.adopt(event.segment, event.size_bytes)) {
    complain("segment " + number(event.segment.number) + " of " + number(event.size_bytes) +
             " bytes can't be adopted: its number is taken or its size is not whole pages");
  }
}

void Store::on(const AdoptionDone& event) {
  if (state_ != State::kAdopting) return complain("the end of an adoption that was not announced");
  if (segments_to_adopt_ > 0) {
    complain("the end of an adoption with " + number(segments_to_adopt_) + " announced segments missing");
  }
  for (const AdoptionDone::Object& object : event.objects) {
    Extent at{object.at.segment, object.at.offset, round_up(object.at.size_bytes, kGranuleBytes)};
    if (object.id.is_nil() || objects_.find(object.id) != nullptr || at.size_bytes < object.at.size_bytes ||
        !segments_.take(at)) {
      complain("object " + object.id.hex() + " can't be adopted: it is known already, or its bytes are not there");
      continue;
    }
    Object adopted;
    adopted.at = at;
    adopted.size_bytes = object.at.size_bytes;
    adopted.remakable = object.remakable;
    adopted.pinned = object.pinned;
    objects_.add(object.id, adopted);
  }
  // The newest first: a slab's bytes that were sealed, freed and leased again belong to the newer slab.
  std::vector<AdoptionDone::Slab> slabs = event.slabs;
  std::stable_sort(slabs.begin(), slabs.end(), [](const auto& a, const auto& b) { return a.slab > b.slab; });
  for (const AdoptionDone::Slab& slab : slabs) adopt_slab(slab);
  become_ready();
}

void Store::adopt_slab(const AdoptionDone::Slab& slab) {
  auto segment = segments_.segments().find(slab.at.segment);
  if (slab.slab.is_nil() || slabs_.find(slab.slab) != nullptr || segment == segments_.segments().end() ||
      slab.at.size_bytes % kGranuleBytes != 0 || slab.at.offset % kGranuleBytes != 0 || slab.at.size_bytes == 0 ||
      slab.at.offset >= segment->second.arena.size_bytes() ||
      slab.at.size_bytes > segment->second.arena.size_bytes() - slab.at.offset) {
    return complain("slab " + number(slab.slab.number) +
                    " can't be adopted: it is known, or its bytes are not there");
  }
  std::vector<Extent> unsealed;
  const std::map<uint64_t, uint64_t>& free = segment->second.arena.free_extents();
  auto hole = free.upper_bound(slab.at.offset);
  if (hole != free.begin()) --hole;
  for (; hole != free.end() && hole->first < slab.at.end(); ++hole) {
    uint64_t from = std::max(hole->first, slab.at.offset);
    uint64_t until = std::min(hole->first + hole->second, slab.at.end());
    if (from < until) unsealed.push_back({slab.at.segment, from, until - from});
  }
  std::erase_if(unsealed, [this](const Extent& extent) { return !segments_.take(extent); });
  if (!unsealed.empty()) slabs_.add(slab.slab, {slab.session, slab.at, std::move(unsealed)});
}

void Store::become_ready() {
  state_ = State::kReady;
  effects_->push_back(Ready{options_.capacity_bytes, incarnation_});
  // What lies beyond the last adopted byte may still have pages.
  for (const auto& [id, segment] : segments_.segments()) {
    uint64_t from = round_up(segment.arena.taken_end(), kPageBytes);
    if (from < segment.arena.size_bytes()) effects_->push_back(CoolSegment{id, from});
  }
}

// ---------------------------------------------------------------- objects and slabs

void Store::on(const LeaseAsked& event) {
  WaitingLease lease;
  lease.ticket = event.ticket;
  lease.slab = event.slab;
  lease.session = event.session;
  lease.asked_bytes = event.size_bytes;
  lease.wait_max = std::max(event.wait_max, Duration::zero());
  lease.deadline = now_ + lease.wait_max;
  if (event.size_bytes == 0) return refuse(lease, FailureCode::kRequestInvalid, "a slab of 0 bytes is of no use");
  if (event.size_bytes > options_.capacity_bytes) {
    return refuse(lease, FailureCode::kObjectTooLarge,
                  number(event.size_bytes) + " bytes don't fit an object store of " +
                      number(options_.capacity_bytes) +
                      " bytes; split the value, or start the node with a larger --object-store-memory");
  }
  lease.size_bytes = round_up(event.size_bytes, kGranuleBytes);
  if (event.slab.is_nil() || slabs_.find(event.slab) != nullptr || leases_.contains(event.slab)) {
    complain("slab " + number(event.slab.number) + " is leased twice");
    return refuse(lease, FailureCode::kRequestInvalid, "the slab's number is taken");
  }
  if (leases_.full()) {
    return refuse(lease, FailureCode::kLimitExceeded,
                  number(LeaseQueue::kLeasesWaitingMax) + " leases wait for room already; try again later");
  }
  leases_.push(lease);
}

void Store::on(const ObjectSealed& event) {
  auto wrong = [&](const char* why) {
    complain("seal of object " + event.id.hex() + " at " + number(event.offset) + " of slab " +
             number(event.slab.number) + ", " + number(event.size_bytes) + " bytes: " + why);
  };
  if (event.id.is_nil()) return wrong("the id is nil");
  if (objects_.find(event.id) != nullptr) return wrong("it is sealed already");
  if (event.offset % kGranuleBytes != 0) return wrong("expected an offset in whole granules of 64 bytes");
  const Slab* slab = slabs_.find(event.slab);
  if (slab == nullptr) return wrong("there is no such slab");
  if (event.size_bytes == 0 || event.size_bytes > slab->at.size_bytes) return wrong("the size can't be");
  std::optional<Extent> at = slabs_.seal(event.slab, event.offset, round_up(event.size_bytes, kGranuleBytes));
  if (!at) return wrong("these are not unsealed bytes of the slab");
  Object object;
  object.at = *at;
  object.size_bytes = event.size_bytes;
  object.remakable = event.remakable;
  objects_.add(event.id, object);
}

void Store::on(const ObjectPinned& event) {
  const Object* object = objects_.find(event.id);
  if (object == nullptr) return complain("pin of object " + event.id.hex() + ", which is not here");
  if (object->pinned) return complain("pin of object " + event.id.hex() + ", which is pinned");
  objects_.pin(event.id);
}

void Store::on(const ObjectUnpinned& event) {
  const Object* object = objects_.find(event.id);
  if (object == nullptr) return complain("unpin of object " + event.id.hex() + ", which is not here");
  if (!object->pinned) return complain("unpin of object " + event.id.hex() + ", which is not pinned");
  if (object->freed) return remove_object(event.id);
  objects_.unpin(event.id);
}

void Store::on(const ObjectFreed& event) {
  const Object* object = objects_.find(event.id);
  if (object == nullptr || object->freed) {
    return complain("free of object " + event.id.hex() + ", which is not here");
  }
  if (object->pinned) return objects_.mark_freed(event.id);
  remove_object(event.id);
}

void Store::on(const ObjectTouched& event) {
  if (objects_.find(event.id) != nullptr) objects_.touch(event.id);
}

void Store::remove_object(const ObjectId& id) {
  segments_.release(now_, objects_.find(id)->at);
  objects_.remove(id);
}

void Store::on(const SlabReturned& event) {
  if (slabs_.find(event.slab) != nullptr) return end_slab(event.slab);
  bool waited = false;
  leases_.take_if([&](const WaitingLease& lease) { return lease.slab == event.slab; },
                  [&](const WaitingLease& lease) {
                    waited = true;
                    refuse(lease, FailureCode::kRequestInvalid,
                           "the slab was returned before there was room for it");
                  });
  if (!waited && !slabs_.was_leased(event.slab)) {
    complain("return of slab " + number(event.slab.number) + ", which was never leased");
  }
}

void Store::on(const SessionEnded& event) {
  for (SlabId slab : slabs_.of_session(event.session)) end_slab(slab);
  leases_.take_if([&](const WaitingLease& lease) { return lease.session == event.session; },
                  [&](const WaitingLease& lease) {
                    refuse(lease, FailureCode::kRequestInvalid, "the session that asked for the slab has ended");
                  });
}

void Store::end_slab(SlabId slab) {
  for (const Extent& extent : slabs_.remove(slab)) segments_.release(now_, extent);
}

// ---------------------------------------------------------------- room

void Store::on(const SegmentMade& event) {
  if (making_ == event.segment) making_ = SegmentId{};
  make_failure_.clear();
  if (!segments_.confirm(event.segment)) complain("segment " + number(event.segment.number) + " was made unasked");
}

void Store::on(const SegmentFailed& event) {
  if (making_ == event.segment) making_ = SegmentId{};
  make_failure_ = event.reason;
  make_again_ = now_ + options_.segment_retry;
  segments_.forget(event.segment);
  complain("a segment could not be made: " + event.reason);
}

void Store::serve_leases() {
  while (!leases_.empty() && try_lease(leases_.front())) leases_.pop();
}

// True: granted. Otherwise what could make room is under way, as far as anything can.
bool Store::try_lease(WaitingLease& lease) {
  for (;;) {
    if (std::optional<Extent> at = segments_.allocate(lease.size_bytes)) {
      slabs_.add(lease.slab, {lease.session, *at, {*at}});
      effects_->push_back(Leased{lease.ticket, lease.slab, *at});
      return true;
    }
    if (!making_.is_nil() || make_segment_for(lease.size_bytes)) return false;
    std::optional<SegmentTable::Spare> spare = segments_.spare();
    if (!spare) break;
    segments_.cool(*spare);
    effects_->push_back(CoolSegment{spare->segment, spare->from});
  }
  make_room(lease);
  return false;
}

bool Store::make_segment_for(uint64_t size_bytes) {
  if (!making_.is_nil() || now_ < make_again_) return false;
  std::optional<uint64_t> size = segments_.size_to_make(size_bytes);
  if (!size) return false;
  making_ = segments_.add(*size);
  effects_->push_back(MakeSegment{making_, *size});
  return true;
}

// Asks objects back, twice as much each time it was not enough: free bytes may lie in pieces.
void Store::make_room(WaitingLease& lease) {
  if (objects_.asked_back_bytes() > 0) return;
  lease.evict_bytes = std::max(lease.size_bytes, 2 * lease.evict_bytes);
  std::vector<ObjectId> ids = objects_.ask_back(lease.evict_bytes);
  if (ids.empty()) return;
  evictions_asked_total_ += ids.size();
  effects_->push_back(Evict{std::move(ids)});
}

void Store::refuse_late_leases() {
  auto late = [this](const WaitingLease& lease) {
    return lease.deadline <= now_ && (making_.is_nil() || lease.wait_max > Duration::zero());
  };
  leases_.take_if(late, [this](const WaitingLease& lease) {
    std::string why = make_failure_.empty() ? "" : "; the machine gives no more memory: " + make_failure_;
    refuse(lease, FailureCode::kObjectStoreFull,
           "no room for " + number(lease.asked_bytes) + " bytes within " +
               number(std::chrono::duration_cast<std::chrono::milliseconds>(lease.wait_max).count()) + " ms: of " +
               number(options_.capacity_bytes) + " bytes, objects have " + number(objects_.sealed_bytes()) + " (" +
               number(objects_.pinned_bytes()) + " of them in use by processes) and slabs " +
               number(slabs_.unsealed_bytes()) + why);
  });
  serve_leases();  // the next one may need less
}

void Store::cool_idle_segments() {
  for (;;) {
    std::optional<SegmentTable::Idle> idle = segments_.idle_own();
    if (!idle || now_ < idle->since + options_.own_idle_max) return;
    segments_.cool({idle->segment, 0});
    effects_->push_back(CoolSegment{idle->segment, 0});
  }
}

// ---------------------------------------------------------------- ahead of use

void Store::on(const SegmentWarmed&) { warming_ = false; }

void Store::warm_ahead() {
  if (warming_ || !leases_.empty() || segments_.warm_free_bytes() >= options_.warm_ahead_bytes) return;
  std::optional<Extent> cold = segments_.touch_ahead(options_.warm_step_bytes);
  if (!cold) {
    if (!segments_.has_untouched_shared()) make_segment_for(kPageBytes);
    return;
  }
  warming_ = true;
  effects_->push_back(WarmSegment{cold->segment, cold->offset, cold->end()});
}

// ---------------------------------------------------------------- telling

Usage Store::usage() const {
  return {options_.capacity_bytes,   objects_.sealed_bytes(),   slabs_.unsealed_bytes(),
          segments_.touched_bytes(), objects_.objects().size(), leases_.size()};
}

void Store::tell_usage() {
  if (now_ < usage_told_at_ + options_.usage_interval && usage_told_.capacity_bytes != 0) return;
  Usage usage = this->usage();
  if (usage == usage_told_) return;
  usage_told_ = usage;
  usage_told_at_ = now_;
  effects_->push_back(usage);
}

void Store::set_alarm() {
  std::optional<Instant> first;
  auto consider = [&](Instant at) {
    if (at > now_ && (!first || at < *first)) first = at;
  };
  if (std::optional<Instant> deadline = leases_.next_deadline(now_)) consider(*deadline);
  if (std::optional<SegmentTable::Idle> idle = segments_.idle_own()) consider(idle->since + options_.own_idle_max);
  if (usage() != usage_told_) consider(usage_told_at_ + options_.usage_interval);
  if (!leases_.empty()) consider(make_again_);
  if (first) effects_->push_back(WakeAt{*first});
}

void Store::refuse(const WaitingLease& lease, FailureCode code, std::string message) {
  Failure failure;
  failure.code = code;
  failure.message = std::move(message);
  effects_->push_back(Refused{lease.ticket, std::move(failure)});
}

void Store::complain(std::string text) {
  ++complaints_total_;
  effects_->push_back(Complain{std::move(text)});
}

void Store::validate() const {
  segments_.validate();
  slabs_.validate();
  objects_.validate();
  std::map<SegmentId, std::map<uint64_t, uint64_t>> taken;  // every byte that someone has
  auto note = [&](const Extent& extent) {
    MUST(taken[extent.segment].emplace(extent.offset, extent.end()).second, "two things begin at the same byte");
  };
  for (const auto& [id, object] : objects_.objects()) note(object.at);
  for (const auto& [id, slab] : slabs_.slabs()) {
    for (const Extent& extent : slab.unsealed) note(extent);
  }
  for (const auto& [id, segment] : segments_.segments()) {
    for (auto [offset, size] : segment.arena.free_extents()) note({id, offset, size});
    uint64_t end = 0;
    for (auto [from, until] : taken[id]) {
      MUST(from == end, "a byte is lost, or someone's twice");
      end = until;
    }
    MUST(end == segment.arena.size_bytes(), "a byte is lost");
    taken.erase(id);
  }
  MUST(taken.empty(), "something lies in a segment that is not here");
}

}  // namespace raylet::plasma
