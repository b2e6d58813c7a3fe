// Store memory on its way to processes that write into it.
#include "daemons/raylet/core/node_state.h"

namespace raylet {

const LeasedSlab* Node::State::slab_of(const Session& session, const SealedBytes& sealed) const {
  auto found = session.slabs.find(sealed.slab);
  if (found == session.slabs.end()) return nullptr;
  const LeasedSlab& slab = found->second;
  bool inside = sealed.offset <= slab.size_bytes && sealed.size_bytes <= slab.size_bytes - sealed.offset;
  return inside ? &slab : nullptr;
}

void Node::State::on(SlabAsked& event) {
  Session* session = sessions_.find(event.session);
  if (session == nullptr || session->closed) return;
  if (store_capacity_ > 0 && event.size_bytes > store_capacity_) {
    Failure failure;
    failure.code = FailureCode::kObjectTooLarge;
    failure.message = "the object needs " + std::to_string(event.size_bytes) + " bytes and the object store has " +
                      std::to_string(store_capacity_) +
                      " in all; start the node with a larger --object-store-memory";
    emit(GrantSlab{session->id, event.request, {}, {}, std::move(failure)});
    return;
  }
  PendingLease lease{session->id, event.request, SlabId{next_slab_++}, event.size_bytes};
  Ticket ticket = next_ticket();
  pending_leases_[ticket] = lease;
  if (store_up_) emit(StoreLeaseSlab{ticket, lease.slab, lease.session, lease.size_bytes, options_.slab_wait_max});
}

void Node::State::on(SlabLeased& event) {
  auto found = pending_leases_.find(event.ticket);
  if (found == pending_leases_.end()) return;
  PendingLease lease = found->second;
  pending_leases_.erase(found);
  Session* session = sessions_.find(lease.session);
  if (session == nullptr || session->closed) {
    emit(StoreReturnSlab{event.slab});
    return;
  }
  session->slabs[event.slab] = {event.segment, event.offset, event.size_bytes};
  emit(GrantSlab{session->id, lease.request, event.slab, {event.segment, event.offset, event.size_bytes}, {}});
}

void Node::State::on(SlabRefused& event) {
  auto found = pending_leases_.find(event.ticket);
  if (found == pending_leases_.end()) return;
  PendingLease lease = found->second;
  pending_leases_.erase(found);
  Session* session = sessions_.find(lease.session);
  if (session == nullptr || session->closed) return;
  Failure failure = std::move(event.failure);
  if (failure.code == FailureCode::kNone) failure.code = FailureCode::kObjectStoreFull;
  emit(GrantSlab{session->id, lease.request, {}, {}, std::move(failure)});
}

void Node::State::on(SlabReturned& event) {
  Session* session = sessions_.find(event.session);
  if (session == nullptr || session->closed) return;
  auto found = session->slabs.find(event.slab);
  if (found == session->slabs.end()) {
    return close_session(session->id, "it returned slab " + std::to_string(event.slab.number) +
                                          ", which it does not lease");
  }
  if (!found->second.lost) emit(StoreReturnSlab{event.slab});
  session->slabs.erase(found);
}

void Node::State::on(StoreUsageChanged& event) {
  store_capacity_ = event.capacity_bytes;
  store_used_ = event.used_bytes;
}

void Node::State::end_store_session(Session& session) {
  session.slabs.clear();
  emit(StoreEndSession{session.id});
}

}  // namespace raylet
