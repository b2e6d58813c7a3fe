#include "daemons/store/store_codec.h"

#include <catch2/catch.hpp>

#include "plasma/core/store.h"
#include "protocol/codec/id_codec.h"
#include "protocol/codec/random_words.h"

namespace raylet {
namespace {

ObjectId object(uint64_t task) { return {{1, 1}, task, 0}; }

}  // namespace

TEST_CASE("a batch is applied in the order of its fields") {
  v1::StoreCommand command;
  v1::StoreBatch* batch = command.mutable_batch();
  batch->set_freed(object(1).binary());
  batch->set_unpinned(object(1).binary());
  batch->set_pinned(object(2).binary() + object(3).binary());
  v1::SealObject* seal = batch->add_seals();
  seal->set_id(object(2).binary());
  seal->set_slab(4);
  batch->add_returned_slabs(4);
  batch->add_ended_sessions(5);
  batch->set_touched(object(3).binary());
  std::vector<plasma::Event> events;
  REQUIRE(decode_store_command(command, &events).ok());
  REQUIRE(events.size() == 8);
  CHECK(std::holds_alternative<plasma::ObjectSealed>(events[0]));
  CHECK(std::get<plasma::ObjectPinned>(events[2]).id == object(3));
  CHECK(std::holds_alternative<plasma::ObjectUnpinned>(events[3]));
  CHECK(std::holds_alternative<plasma::ObjectFreed>(events[4]));
  CHECK(std::get<plasma::SlabReturned>(events[5]).slab == SlabId{4});
  CHECK(std::get<plasma::SessionEnded>(events[6]).session == SessionId{5});
  CHECK(std::holds_alternative<plasma::ObjectTouched>(events[7]));
}

TEST_CASE("a frame that is no command is refused whole") {
  std::vector<plasma::Event> events;
  CHECK(!decode_store_command(v1::StoreCommand{}, &events).ok());
  v1::StoreCommand command;
  command.mutable_hello()->set_protocol_version(9);
  CHECK_THAT(decode_store_command(command, &events).error().message, Catch::Contains("version 1"));
  command.mutable_batch()->set_pinned(object(1).binary());
  command.mutable_batch()->set_freed("short");
  CHECK_THAT(decode_store_command(command, &events).error().message, Catch::Contains("batch.freed"));
  CHECK(events.empty());
}

TEST_CASE("foreign bytes never harm a store") {
  Rng rng(1);
  plasma::StoreOptions options;
  options.capacity_bytes = 4 << 20;
  options.segment_bytes = 1 << 20;
  plasma::Store store(options);
  std::vector<plasma::Event> events{plasma::Started{1, 0}};
  std::vector<plasma::Effect> effects;
  for (int round = 0; round < 3'000; ++round) {
    v1::StoreCommand command;
    if (rng.chance(0.4)) {
      v1::LeaseSlab* lease = command.mutable_lease_slab();
      lease->set_slab(rng.below(300));
      lease->set_size_bytes(rng.next() >> rng.below(64));
      lease->set_wait_ms_max(rng.next());
    } else {
      v1::SealObject* seal = command.mutable_batch()->add_seals();
      seal->set_id(object(rng.below(300)).binary());
      seal->set_slab(rng.below(300));
      seal->set_offset(rng.below(1000) * 64);
      seal->set_size_bytes(rng.next() >> rng.below(64));
      command.mutable_batch()->set_pinned(object(rng.below(300)).binary());
      command.mutable_batch()->set_freed(object(rng.below(300)).binary());
    }
    std::string wire = command.SerializeAsString();
    for (uint64_t hits = rng.below(3); hits > 0; --hits)
      wire[rng.below(wire.size())] = static_cast<char>(rng.next());
    v1::StoreCommand damaged;
    if (damaged.ParseFromString(wire)) (void)decode_store_command(damaged, &events).ok();
    effects.clear();
    store.step(Instant{round}, events, effects);
    events.clear();
    for (const plasma::Effect& effect : effects) {
      if (auto* make = std::get_if<plasma::MakeSegment>(&effect))
        events.push_back(plasma::SegmentMade{make->segment});
    }
    store.validate();
  }
  CHECK(store.usage().sealed_bytes > 0);
}

}  // namespace raylet
