// StoreDaemon: a plasma-store's core with what it needs of the machine: the raylet's channel, memory, a warmer.
//
// Lives on the loop. Commands are gathered during a turn of the loop and told to the core at its end. When the
// channel closes, the raylet is gone and the store has no reason to be.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemons/kit/loop.h"
#include "daemons/kit/packet_link.h"
#include "daemons/store/warmer.h"
#include "plasma/core/store.h"
#include "plasma/segment/segment_memory.h"
#include "protocol/wire/store.pb.h"

namespace raylet {

class StoreDaemon {
 public:
  // More than this unread by the raylet, and the store gives up on it.
  static constexpr size_t kQueuedBytesMax = 64 << 20;

  // `on_closed` is called once, when the raylet is gone or can't be understood, with the reason.
  StoreDaemon(Loop& loop, FileDescriptor channel, plasma::StoreOptions options,
              std::function<void(std::string reason)> on_closed);

  const plasma::Store& store() const { return store_; }
  uint64_t resident_bytes() const;
  uint64_t commands_total() const { return commands_total_; }
  uint64_t leases_total() const { return leases_total_; }
  uint64_t refusals_total() const { return refusals_total_; }
  size_t queued_packets() const { return link_ ? link_->queued_packets() : 0; }
  size_t segment_count() const { return segments_.size(); }

 private:
  void receive(Packet packet);
  void fail(std::string reason);
  void add(plasma::Event event);
  void turn();

  void perform(const plasma::Ready& effect);
  void perform(const plasma::Leased& effect);
  void perform(const plasma::Refused& effect);
  void perform(const plasma::Evict& effect) { send_effect(effect); }
  void perform(const plasma::Usage& effect) { send_effect(effect); }
  void perform(const plasma::Complain& effect);
  void perform(const plasma::MakeSegment& effect);
  void perform(const plasma::WarmSegment& effect);
  void perform(const plasma::CoolSegment& effect);
  void perform(const plasma::WakeAt& effect) { alarm_.set(effect.at); }

  template <typename Effect>
  void send_effect(const Effect& effect);
  void send(const v1::StoreEvent& event, FileDescriptor descriptor = {});

  Loop& loop_;
  std::function<void(std::string)> on_closed_;
  plasma::Store store_;
  Alarm alarm_;
  std::unique_ptr<PacketLink> link_;
  std::map<SegmentId, std::shared_ptr<plasma::SegmentMemory>> segments_;
  std::vector<plasma::Event> events_;
  std::vector<plasma::Effect> effects_;
  uint64_t commands_total_ = 0;
  uint64_t leases_total_ = 0;
  uint64_t refusals_total_ = 0;
  Warmer warmer_;  // the last: its thread posts to the loop
};

}  // namespace raylet
