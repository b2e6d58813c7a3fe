#include "daemons/store/store_codec.h"

#include <algorithm>
#include <string>

#include "protocol/codec/id_codec.h"
#include "protocol/codec/session_codec.h"

namespace raylet {
namespace {

constexpr uint64_t kWaitMsMax = 24ull * 3600 * 1000;

plasma::Extent decode_extent(const v1::Location& message) {
  return {SegmentId{message.segment()}, message.offset(), message.size_bytes()};
}

Status decode_adoption(const v1::AdoptDone& message, std::vector<plasma::Event>* events) {
  plasma::AdoptionDone done;
  done.objects.reserve(message.objects_size());
  for (const v1::SealedObject& object : message.objects()) {
    Result<ObjectId> id = decode_object_id(object.id(), "adopt_done.objects.id");
    if (!id.ok()) return id.error();
    done.objects.push_back({*id, decode_extent(object.location()), object.remakable(), object.pinned()});
  }
  done.slabs.reserve(message.slabs_size());
  for (const v1::SlabLease& slab : message.slabs()) {
    done.slabs.push_back({SlabId{slab.slab()}, SessionId{slab.session()}, decode_extent(slab.location())});
  }
  events->push_back(std::move(done));
  return Done{};
}

template <typename Event>
Status append_ids(const std::string& bytes, const char* what, std::vector<plasma::Event>* events) {
  Result<std::vector<ObjectId>> ids = decode_object_ids(bytes, what);
  if (!ids.ok()) return ids.error();
  for (const ObjectId& id : *ids) events->push_back(Event{id});
  return Done{};
}

Status decode_batch(const v1::StoreBatch& message, std::vector<plasma::Event>* events) {
  for (const v1::SealObject& seal : message.seals()) {
    Result<ObjectId> id = decode_object_id(seal.id(), "batch.seals.id");
    if (!id.ok()) return id.error();
    events->push_back(
        plasma::ObjectSealed{*id, SlabId{seal.slab()}, seal.offset(), seal.size_bytes(), seal.remakable()});
  }
  RETURN_IF_ERROR(append_ids<plasma::ObjectPinned>(message.pinned(), "batch.pinned", events));
  RETURN_IF_ERROR(append_ids<plasma::ObjectUnpinned>(message.unpinned(), "batch.unpinned", events));
  RETURN_IF_ERROR(append_ids<plasma::ObjectFreed>(message.freed(), "batch.freed", events));
  for (uint64_t slab : message.returned_slabs()) events->push_back(plasma::SlabReturned{SlabId{slab}});
  for (uint64_t session : message.ended_sessions()) events->push_back(plasma::SessionEnded{SessionId{session}});
  return append_ids<plasma::ObjectTouched>(message.touched(), "batch.touched", events);
}

Status decode(const v1::StoreCommand& command, std::vector<plasma::Event>* events) {
  switch (command.body_case()) {
    case v1::StoreCommand::kHello:
      if (command.hello().protocol_version() != kStoreProtocolVersion) {
        return invalid("expected protocol version " + std::to_string(kStoreProtocolVersion) + ", got " +
                       std::to_string(command.hello().protocol_version()) +
                       "; raylet and plasma-store must come from the same build");
      }
      events->push_back(plasma::Started{command.hello().incarnation(), command.hello().segments()});
      return Done{};
    case v1::StoreCommand::kAdoptSegment:
      events->push_back(plasma::SegmentAdopted{SegmentId{command.adopt_segment().segment()},
                                               command.adopt_segment().size_bytes()});
      return Done{};
    case v1::StoreCommand::kAdoptDone:
      return decode_adoption(command.adopt_done(), events);
    case v1::StoreCommand::kLeaseSlab: {
      const v1::LeaseSlab& lease = command.lease_slab();
      events->push_back(plasma::LeaseAsked{
          Ticket{lease.ticket()}, SlabId{lease.slab()}, SessionId{lease.session()}, lease.size_bytes(),
          std::chrono::milliseconds(std::min<uint64_t>(lease.wait_ms_max(), kWaitMsMax))});
      return Done{};
    }
    case v1::StoreCommand::kBatch:
      return decode_batch(command.batch(), events);
    case v1::StoreCommand::BODY_NOT_SET:
      break;
  }
  return invalid("a command without a body that this store knows; raylet and plasma-store must be of one build");
}

}  // namespace

Status decode_store_command(const v1::StoreCommand& command, std::vector<plasma::Event>* events) {
  size_t before = events->size();
  Status status = decode(command, events);
  if (!status.ok()) events->resize(before);
  return status;
}

v1::StoreEvent encode_store_event(const plasma::Ready& effect) {
  v1::StoreEvent event;
  event.mutable_ready()->set_capacity_bytes(effect.capacity_bytes);
  event.mutable_ready()->set_incarnation(effect.incarnation);
  return event;
}

v1::StoreEvent encode_store_event(const plasma::Leased& effect) {
  v1::StoreEvent event;
  event.mutable_leased()->set_ticket(effect.ticket.number);
  event.mutable_leased()->set_slab(effect.slab.number);
  encode_extent(effect.at, event.mutable_leased()->mutable_location());
  return event;
}

v1::StoreEvent encode_store_event(const plasma::Refused& effect) {
  v1::StoreEvent event;
  event.mutable_refused()->set_ticket(effect.ticket.number);
  encode_failure(effect.failure, event.mutable_refused()->mutable_failure());
  return event;
}

v1::StoreEvent encode_store_event(const plasma::Evict& effect) {
  v1::StoreEvent event;
  event.mutable_evicted()->set_ids(encode_object_ids(effect.ids));
  return event;
}

v1::StoreEvent encode_store_event(const plasma::Usage& effect) {
  v1::StoreEvent event;
  encode_usage(effect, event.mutable_usage());
  return event;
}

v1::StoreEvent encode_store_event(const plasma::Complain& effect) {
  v1::StoreEvent event;
  event.mutable_complaint()->set_text(effect.text);
  return event;
}

void encode_usage(const plasma::Usage& usage, v1::StoreUsage* message) {
  message->set_capacity_bytes(usage.capacity_bytes);
  message->set_sealed_bytes(usage.sealed_bytes);
  message->set_slab_bytes(usage.slab_bytes);
  message->set_segment_bytes(usage.segment_bytes);
  message->set_object_count(usage.object_count);
  message->set_waiting_count(usage.waiting_count);
}

void encode_extent(const plasma::Extent& at, v1::Location* message) {
  message->set_segment(at.segment.number);
  message->set_offset(at.offset);
  message->set_size_bytes(at.size_bytes);
}

}  // namespace raylet
