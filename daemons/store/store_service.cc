#include "daemons/store/store_service.h"

#include <algorithm>
#include <utility>

#include "daemons/kit/metrics.h"
#include "daemons/store/store_codec.h"

namespace raylet {

grpc::ServerUnaryReactor* StoreService::answer(grpc::CallbackServerContext* context, std::function<void()> fill) {
  ++calls_total_;
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  loop_.post([reactor, fill = std::move(fill)] {
    fill();
    reactor->Finish(grpc::Status::OK);
  });
  return reactor;
}

grpc::ServerUnaryReactor* StoreService::GetUsage(grpc::CallbackServerContext* context, const v1::GetUsageRequest*,
                                                 v1::StoreUsage* reply) {
  return answer(context, [this, reply] { encode_usage(daemon_.store().usage(), reply); });
}

grpc::ServerUnaryReactor* StoreService::ListObjects(grpc::CallbackServerContext* context,
                                                    const v1::ListObjectsRequest* request,
                                                    v1::ListObjectsReply* reply) {
  uint32_t limit = request->limit() == 0 ? kObjectsDefault : std::min(request->limit(), kObjectsMax);
  return answer(context, [this, limit, reply] {
    const plasma::ObjectTable& table = daemon_.store().objects();
    reply->set_object_count(table.objects().size());
    for (const auto& [id, object] : table.objects()) {
      if (static_cast<uint32_t>(reply->objects_size()) == limit) return;
      v1::SealedObjectInfo* info = reply->add_objects();
      info->set_id(id.hex());
      encode_extent({object.at.segment, object.at.offset, object.size_bytes}, info->mutable_location());
      info->set_remakable(object.remakable);
      info->set_pinned(object.pinned);
    }
  });
}

grpc::ServerUnaryReactor* StoreService::GetMetrics(grpc::CallbackServerContext* context,
                                                   const v1::GetStoreMetricsRequest*,
                                                   v1::GetStoreMetricsReply* reply) {
  return answer(context, [this, reply] { reply->set_prometheus_text(metrics_text()); });
}

std::string StoreService::metrics_text() const {
  const plasma::Store& store = daemon_.store();
  plasma::Usage usage = store.usage();
  auto number = [](uint64_t value) { return static_cast<double>(value); };
  MetricsText text;
  text.gauge("plasma_store_capacity_bytes", "What the store may hold", number(usage.capacity_bytes));
  text.gauge("plasma_store_sealed_bytes", "Bytes of sealed objects", number(usage.sealed_bytes));
  text.gauge("plasma_store_pinned_bytes", "Bytes of sealed objects that processes look at",
             number(store.objects().pinned_bytes()));
  text.gauge("plasma_store_slab_bytes", "Bytes leased and not sealed", number(usage.slab_bytes));
  text.gauge("plasma_store_segment_bytes", "Bytes of pages touched and not given back",
             number(usage.segment_bytes));
  text.gauge("plasma_store_resident_bytes", "Bytes of pages that the kernel holds for segments",
             number(daemon_.resident_bytes()));
  text.gauge("plasma_store_objects", "Sealed objects", number(usage.object_count));
  text.gauge("plasma_store_slabs", "Leased slabs", number(store.slabs().slabs().size()));
  text.gauge("plasma_store_segments", "Segments, cool ones too", number(daemon_.segment_count()));
  text.gauge("plasma_store_leases_waiting", "Leases that wait for room", number(usage.waiting_count));
  text.counter("plasma_store_leases_total", "Slabs leased", number(daemon_.leases_total()));
  text.counter("plasma_store_leases_refused_total", "Leases refused", number(daemon_.refusals_total()));
  text.counter("plasma_store_evictions_asked_total", "Objects asked back from the raylet",
               number(store.evictions_asked_total()));
  text.counter("plasma_store_complaints_total", "Commands that made no sense", number(store.complaints_total()));
  text.counter("plasma_store_commands_total", "Frames from the raylet", number(daemon_.commands_total()));
  text.gauge("plasma_store_queued_packets", "Packets that the raylet has not read",
             number(daemon_.queued_packets()));
  text.counter("plasma_store_rpc_calls_total", "gRPC calls", number(calls_total_));
  text.gauge("plasma_store_loop_lag_seconds", "How late the loop is", loop_.lag_seconds());
  return text.take();
}

}  // namespace raylet
