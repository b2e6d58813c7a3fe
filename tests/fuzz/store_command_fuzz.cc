// A raylet gone mad: any sequence of commands against the store's core, whose tables are checked after each.
// The input is a program of a few bytes a step, so that most of it makes sense; step 15 parses protobuf.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "daemons/store/store_codec.h"
#include "plasma/core/store.h"

namespace {

using namespace raylet;

class Input {
 public:
  Input(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  bool done() const { return at_ == end_; }
  uint8_t byte() { return done() ? 0 : *at_++; }
  uint64_t number() {  // small ones are likely, any is possible
    uint8_t first = byte();
    if (first < 240) return first;
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value = value << 8 | byte();
    return value >> (first % 16 * 4);
  }
  ObjectId object() { return {{0, 1}, byte() % 32u, 0}; }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

plasma::Event next_event(Input& input, std::vector<plasma::Event>& more) {
  switch (input.byte() % 16) {
    case 0:
      return plasma::Started{input.number(), input.byte() % 4u};
    case 1:
      return plasma::SegmentAdopted{SegmentId{input.number()}, input.number() * 4096};
    case 2: {
      plasma::AdoptionDone done;
      for (int i = input.byte() % 4; i > 0; --i) {
        done.objects.push_back({input.object(),
                                {SegmentId{input.number()}, input.number() * 64, input.number()},
                                input.byte() % 2 == 0,
                                input.byte() % 2 == 0});
      }
      for (int i = input.byte() % 4; i > 0; --i) {
        done.slabs.push_back({SlabId{input.number()},
                              SessionId{input.byte() % 3u},
                              {SegmentId{input.number()}, input.number() * 64, input.number() * 64}});
      }
      return done;
    }
    case 3:
    case 4:
    case 5:
      return plasma::LeaseAsked{Ticket{input.number()}, SlabId{input.number()}, SessionId{input.byte() % 3u},
                                input.number() << input.byte() % 16, std::chrono::milliseconds(input.byte())};
    case 6:
    case 7:
      return plasma::ObjectSealed{input.object(), SlabId{input.number()}, input.number() * 64,
                                  input.number() << input.byte() % 16, input.byte() % 2 == 0};
    case 8:
      return plasma::ObjectPinned{input.object()};
    case 9:
      return plasma::ObjectUnpinned{input.object()};
    case 10:
      return plasma::ObjectFreed{input.object()};
    case 11:
      return plasma::ObjectTouched{input.object()};
    case 12:
      return plasma::SlabReturned{SlabId{input.number()}};
    case 13:
      return plasma::SessionEnded{SessionId{input.byte() % 3u}};
    case 14:
      return input.byte() % 2 == 0 ? plasma::Event(plasma::SegmentMade{SegmentId{input.number()}})
                                   : plasma::Event(plasma::SegmentFailed{SegmentId{input.number()}, "fuzz"});
    default: {
      std::string wire;
      for (int i = input.byte(); i > 0 && !input.done(); --i) wire.push_back(static_cast<char>(input.byte()));
      v1::StoreCommand command;
      if (command.ParseFromString(wire)) (void)decode_store_command(command, &more).ok();
      return plasma::Tick{};
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  google::protobuf::SetLogHandler(nullptr);  // it has something to say about most inputs
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  plasma::StoreOptions options;
  options.capacity_bytes = 1 << 20;
  options.segment_bytes = 128 << 10;
  options.warm_ahead_bytes = 64 << 10;
  options.warm_step_bytes = 16 << 10;
  plasma::Store store(options);
  Instant now;
  std::vector<plasma::Effect> effects;
  if (input.byte() % 4 != 0) {
    plasma::Event started = plasma::Started{1, 0};
    store.step(now, {&started, 1}, effects);
  }
  while (!input.done()) {
    std::vector<plasma::Event> events;
    events.push_back(next_event(input, events));
    now = now + std::chrono::milliseconds(input.byte() % 16);
    while (!events.empty()) {
      effects.clear();
      store.step(now, events, effects);
      store.validate();
      events.clear();
      for (const plasma::Effect& effect : effects) {
        if (auto* make = std::get_if<plasma::MakeSegment>(&effect)) {
          events.push_back(plasma::SegmentMade{make->segment});
        }
        if (auto* warm = std::get_if<plasma::WarmSegment>(&effect)) {
          events.push_back(plasma::SegmentWarmed{warm->segment});
        }
        if (auto* wake = std::get_if<plasma::WakeAt>(&effect)) MUST(wake->at > now);
      }
    }
  }
  return 0;
}
