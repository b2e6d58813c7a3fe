#include "plasma/core/store.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "protocol/words/rng.h"

namespace raylet::plasma {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr SessionId kSession{7};

ObjectId object(uint64_t task) { return {{1, 1}, task, 0}; }

// A store with a machine that makes segments at once and a raylet that says what it is told to.
class World {
 public:
  explicit World(StoreOptions options, bool started = true) : store(options) {
    if (started) tell(Started{1, 0});
  }

  void tell(Event event) {
    std::vector<Event> events{std::move(event)};
    while (!events.empty()) {
      std::vector<Effect> effects;
      store.step(now, events, effects);
      store.validate();
      events.clear();
      for (Effect& effect : effects) perform(std::move(effect), events);
    }
  }

  void pass(Duration time) {
    now = now + time;
    tell(Tick{});
  }

  // The place of the slab, if it was granted at once.
  std::optional<Extent> lease(uint64_t slab, uint64_t size_bytes, Duration wait_max = Duration::zero(),
                              SessionId session = kSession) {
    tell(LeaseAsked{Ticket{slab}, SlabId{slab}, session, size_bytes, wait_max});
    return leased(slab);
  }

  std::optional<Extent> leased(uint64_t slab) const {
    for (const Leased& lease : leases) {
      if (lease.slab == SlabId{slab}) return lease.at;
    }
    return std::nullopt;
  }

  // Leases exactly what the object needs and seals it.
  void put(uint64_t task, uint64_t size_bytes, bool remakable) {
    REQUIRE(lease(task, size_bytes));
    tell(ObjectSealed{object(task), SlabId{task}, 0, size_bytes, remakable});
  }

  Instant now{1'000'000'000};
  Store store;
  std::vector<Leased> leases;
  std::vector<Refused> refusals;
  std::vector<ObjectId> evictions;
  std::vector<std::string> complaints;
  std::vector<MakeSegment> segments_made;
  std::vector<CoolSegment> cooled;
  std::vector<WarmSegment> warmed;
  std::optional<Instant> alarm;
  bool raylet_agrees = true;  // to evictions
  std::string segment_failure;

 private:
  void perform(Effect&& effect, std::vector<Event>& events) {
    if (auto* make = std::get_if<MakeSegment>(&effect)) {
      segments_made.push_back(*make);
      if (segment_failure.empty()) {
        events.push_back(SegmentMade{make->segment});
      } else {
        events.push_back(SegmentFailed{make->segment, segment_failure});
      }
    }
    if (auto* warm = std::get_if<WarmSegment>(&effect)) {
      warmed.push_back(*warm);
      events.push_back(SegmentWarmed{warm->segment});
    }
    if (auto* evict = std::get_if<Evict>(&effect)) {
      for (const ObjectId& id : evict->ids) {
        evictions.push_back(id);
        if (raylet_agrees) events.push_back(ObjectFreed{id});
      }
    }
    if (auto* lease = std::get_if<Leased>(&effect)) leases.push_back(*lease);
    if (auto* refused = std::get_if<Refused>(&effect)) refusals.push_back(*refused);
    if (auto* complaint = std::get_if<Complain>(&effect)) complaints.push_back(complaint->text);
    if (auto* cool = std::get_if<CoolSegment>(&effect)) cooled.push_back(*cool);
    if (auto* wake = std::get_if<WakeAt>(&effect)) alarm = wake->at;
  }
};

StoreOptions small_store() {
  StoreOptions options;
  options.capacity_bytes = 4 * kMiB;
  options.segment_bytes = kMiB;
  options.warm_ahead_bytes = 0;
  return options;
}

}  // namespace

TEST_CASE("a slab is leased, sealed in pieces and what was not sealed returns") {
  World world(small_store());
  std::optional<Extent> slab = world.lease(1, 1000);
  REQUIRE(slab);
  CHECK(slab->size_bytes == 1024);
  world.tell(ObjectSealed{object(1), SlabId{1}, 0, 100, true});
  world.tell(ObjectSealed{object(2), SlabId{1}, 128, 64, true});
  CHECK(world.store.objects().find(object(2))->at.offset == slab->offset + 128);
  CHECK(world.store.usage().sealed_bytes == 192);
  CHECK(world.store.usage().slab_bytes == 1024 - 192);
  world.tell(SlabReturned{SlabId{1}});
  CHECK(world.store.usage().slab_bytes == 0);
  CHECK(world.store.usage().object_count == 2);
  CHECK(world.complaints.empty());
}

TEST_CASE("a slab that was sealed to its last byte has ended, and returning it says nothing new") {
  World world(small_store());
  world.put(1, 64 << 10, true);
  CHECK(world.store.slabs().slabs().empty());
  world.tell(SlabReturned{SlabId{1}});
  CHECK(world.complaints.empty());
}

TEST_CASE("large slabs begin on a page, small ones fill the gaps") {
  World world(small_store());
  REQUIRE(world.lease(1, 64));
  CHECK(world.lease(2, 64 << 10)->offset == 4096);
  CHECK(world.lease(3, 64)->offset == 64);
}

TEST_CASE("freed bytes are used again, the lowest first") {
  World world(small_store());
  for (uint64_t task = 1; task <= 4; ++task) world.put(task, 64 << 10, true);
  Extent first = world.store.objects().find(object(1))->at;
  world.tell(ObjectFreed{object(3)});
  world.tell(ObjectFreed{object(1)});
  CHECK(world.lease(9, 64 << 10)->offset == first.offset);
  CHECK(world.store.segments().segments().size() == 1);
}

TEST_CASE("an object that is larger than a segment has a segment of its own") {
  World world(small_store());
  world.put(1, 3 * kMiB - 100, false);
  CHECK(world.segments_made.back().size_bytes == 4 * kMiB);
  CHECK(world.store.usage().segment_bytes == 3 * kMiB);
  world.put(2, 500'000, false);
  CHECK(world.store.objects().find(object(2))->at.segment != world.store.objects().find(object(1))->at.segment);
}

TEST_CASE("an empty own segment is used again while it is warm, and gives its pages back after a while") {
  World world(small_store());
  world.put(1, 2 * kMiB, false);
  world.tell(ObjectFreed{object(1)});
  world.put(2, 2 * kMiB - 4096, false);
  CHECK(world.segments_made.size() == 1);
  world.tell(ObjectFreed{object(2)});
  CHECK(world.store.usage().segment_bytes == 2 * kMiB);
  world.pass(std::chrono::seconds(11));
  CHECK(world.store.usage().segment_bytes == 0);
  REQUIRE(world.cooled.size() == 1);
  CHECK(world.cooled[0].from == 0);
  world.put(3, 2 * kMiB, false);
  CHECK(world.segments_made.size() == 1);
}

TEST_CASE("a lease larger than the store is refused with both sizes") {
  World world(small_store());
  CHECK_FALSE(world.lease(1, 5 * kMiB, std::chrono::seconds(10)));
  REQUIRE(world.refusals.size() == 1);
  CHECK(world.refusals[0].failure.code == FailureCode::kObjectTooLarge);
  CHECK_THAT(world.refusals[0].failure.message, Catch::Contains("5242880") && Catch::Contains("4194304"));
}

TEST_CASE("a lease without room waits for what is freed") {
  World world(small_store());
  for (uint64_t task = 1; task <= 4; ++task) world.put(task, kMiB, false);
  CHECK_FALSE(world.lease(9, kMiB, std::chrono::seconds(10)));
  CHECK(world.store.usage().waiting_count == 1);
  world.tell(ObjectFreed{object(2)});
  CHECK(world.leased(9));
  CHECK(world.refusals.empty());
}

TEST_CASE("a lease without room is refused at its deadline with what is used") {
  World world(small_store());
  for (uint64_t task = 1; task <= 4; ++task) world.put(task, kMiB, false);
  world.tell(ObjectPinned{object(1)});
  world.lease(9, kMiB, std::chrono::seconds(10));
  world.pass(std::chrono::seconds(9));
  CHECK(world.refusals.empty());
  REQUIRE(world.alarm);
  world.pass(*world.alarm - world.now);
  world.pass(std::chrono::seconds(1));
  REQUIRE(world.refusals.size() == 1);
  CHECK(world.refusals[0].failure.code == FailureCode::kObjectStoreFull);
  CHECK_THAT(world.refusals[0].failure.message,
             Catch::Contains("4194304") && Catch::Contains("1048576 of them in use"));
}

TEST_CASE("leases wait in order: a small one does not overtake a large one") {
  World world(small_store());
  for (uint64_t task = 1; task <= 4; ++task) world.put(task, kMiB, false);
  world.lease(8, kMiB, std::chrono::seconds(10));
  world.lease(9, 64, std::chrono::seconds(10));
  world.tell(SessionEnded{SessionId{1}});
  CHECK_FALSE(world.leased(9));
  world.tell(ObjectFreed{object(1)});
  CHECK(world.leased(8));
  CHECK_FALSE(world.leased(9));
  world.tell(ObjectFreed{object(2)});
  CHECK(world.leased(9));
}

TEST_CASE("what can be made again is evicted, the least recently used first") {
  World world(small_store());
  for (uint64_t task = 1; task <= 4; ++task) world.put(task, kMiB, true);
  world.tell(ObjectTouched{object(1)});
  CHECK(world.lease(9, kMiB, std::chrono::seconds(1)));
  CHECK(world.evictions == std::vector<ObjectId>{object(2)});
  CHECK(world.store.usage().object_count == 3);
}

TEST_CASE("what can't be made again and what is pinned is never asked back") {
  World world(small_store());
  world.put(1, kMiB, false);
  for (uint64_t task = 2; task <= 4; ++task) world.put(task, kMiB, true);
  world.tell(ObjectPinned{object(2)});
  world.tell(ObjectPinned{object(3)});
  CHECK(world.lease(8, kMiB, std::chrono::seconds(1)));
  CHECK_FALSE(world.lease(9, kMiB, std::chrono::seconds(1)));
  CHECK(world.evictions == std::vector<ObjectId>{object(4)});
}

TEST_CASE("an object that was asked back stays until the raylet frees it") {
  World world(small_store());
  world.raylet_agrees = false;
  for (uint64_t task = 1; task <= 4; ++task) world.put(task, kMiB, true);
  CHECK_FALSE(world.lease(9, kMiB, std::chrono::seconds(1)));
  REQUIRE(world.evictions == std::vector<ObjectId>{object(1)});
  CHECK(world.store.objects().find(object(1)) != nullptr);

  SECTION("freed: its bytes go to whoever waits") {
    world.tell(ObjectFreed{object(1)});
    CHECK(world.leased(9));
  }
  SECTION("pinned instead: it stays, and another is asked for") {
    world.tell(ObjectPinned{object(1)});
    CHECK(world.store.objects().find(object(1)) != nullptr);
    CHECK(world.evictions.size() >= 2);
    CHECK(world.evictions[1] == object(2));
  }
}

TEST_CASE("room in pieces is made whole by asking for more") {
  World world(small_store());
  for (uint64_t task = 1; task <= 64; ++task) world.put(task, 64 << 10, task % 2 == 0);
  for (uint64_t task = 1; task <= 63; task += 2) {
    if (task < 32) world.tell(ObjectFreed{object(task)});
  }
  CHECK(world.lease(99, 128 << 10, std::chrono::seconds(1)));
}

TEST_CASE("the bytes of a pinned object stay until it is unpinned") {
  World world(small_store());
  world.put(1, kMiB, true);
  world.tell(ObjectPinned{object(1)});
  world.tell(ObjectFreed{object(1)});
  CHECK(world.store.usage().sealed_bytes == kMiB);
  world.tell(ObjectUnpinned{object(1)});
  CHECK(world.store.usage().sealed_bytes == 0);
  CHECK(world.complaints.empty());
}

TEST_CASE("a session that ends gives back what it did not seal, and waits for nothing") {
  World world(small_store());
  REQUIRE(world.lease(1, 1024));
  REQUIRE(world.lease(2, 1024, Duration::zero(), SessionId{8}));
  world.tell(ObjectSealed{object(1), SlabId{1}, 0, 512, false});
  world.lease(3, 4 * kMiB, std::chrono::seconds(10));
  world.tell(SessionEnded{kSession});
  CHECK(world.store.usage().waiting_count == 0);
  CHECK(world.store.usage().slab_bytes == 1024);
  CHECK(world.store.usage().sealed_bytes == 512);
}

TEST_CASE("senseless commands are complained about and change nothing") {
  World world(small_store());
  world.put(1, 1024, false);
  REQUIRE(world.lease(2, 1024));
  Usage before = world.store.usage();
  world.tell(Started{1, 0});
  world.tell(SegmentAdopted{SegmentId{5}, 4096});
  world.tell(AdoptionDone{});
  world.tell(ObjectSealed{object(1), SlabId{2}, 0, 64, false});     // sealed already
  world.tell(ObjectSealed{object(2), SlabId{77}, 0, 64, false});    // no such slab
  world.tell(ObjectSealed{object(2), SlabId{2}, 1024, 64, false});  // behind its end
  world.tell(ObjectSealed{object(2), SlabId{2}, 0, 1025, false});
  world.tell(ObjectSealed{object(2), SlabId{2}, 0, ~0ull, false});
  world.tell(ObjectSealed{object(2), SlabId{2}, ~63ull, 64, false});
  world.tell(ObjectSealed{object(2), SlabId{2}, 7, 64, false});
  world.tell(ObjectSealed{object(2), SlabId{2}, 0, 0, false});
  world.tell(ObjectSealed{ObjectId{}, SlabId{2}, 0, 64, false});
  world.tell(ObjectPinned{object(9)});
  world.tell(ObjectUnpinned{object(9)});
  world.tell(ObjectUnpinned{object(1)});
  world.tell(ObjectFreed{object(9)});
  world.tell(SlabReturned{SlabId{99}});
  world.tell(SegmentMade{SegmentId{99}});
  CHECK(world.complaints.size() == 18);
  CHECK(world.store.usage() == before);
  world.lease(2, 64);
  CHECK(world.complaints.size() == 19);
  CHECK(world.refusals.size() == 1);
}

TEST_CASE("bytes are kept touched ahead of use") {
  StoreOptions options = small_store();
  options.warm_ahead_bytes = 512 << 10;
  options.warm_step_bytes = 128 << 10;
  World world(options);
  CHECK(world.segments_made.size() == 1);
  CHECK(world.warmed.size() == 4);
  CHECK(world.store.segments().warm_free_bytes() == 512 << 10);
  world.put(1, 900 << 10, true);
  CHECK(world.segments_made.size() == 2);
  CHECK(world.store.segments().warm_free_bytes() >= 512 << 10);
  CHECK(world.store.usage().segment_bytes <= 4 * kMiB);
}

TEST_CASE("touched bytes give way to a large object") {
  StoreOptions options = small_store();
  options.warm_ahead_bytes = 2 * kMiB;
  World world(options);
  CHECK(world.lease(1, 4 * kMiB));
  CHECK_FALSE(world.cooled.empty());
}

TEST_CASE("a machine that gives no memory is asked again, and named when the lease is refused") {
  World world(small_store());
  world.segment_failure = "too many open files";
  CHECK_FALSE(world.lease(1, 1000, std::chrono::seconds(5)));
  CHECK(world.segments_made.size() == 1);
  world.pass(std::chrono::milliseconds(1500));
  CHECK(world.segments_made.size() == 2);
  world.pass(std::chrono::seconds(4));
  REQUIRE(world.refusals.size() == 1);
  CHECK_THAT(world.refusals[0].failure.message, Catch::Contains("too many open files"));
  world.segment_failure.clear();
  world.pass(std::chrono::seconds(2));
  CHECK(world.lease(2, 1000));
}

TEST_CASE("nothing is leased before the adoption is done, and then what was adopted is where it was") {
  World world(small_store(), false);
  world.tell(Started{2, 1});
  CHECK_FALSE(world.lease(20, 64, std::chrono::seconds(1)));
  world.tell(SegmentAdopted{SegmentId{3}, kMiB});
  AdoptionDone done;
  done.objects.push_back({object(1), {SegmentId{3}, 64, 100}, true, true});
  done.slabs.push_back({SlabId{5}, kSession, {SegmentId{3}, 0, 4096}});
  done.slabs.push_back({SlabId{9}, kSession, {SegmentId{3}, 1024, 1024}});  // in what was freed of slab 5
  world.tell(done);
  CHECK(world.complaints.empty());
  CHECK(world.store.objects().find(object(1))->pinned);
  CHECK(world.store.slabs().find(SlabId{9})->unsealed == std::vector<Extent>{{SegmentId{3}, 1024, 1024}});
  CHECK(world.store.slabs().find(SlabId{5})->unsealed ==
        std::vector<Extent>{{SegmentId{3}, 0, 64}, {SegmentId{3}, 192, 832}, {SegmentId{3}, 2048, 2048}});
  REQUIRE(world.leased(20));
  CHECK(world.leased(20)->offset == 4096);
  world.tell(ObjectSealed{object(2), SlabId{5}, 192, 832, false});
  CHECK(world.complaints.empty());
}

TEST_CASE("what can't be adopted is complained about and left out") {
  World world(small_store(), false);
  world.tell(Started{2, 2});
  world.tell(SegmentAdopted{SegmentId{1}, kMiB});
  world.tell(SegmentAdopted{SegmentId{1}, kMiB});
  world.tell(SegmentAdopted{SegmentId{2}, kMiB});
  AdoptionDone done;
  done.objects.push_back({object(1), {SegmentId{1}, 0, 128}, true, false});
  done.objects.push_back({object(2), {SegmentId{1}, 64, 128}, true, false});
  done.objects.push_back({object(3), {SegmentId{9}, 0, 128}, true, false});
  done.objects.push_back({object(4), {SegmentId{1}, kMiB, 128}, true, false});
  done.objects.push_back({object(5), {SegmentId{1}, 128, ~0ull}, true, false});
  done.slabs.push_back({SlabId{1}, kSession, {SegmentId{1}, ~0ull - 63, 128}});
  world.tell(done);
  CHECK(world.complaints.size() == 7);
  CHECK(world.store.usage().object_count == 1);
}

// A raylet that mostly makes sense, a machine that is mostly quick, and a store that is killed now and then.
TEST_CASE("a random life: nothing is lost, nothing overlaps, and every lease is answered") {
  uint64_t granted_total = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    Rng rng(seed);
    StoreOptions options = small_store();
    options.warm_ahead_bytes = rng.below(3) * kMiB / 2;
    options.warm_step_bytes = 64 << 10;
    Store store(options);
    Instant now;
    std::map<ObjectId, AdoptionDone::Object> objects;  // as the raylet knows them
    std::map<SlabId, AdoptionDone::Slab> slabs;
    std::map<SegmentId, uint64_t> segments;
    std::map<Ticket, LeaseAsked> unanswered;
    std::vector<Event> events{Started{1, 0}};
    uint64_t last_slab = 0;
    uint64_t last_object = 0;
    uint64_t granted = 0;

    auto some_object = [&]() -> ObjectId {
      if (objects.empty() || rng.chance(0.02)) return object(rng.below(1000));
      auto found = objects.lower_bound(object(rng.below(last_object + 1)));
      return found == objects.end() ? objects.begin()->first : found->first;
    };
    auto command = [&]() -> Event {
      switch (rng.below(8)) {
        case 0:
        case 1: {
          uint64_t size = rng.chance(0.1) ? rng.below(5 * kMiB) : rng.below(200'000);
          LeaseAsked asked{Ticket{++last_slab}, SlabId{last_slab}, SessionId{1 + rng.below(3)}, size,
                           std::chrono::milliseconds(rng.below(200))};
          unanswered.emplace(asked.ticket, asked);
          return asked;
        }
        case 2:
        case 3: {
          if (slabs.empty()) return Tick{};
          auto slab = std::next(slabs.begin(), static_cast<long>(rng.below(slabs.size())));
          uint64_t offset = rng.chance(0.7) ? 0 : 64 * rng.below(slab->second.at.size_bytes / 64 + 2);
          uint64_t size = rng.chance(0.5) ? slab->second.at.size_bytes : rng.below(100'000);
          return ObjectSealed{object(++last_object), slab->first, offset, size, rng.chance(0.7)};
        }
        case 4: {
          ObjectId id = some_object();
          if (objects.contains(id) && objects[id].pinned) return ObjectUnpinned{id};
          return ObjectPinned{id};
        }
        case 5: return ObjectFreed{some_object()};
        case 6: return SlabReturned{SlabId{1 + rng.below(last_slab + 1)}};
        default:
          if (rng.chance(0.1)) return SessionEnded{SessionId{1 + rng.below(3)}};
          return ObjectTouched{some_object()};
      }
    };
    // What the raylet's own table does with a command, given what the store made of it.
    auto follow = [&](const Event& event) {
      if (auto* sealed = std::get_if<ObjectSealed>(&event)) {
        if (const Object* at = store.objects().find(sealed->id)) {
          objects[sealed->id] = {
              sealed->id, {at->at.segment, at->at.offset, at->size_bytes}, at->remakable, false};
        }
      }
      if (auto* pinned = std::get_if<ObjectPinned>(&event)) {
        if (objects.contains(pinned->id)) objects[pinned->id].pinned = true;
      }
      if (auto* unpinned = std::get_if<ObjectUnpinned>(&event)) {
        if (store.objects().find(unpinned->id) == nullptr) objects.erase(unpinned->id);
        if (objects.contains(unpinned->id)) objects[unpinned->id].pinned = false;
      }
      if (auto* freed = std::get_if<ObjectFreed>(&event)) {
        if (store.objects().find(freed->id) == nullptr) objects.erase(freed->id);
      }
    };

    for (int round = 0; round < 1'500; ++round) {
      if (rng.chance(0.3)) now = now + std::chrono::milliseconds(rng.below(30));
      std::vector<Effect> effects;
      for (const Event& event : events) {
        store.step(now, {&event, 1}, effects);
        follow(event);
      }
      store.validate();
      events.clear();
      std::erase_if(slabs, [&](const auto& entry) {  // those that ended by a return, a session's end or by seals
        return store.slabs().find(entry.first) == nullptr &&
               !std::any_of(effects.begin(), effects.end(), [&](auto& e) {
                 auto* leased = std::get_if<Leased>(&e);
                 return leased && leased->slab == entry.first;
               });
      });
      for (const Effect& effect : effects) {
        if (auto* make = std::get_if<MakeSegment>(&effect)) {
          if (rng.chance(0.1)) {
            events.push_back(SegmentFailed{make->segment, "luck"});
          } else {
            segments[make->segment] = make->size_bytes;
            events.push_back(SegmentMade{make->segment});
          }
        }
        if (auto* warm = std::get_if<WarmSegment>(&effect)) events.push_back(SegmentWarmed{warm->segment});
        if (auto* evict = std::get_if<Evict>(&effect)) {
          for (const ObjectId& id : evict->ids) {
            if (!objects.contains(id)) continue;  // freed by a command of the same round
            REQUIRE(objects[id].remakable);
            if (rng.chance(0.8)) {
              events.push_back(ObjectFreed{id});
            } else {
              events.push_back(ObjectPinned{id});
            }
          }
        }
        if (auto* leased = std::get_if<Leased>(&effect)) {
          REQUIRE(unanswered.contains(leased->ticket));
          LeaseAsked asked = unanswered[leased->ticket];
          REQUIRE(leased->at.size_bytes >= asked.size_bytes);
          REQUIRE(segments.contains(leased->at.segment));
          slabs[leased->slab] = {leased->slab, asked.session, leased->at};
          unanswered.erase(leased->ticket);
          ++granted;
        }
        if (auto* refused = std::get_if<Refused>(&effect)) REQUIRE(unanswered.erase(refused->ticket) == 1);
      }
      for (uint64_t more = rng.below(4); more > 0; --more) events.push_back(command());

      if (rng.chance(0.002)) {
        // Killed and started again with what the raylet knows; leases that waited are asked for again.
        Usage before = store.usage();
        std::erase_if(events, [](const Event& event) {
          return std::holds_alternative<SegmentMade>(event) || std::holds_alternative<SegmentFailed>(event);
        });
        Store again(options);
        std::vector<Event> adoption{Started{2, segments.size()}};
        for (auto [id, size] : segments) adoption.push_back(SegmentAdopted{id, size});
        AdoptionDone done;
        for (const auto& [id, known] : objects) done.objects.push_back(known);
        for (const auto& [id, slab] : slabs) done.slabs.push_back(slab);
        if (segments.empty()) {
          adoption = {Started{2, 0}};
        } else {
          adoption.push_back(done);
        }
        std::vector<Effect> ignored;
        again.step(now, adoption, ignored);
        again.validate();
        REQUIRE(again.complaints_total() == 0);
        REQUIRE(again.usage().sealed_bytes <= before.sealed_bytes);
        REQUIRE(again.usage().object_count == objects.size());
        for (const auto& [id, slab] : store.slabs().slabs()) {
          for (const Extent& extent : slab.unsealed) {
            bool kept =
                std::any_of(again.slabs().find(id)->unsealed.begin(), again.slabs().find(id)->unsealed.end(),
                            [&](const Extent& e) { return e.offset <= extent.offset && extent.end() <= e.end(); });
            REQUIRE(kept);
          }
        }
        break;  // this life has ended; what matters was compared
      }
    }
    granted_total += granted;
    now = now + std::chrono::seconds(1);
    // Everything that the machine and the raylet owe is said; then nobody waits.
    if (!events.empty()) {
      std::vector<Effect> effects;
      for (int i = 0; i < 20; ++i) {
        effects.clear();
        store.step(now, events, effects);
        now = now + std::chrono::seconds(1);
        events.clear();
        for (const Effect& effect : effects) {
          if (auto* make = std::get_if<MakeSegment>(&effect)) events.push_back(SegmentMade{make->segment});
        }
        events.push_back(Tick{});
      }
      CHECK(store.usage().waiting_count == 0);
    }
  }
  CHECK(granted_total > 1'000);
}

}  // namespace raylet::plasma
