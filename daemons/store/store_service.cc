#include "daemons/store/store_service.h"

#include <algorithm>
#include <utility>

#include "daemons/kit/metrics.h"
#include "daemons/store/store_codec.h"

namespace raylet {

grpc::ServerUnaryReactor* StoreService::GetUsage(grpc::CallbackServerContext* context, const v1::GetUsageRequest*,
                                                 v1::StoreUsage* reply) {
  return calls_.answer(context, [this, reply] { encode_usage(daemon_.store().usage(), reply); });
}

grpc::ServerUnaryReactor* StoreService::ListObjects(grpc::CallbackServerContext* context,
                                                    const v1::ListObjectsRequest* request,
                                                    v1::ListObjectsReply* reply) {
  uint32_t limit = request->limit() == 0 ? kObjectsDefault : std::min(request->limit(), kObjectsMax);
  return calls_.answer(context, [this, limit, reply] {
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
  return calls_.answer(context, [this, reply] { reply->set_prometheus_text(metrics_text()); });
}

std::string StoreService::metrics_text() const {
  const plasma::Store& store = daemon_.store();
  plasma::Usage usage = store.usage();
  MetricsText text;
  text.gauges({
      {"plasma_store_capacity_bytes", "What the store may hold", usage.capacity_bytes},
      {"plasma_store_sealed_bytes", "Bytes of sealed objects", usage.sealed_bytes},
      {"plasma_store_pinned_bytes", "Bytes of sealed objects that processes look at",
       store.objects().pinned_bytes()},
      {"plasma_store_slab_bytes", "Bytes leased and not sealed", usage.slab_bytes},
      {"plasma_store_segment_bytes", "Bytes of pages touched and not given back", usage.segment_bytes},
      {"plasma_store_resident_bytes", "Bytes of pages that the kernel holds for segments",
       daemon_.resident_bytes()},
      {"plasma_store_objects", "Sealed objects", usage.object_count},
      {"plasma_store_slabs", "Leased slabs", store.slabs().slabs().size()},
      {"plasma_store_segments", "Segments, cool ones too", daemon_.segment_count()},
      {"plasma_store_leases_waiting", "Leases that wait for room", usage.waiting_count},
  });
  text.counters({
      {"plasma_store_leases_total", "Slabs leased", daemon_.leases_total()},
      {"plasma_store_leases_refused_total", "Leases refused", daemon_.refusals_total()},
      {"plasma_store_evictions_asked_total", "Objects asked back from the raylet", store.evictions_asked_total()},
      {"plasma_store_complaints_total", "Commands that made no sense", store.complaints_total()},
      {"plasma_store_commands_total", "Frames from the raylet", daemon_.commands_total()},
  });
  text.gauge("plasma_store_queued_packets", "Packets that the raylet has not read", daemon_.queued_packets());
  text.counter("plasma_store_rpc_calls_total", "gRPC calls", calls_.total());
  text.gauge("plasma_store_loop_lag_seconds", "How late the loop is", loop_.lag_seconds());
  return text.take();
}

}  // namespace raylet
