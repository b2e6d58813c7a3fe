#include "daemons/raylet/store_link.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>

#include "daemons/kit/log.h"
#include "daemons/kit/log_tail.h"
#include "daemons/kit/spawn.h"
#include "daemons/raylet/frame_codec.h"
#include "protocol/codec/id_codec.h"
#include "protocol/codec/session_codec.h"

namespace raylet {
namespace {

constexpr uint32_t kStoreProtocolVersion = 1;

Result<StoredAt> decode_location(const v1::Location& message) {
  if (message.segment() == 0) return invalid("a place without a segment");
  return StoredAt{SegmentId{message.segment()}, message.offset(), message.size_bytes()};
}

}  // namespace

StoreLink::StoreLink(Loop& loop, ChildTable& children, SegmentTable& segments, Options options, Handlers handlers)
    : loop_(loop),
      children_(children),
      segments_(segments),
      options_(std::move(options)),
      handlers_(std::move(handlers)),
      restart_alarm_(loop,
                     [this] {
                       if (Status started = start(); !started.ok()) try_again(started.error().message);
                     }),
      ready_alarm_(loop, [this] {
        log::error("store killed pid={} reason=not_ready", pid_);
        kill_now();
      }) {}

Status StoreLink::start() {
  if (stopped_) return Done{};
  Result<SocketPair> pair = make_socket_pair();
  if (!pair.ok()) return pair.error();
  ChildSpec spec;
  spec.arguments = {options_.binary,   "--channel-fd",           std::to_string(kChannelDescriptor),
                    "--capacity",      std::to_string(options_.capacity_bytes),
                    "--listen",        options_.listen_address,  "--log-level",
                    options_.log_level};
  spec.environment = environment_with({});
  spec.log_path = options_.log_path;
  spec.channel = std::move(pair->theirs);
  Result<pid_t> pid = spawn(std::move(spec));
  if (!pid.ok()) return pid.error();
  pid_ = *pid;
  ++incarnation_;
  log::info("store started pid={} incarnation={}", pid_, incarnation_);
  link_ = std::make_unique<PacketLink>(loop_, std::move(pair->ours),
                                       PacketLink::Handlers{[this](Packet packet) { receive(std::move(packet)); },
                                                            [this](std::string) { kill_now(); }});
  children_.watch(pid_, [this](int status) { exited(status); });
  ready_alarm_.set_after(kReadyWaitMax);
  hand_over();
  return Done{};
}

void StoreLink::hand_over() {
  kept_ = true;
  std::vector<std::pair<SegmentId, FileDescriptor>> descriptors;
  for (const auto& [id, segment] : segments_.segments()) {
    FileDescriptor duplicate = segment.descriptor.duplicate();
    kept_ = kept_ && duplicate.valid();
    descriptors.emplace_back(id, std::move(duplicate));
  }
  if (!kept_ || failed_starts_ >= kHandOverTriesMax) {
    kept_ = segments_.segments().empty();
    descriptors.clear();
    segments_.clear();
    stored_.clear();
    handlers_.on_new_segments();
  }
  v1::StoreCommand hello;
  hello.mutable_hello()->set_protocol_version(kStoreProtocolVersion);
  hello.mutable_hello()->set_incarnation(incarnation_);
  hello.mutable_hello()->set_segments(descriptors.size());
  send(hello);
  if (descriptors.empty()) return;
  for (auto& [id, descriptor] : descriptors) {
    v1::StoreCommand adopt;
    adopt.mutable_adopt_segment()->set_segment(id.number);
    adopt.mutable_adopt_segment()->set_size_bytes(segments_.find(id)->size_bytes);
    send(adopt, std::move(descriptor));
  }
  v1::StoreCommand done;
  done.mutable_adopt_done();
  for (const auto& [id, object] : stored_.objects()) {
    v1::SealedObject* sealed = done.mutable_adopt_done()->add_objects();
    sealed->set_id(id.binary());
    encode_location(object.at, sealed->mutable_location());
    sealed->set_remakable(object.remakable);
    sealed->set_pinned(object.pinned);
  }
  for (const auto& [id, slab] : stored_.slabs()) {
    v1::SlabLease* lease = done.mutable_adopt_done()->add_slabs();
    lease->set_slab(id.number);
    lease->set_session(slab.session.number);
    encode_location(slab.at, lease->mutable_location());
  }
  send(done);
}

void StoreLink::perform(const StoreLeaseSlab& effect) {
  // Nobody to ask: the core learns of the death, or of the return, and asks again then.
  if (!link_) return;
  flush();
  leases_[effect.ticket] = effect.session;
  v1::StoreCommand command;
  v1::LeaseSlab* lease = command.mutable_lease_slab();
  lease->set_ticket(effect.ticket.number);
  lease->set_slab(effect.slab.number);
  lease->set_session(effect.session.number);
  lease->set_size_bytes(effect.size_bytes);
  lease->set_wait_ms_max(static_cast<uint64_t>(effect.wait_max.count() / 1'000'000));
  send(command);
}

// A command while there is no store only changes what the next one is handed.
template <typename Effect>
void StoreLink::add(const Effect& effect) {
  if (!link_ || batch_.add(effect)) return;
  flush();
  MUST(batch_.add(effect), "an empty frame takes any command");
}

void StoreLink::perform(const StoreSeal& effect) {
  if (!stored_.seal(effect)) {
    log::error("seal without its slab id={} slab={}", effect.id.hex(), effect.slab.number);
    return;
  }
  add(effect);
}

void StoreLink::perform(const StorePin& effect) {
  stored_.pin(effect.id);
  add(effect);
}

void StoreLink::perform(const StoreUnpin& effect) {
  stored_.unpin(effect.id);
  add(effect);
}

void StoreLink::perform(const StoreFree& effect) {
  stored_.free(effect.id);
  add(effect);
}

void StoreLink::perform(const StoreReturnSlab& effect) {
  if (stored_.return_slab(effect.slab)) add(effect);
}

void StoreLink::perform(const StoreEndSession& effect) {
  stored_.end_session(effect.session);
  add(effect);
}

void StoreLink::flush() {
  if (batch_.empty()) return;
  v1::StoreCommand command = batch_.take();
  if (link_) send(command);
}

void StoreLink::send(const v1::StoreCommand& command, FileDescriptor descriptor) {
  Status sent = link_->send(command.SerializeAsString(), std::move(descriptor));
  // A store that misses a command knows less than we do; the next one is handed everything.
  if (!sent.ok()) {
    log::error("store killed pid={} reason={}", pid_, sent.error().message);
    kill_now();
  }
}

void StoreLink::receive(Packet packet) {
  v1::StoreEvent event;
  if (!event.ParseFromString(packet.frame)) {
    log::error("store killed pid={} reason=not_a_frame", pid_);
    return kill_now();
  }
  switch (event.body_case()) {
    case v1::StoreEvent::kReady: {
      ready_alarm_.clear();
      up_ = true;
      failed_starts_ = 0;
      backoff_ = kBackoffMin;
      log::info("store ready pid={} incarnation={} kept={}", pid_, incarnation_, kept_);
      if (!std::exchange(core_counts_on_it_, true)) handlers_.on_event(StoreReturned{kept_});
      usage_.set_capacity_bytes(event.ready().capacity_bytes());
      handlers_.on_event(StoreUsageChanged{usage_.capacity_bytes(), usage_.sealed_bytes() + usage_.slab_bytes()});
      return;
    }
    case v1::StoreEvent::kLeased: {
      auto lease = leases_.find(Ticket{event.leased().ticket()});
      Result<StoredAt> at = decode_location(event.leased().location());
      if (lease == leases_.end() || !at.ok()) {
        log::error("store answered a lease that nobody asked for ticket={}", event.leased().ticket());
        return;
      }
      SlabId slab{event.leased().slab()};
      stored_.add_slab(slab, lease->second, *at);
      leases_.erase(lease);
      handlers_.on_event(
          SlabLeased{Ticket{event.leased().ticket()}, slab, at->segment, at->offset, at->size_bytes});
      return;
    }
    case v1::StoreEvent::kRefused: {
      if (leases_.erase(Ticket{event.refused().ticket()}) == 0) return;
      Result<Failure> failure = decode_failure(std::move(*event.mutable_refused()->mutable_failure()));
      handlers_.on_event(SlabRefused{Ticket{event.refused().ticket()}, failure.ok() ? *failure : Failure{}});
      return;
    }
    case v1::StoreEvent::kNewSegment:
      if (!packet.descriptor.valid()) {
        log::error("store killed pid={} reason=segment_without_descriptor", pid_);
        return kill_now();
      }
      segments_.add(SegmentId{event.new_segment().segment()}, event.new_segment().size_bytes(),
                    std::move(packet.descriptor));
      return;
    case v1::StoreEvent::kEvicted: {
      Result<std::vector<ObjectId>> ids = decode_object_ids(event.evicted().ids(), "evicted.ids");
      if (!ids.ok()) return;
      // They stay where they are until the core frees them.
      handlers_.on_event(ObjectsEvicted{*std::move(ids)});
      return;
    }
    case v1::StoreEvent::kUsage:
      return take_usage(event.usage());
    case v1::StoreEvent::kComplaint:
      log::error("store complains: {}", event.complaint().text());
      return;
    case v1::StoreEvent::BODY_NOT_SET:
      return;
  }
}

void StoreLink::take_usage(const v1::StoreUsage& usage) {
  usage_ = usage;
  handlers_.on_event(StoreUsageChanged{usage.capacity_bytes(), usage.sealed_bytes() + usage.slab_bytes()});
}

void StoreLink::exited(int status) {
  if (stopped_) {
    pid_ = 0;
    return;
  }
  // Evictions and leases that it still told must be known before the table is handed on.
  link_->drain();
  link_.reset();
  if (!batch_.empty()) batch_.take();
  leases_.clear();
  pid_ = 0;
  ready_alarm_.clear();
  if (!up_) ++failed_starts_;
  up_ = false;
  std::string how = WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                                        : "exit status " + std::to_string(WEXITSTATUS(status));
  if (std::exchange(core_counts_on_it_, false)) handlers_.on_event(StoreDied{});
  try_again("it ended by " + how + ": " + read_tail(options_.log_path, 500));
}

void StoreLink::try_again(const std::string& trouble) {
  log::warn("store lost, next try in {} ms: {}",
            std::chrono::duration_cast<std::chrono::milliseconds>(backoff_).count(), trouble);
  restart_alarm_.set_after(backoff_);
  backoff_ = std::min(backoff_ * 2, kBackoffMax);
}

void StoreLink::stop() {
  stopped_ = true;
  restart_alarm_.clear();
  ready_alarm_.clear();
  if (pid_ > 0) kill(pid_, SIGTERM);
}

void StoreLink::kill_now() {
  if (pid_ > 0) kill(pid_, SIGKILL);
}

}  // namespace raylet
