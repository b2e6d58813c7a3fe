#include "tests/sim/store_host.h"

#include "protocol/words/overloaded.h"

namespace raylet::sim {

void StoreHost::start_fresh() {
  ++memory_;
  stored_.clear();
  segment_sizes_.clear();
  leases_.clear();
  told_ready_ = true;  // the raylet never counted on another one
  start(false);
}

void StoreHost::end() {
  store_.reset();
  ++life_;
}

void StoreHost::kill(bool keep_segments) {
  if (!is_up()) return;
  world_.note({Who::kStore}, "is killed", life_, keep_segments);
  store_.reset();
  leases_.clear();
  // What it still said is heard before its death.
  tell(StoreDied{});
  const uint64_t dead = ++life_;
  told_ready_ = false;
  kept_ = keep_segments;
  if (!keep_segments) ++world_.oracle.store_losses;
  world_.queue.at(std::max(told_at_, world_.now()) + world_.micros(1'000, 800'000), [this, dead, keep_segments] {
    if (dead != life_ || !world_.node->is_up()) return;
    if (!keep_segments) {
      ++memory_;
      stored_.clear();
      segment_sizes_.clear();
    }
    start(keep_segments);
  });
}

void StoreHost::start(bool adopt) {
  ++life_;
  world_.note({Who::kStore}, "starts", life_, adopt);
  plasma::StoreOptions options;
  options.capacity_bytes = world_.scenario.store_bytes;
  options.segment_bytes = std::min<uint64_t>(64 << 20, options.capacity_bytes);
  store_ = std::make_unique<plasma::Store>(options);
  inbox_.clear();
  step_due_ = false;
  heard_at_ = world_.now();
  send(plasma::Started{life_, adopt ? segment_sizes_.size() : 0});
  if (!adopt || segment_sizes_.empty()) return;
  for (auto [segment, size_bytes] : segment_sizes_) send(plasma::SegmentAdopted{{segment}, size_bytes});
  plasma::AdoptionDone done;
  for (const auto& [id, object] : stored_.objects()) {
    done.objects.push_back({id, inside(object.at), object.remakable, object.pinned});
  }
  for (const auto& [id, slab] : stored_.slabs()) done.slabs.push_back({id, slab.session, inside(slab.at)});
  // Hash tables have no order that a replay could rely on.
  auto by_object = [](const auto& a, const auto& b) { return a.id < b.id; };
  auto by_slab = [](const auto& a, const auto& b) { return a.slab < b.slab; };
  std::sort(done.objects.begin(), done.objects.end(), by_object);
  std::sort(done.slabs.begin(), done.slabs.end(), by_slab);
  send(std::move(done));
}

plasma::Extent StoreHost::inside(const StoredAt& at) const {
  return {{at.segment.number - memory_ * kSegmentsPerMemory}, at.offset, at.size_bytes};
}

void StoreHost::send(plasma::Event event) {
  if (!is_up()) return;
  heard_at_ = std::max(heard_at_, world_.now() + world_.micros(5, 300));
  world_.queue.at(heard_at_, [this, life = life_, shared = std::make_shared<plasma::Event>(std::move(event))] {
    if (life != life_ || !is_up()) return;
    inbox_.push_back(std::move(*shared));
    if (step_due_) return;
    step_due_ = true;
    world_.queue.after(world_.micros(0, 50), [this, life] {
      if (life == life_ && is_up()) step();
    });
  });
}

void StoreHost::step() {
  step_due_ = false;
  std::vector<plasma::Event> events = std::move(inbox_);
  inbox_.clear();
  std::vector<plasma::Effect> effects;
  store_->step(world_.now(), events, effects);
  world_.note({Who::kStore}, "steps", events.size(), effects.size());
  for (const plasma::Effect& effect : effects) perform(effect);
  store_->validate();
  const plasma::Usage usage = store_->usage();
  world_.require(usage.sealed_bytes + usage.slab_bytes <= usage.capacity_bytes, "S1",
                 "more lies in the store than it has room for", {Who::kStore});
}

void StoreHost::perform(const plasma::Effect& effect) {
  std::visit(
      Overloaded{
          [&](const plasma::Ready& e) {
            if (!std::exchange(told_ready_, true)) tell(StoreReturned{kept_});
            tell(StoreUsageChanged{e.capacity_bytes, 0});
          },
          [&](const plasma::Leased& e) {
            auto lease = leases_.find(e.ticket);
            world_.require(lease != leases_.end(), "S2", "a lease that nobody asked for", {Who::kStore});
            StoredAt at{outside(e.at.segment), e.at.offset, e.at.size_bytes};
            stored_.add_slab(e.slab, lease->second, at);
            leases_.erase(lease);
            tell(SlabLeased{e.ticket, e.slab, at.segment, at.offset, at.size_bytes});
          },
          [&](const plasma::Refused& e) {
            leases_.erase(e.ticket);
            tell(SlabRefused{e.ticket, e.failure});
          },
          [&](const plasma::Evict& e) {
            world_.note({Who::kStore}, "asks back", e.ids.size());
            tell(ObjectsEvicted{e.ids});
          },
          [&](const plasma::Usage& e) {
            tell(StoreUsageChanged{e.capacity_bytes, e.sealed_bytes + e.slab_bytes});
          },
          [&](const plasma::Complain& e) {
            throw Violation("S3", "the store complains of its raylet: " + e.text, {Who::kStore});
          },
          [&](const plasma::MakeSegment& e) {
            segment_sizes_[e.segment.number] = e.size_bytes;
            send(plasma::SegmentMade{e.segment});
          },
          [&](const plasma::WarmSegment& e) { send(plasma::SegmentWarmed{e.segment}); },
          [](const plasma::CoolSegment&) {},
          [&](const plasma::WakeAt& e) {
            world_.queue.at(e.at, [this, life = life_, wake = ++wake_] {
              if (life != life_ || wake != wake_ || !is_up()) return;
              inbox_.push_back(plasma::Tick{});
              if (!step_due_) step();
            });
          },
      },
      effect);
}

void StoreHost::tell(Event event) {
  told_at_ = std::max(told_at_, world_.now() + world_.micros(5, 300));
  world_.queue.at(told_at_,
                  [this, life = world_.node->life(), shared = std::make_shared<Event>(std::move(event))] {
                    if (world_.node->is_up() && world_.node->life() == life) world_.node->post(std::move(*shared));
                  });
}

void StoreHost::command(const StoreLeaseSlab& effect) {
  if (!is_up()) return;
  leases_[effect.ticket] = effect.session;
  send(plasma::LeaseAsked{effect.ticket, effect.slab, effect.session, effect.size_bytes, effect.wait_max});
}

void StoreHost::command(const StoreSeal& effect) {
  world_.require(stored_.seal(effect), "N2", "object " + effect.id.hex() + " is sealed where it can't be",
                 {Who::kNode});
  send(plasma::ObjectSealed{effect.id, effect.slab, effect.offset, effect.size_bytes, effect.remakable});
}

void StoreHost::command(const StorePin& effect) {
  stored_.pin(effect.id);
  send(plasma::ObjectPinned{effect.id});
}

void StoreHost::command(const StoreUnpin& effect) {
  stored_.unpin(effect.id);
  send(plasma::ObjectUnpinned{effect.id});
}

void StoreHost::command(const StoreFree& effect) {
  stored_.free(effect.id);
  send(plasma::ObjectFreed{effect.id});
}

void StoreHost::command(const StoreReturnSlab& effect) {
  // One that was sealed to its last byte, maybe while no store ran, has ended by itself.
  if (stored_.return_slab(effect.slab)) send(plasma::SlabReturned{effect.slab});
}

void StoreHost::command(const StoreEndSession& effect) {
  stored_.end_session(effect.session);
  send(plasma::SessionEnded{effect.session});
}

}  // namespace raylet::sim
