#include "daemons/store/store_daemon.h"

#include <utility>

#include "daemons/kit/log.h"
#include "daemons/store/store_codec.h"

namespace raylet {

StoreDaemon::StoreDaemon(Loop& loop, FileDescriptor channel, plasma::StoreOptions options,
                         std::function<void(std::string reason)> on_closed)
    : loop_(loop),
      on_closed_(std::move(on_closed)),
      store_(options),
      alarm_(loop, [this] { add(plasma::Tick{}); }) {
  loop_.set_turn_end([this] { turn(); });
  link_ =
      std::make_unique<PacketLink>(loop_, std::move(channel),
                                   PacketLink::Handlers{[this](Packet packet) { receive(std::move(packet)); },
                                                        [this](std::string reason) { fail(std::move(reason)); }});
}

void StoreDaemon::fail(std::string reason) {
  if (auto on_closed = std::exchange(on_closed_, nullptr)) on_closed(std::move(reason));
}

void StoreDaemon::receive(Packet packet) {
  ++commands_total_;
  v1::StoreCommand command;
  if (!command.ParseFromString(packet.frame)) return fail("the raylet sent something that is no command");
  std::vector<plasma::Event> events;
  if (Status decoded = decode_store_command(command, &events); !decoded.ok()) return fail(decoded.error().message);
  if (command.has_adopt_segment()) {
    const v1::AdoptSegment& adopted = command.adopt_segment();
    Result<plasma::SegmentMemory> memory =
        plasma::SegmentMemory::adopt(std::move(packet.descriptor), adopted.size_bytes());
    // Without its bytes nothing in it is what the raylet thinks; a store that is not handed it starts empty.
    if (!memory.ok()) {
      return fail("segment " + std::to_string(adopted.segment()) + " can't be adopted: " + memory.error().message);
    }
    segments_[SegmentId{adopted.segment()}] = std::make_shared<plasma::SegmentMemory>(*std::move(memory));
  }
  for (plasma::Event& event : events) add(std::move(event));
}

void StoreDaemon::add(plasma::Event event) {
  events_.push_back(std::move(event));
  loop_.request_turn_end();
}

void StoreDaemon::turn() {
  // What effects bring about at once (a segment that was made) is told at once.
  while (!events_.empty()) {
    std::vector<plasma::Event> events = std::exchange(events_, {});
    effects_.clear();
    store_.step(loop_.now(), events, effects_);
    for (const plasma::Effect& effect : effects_) {
      std::visit([this](const auto& wish) { perform(wish); }, effect);
    }
  }
}

void StoreDaemon::perform(const plasma::Ready& effect) {
  log::info("ready incarnation={} capacity={} segments={} objects={}", effect.incarnation, effect.capacity_bytes,
            segments_.size(), store_.usage().object_count);
  send_effect(effect);
}

void StoreDaemon::perform(const plasma::Leased& effect) {
  ++leases_total_;
  send_effect(effect);
}

void StoreDaemon::perform(const plasma::Refused& effect) {
  ++refusals_total_;
  log::warn("lease refused ticket={} {}", effect.ticket.number, effect.failure.message);
  send_effect(effect);
}

void StoreDaemon::perform(const plasma::Complain& effect) {
  log::warn("complaint: {}", effect.text);
  send_effect(effect);
}

void StoreDaemon::perform(const plasma::MakeSegment& effect) {
  Result<plasma::SegmentMemory> memory = plasma::SegmentMemory::create(effect.size_bytes);
  FileDescriptor descriptor = memory.ok() ? memory->duplicate() : FileDescriptor();
  if (!descriptor.valid()) {
    return add(
        plasma::SegmentFailed{effect.segment, memory.ok() ? "too many open files" : memory.error().message});
  }
  segments_[effect.segment] = std::make_shared<plasma::SegmentMemory>(*std::move(memory));
  v1::StoreEvent event;
  event.mutable_new_segment()->set_segment(effect.segment.number);
  event.mutable_new_segment()->set_size_bytes(effect.size_bytes);
  send(event, std::move(descriptor));
  log::info("segment made segment={} size={}", effect.segment.number, effect.size_bytes);
  add(plasma::SegmentMade{effect.segment});
}

void StoreDaemon::perform(const plasma::WarmSegment& effect) {
  auto found = segments_.find(effect.segment);
  if (found == segments_.end()) return add(plasma::SegmentWarmed{effect.segment});
  warmer_.submit([this, memory = found->second, effect] {
    Status warmed = memory->warm(effect.from, effect.until);
    if (!warmed.ok())
      log::warn("pages not touched ahead segment={} {}", effect.segment.number, warmed.error().message);
    loop_.post([this, segment = effect.segment] { add(plasma::SegmentWarmed{segment}); });
  });
}

void StoreDaemon::perform(const plasma::CoolSegment& effect) {
  auto found = segments_.find(effect.segment);
  if (found == segments_.end()) return;
  if (Status cooled = found->second->cool(effect.from); !cooled.ok()) {
    log::warn("pages not given back segment={} {}", effect.segment.number, cooled.error().message);
  }
}

template <typename Effect>
void StoreDaemon::send_effect(const Effect& effect) {
  send(encode_store_event(effect));
}

void StoreDaemon::send(const v1::StoreEvent& event, FileDescriptor descriptor) {
  if (Status sent = link_->send(event.SerializeAsString(), std::move(descriptor)); !sent.ok()) {
    return fail("an answer can't be sent: " + sent.error().message);
  }
  if (link_->queued_bytes() > kQueuedBytesMax) fail("the raylet does not read what it is told");
}

uint64_t StoreDaemon::resident_bytes() const {
  uint64_t sum = 0;
  for (const auto& [id, memory] : segments_) sum += memory->resident_bytes();
  return sum;
}

}  // namespace raylet
