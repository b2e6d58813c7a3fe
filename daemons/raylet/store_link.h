// StoreLink: the node's plasma-store process and the only voice it obeys.
//
// What always holds:
//   * Commands reach the store in the order of the effects; they go out at flush(), many in a frame.
//   * What lies in the store is known here too (StoredTable, duplicates of its segments). A store that died is
//     started again, with growing waits, and handed all of it, so that nothing sealed is lost.
//   * A lease that was under way when the store died is not answered; the core asks again after StoreReturned.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "daemons/kit/packet_link.h"
#include "daemons/raylet/child_table.h"
#include "daemons/raylet/core/effects.h"
#include "daemons/raylet/core/events.h"
#include "daemons/raylet/segment_table.h"
#include "daemons/raylet/store_batch.h"
#include "daemons/raylet/stored_table.h"
#include "protocol/wire/store.pb.h"

namespace raylet {

class StoreLink {
 public:
  static constexpr Duration kBackoffMin = std::chrono::milliseconds(20);
  static constexpr Duration kBackoffMax = std::chrono::seconds(5);
  // A store that has not said that it is ready by then is killed.
  static constexpr Duration kReadyWaitMax = std::chrono::seconds(30);
  // After so many lives that did not become ready, what was stored is given up.
  static constexpr int kHandOverTriesMax = 3;

  struct Options {
    std::string binary;
    uint64_t capacity_bytes = 0;
    std::string listen_address;
    std::string log_path;
    std::string log_level;
  };
  struct Handlers {
    std::function<void(Event)> on_event;
    // The descriptors that sessions know are stale.
    std::function<void()> on_new_segments;
  };

  StoreLink(Loop& loop, ChildTable& children, SegmentTable& segments, Options options, Handlers handlers);

  // An Error: the first start failed; later ones are tried again.
  Status start();

  void perform(const StoreLeaseSlab& effect);
  void perform(const StoreSeal& effect);
  void perform(const StorePin& effect);
  void perform(const StoreUnpin& effect);
  void perform(const StoreFree& effect);
  void perform(const StoreReturnSlab& effect);
  void perform(const StoreEndSession& effect);
  void flush();

  // SIGTERM; kill() for one that does not go.
  void stop();
  void kill_now();

  bool is_up() const { return up_; }
  const v1::StoreUsage& usage() const { return usage_; }
  const StoredTable& stored() const { return stored_; }
  size_t queued_packets() const { return link_ ? link_->queued_packets() : 0; }
  uint64_t restarts_total() const { return incarnation_ == 0 ? 0 : incarnation_ - 1; }
  pid_t pid() const { return pid_; }

 private:
  template <typename Effect>
  void add(const Effect& effect);
  void send(const v1::StoreCommand& command, FileDescriptor descriptor = {});
  void hand_over();
  void receive(Packet packet);
  void take_usage(const v1::StoreUsage& usage);
  void exited(int status);
  void try_again(const std::string& trouble);

  Loop& loop_;
  ChildTable& children_;
  SegmentTable& segments_;
  Options options_;
  Handlers handlers_;
  std::unique_ptr<PacketLink> link_;
  Alarm restart_alarm_;
  Alarm ready_alarm_;
  Duration backoff_ = kBackoffMin;
  StoredTable stored_;
  StoreBatch batch_;
  // Leases without an answer.
  std::unordered_map<Ticket, SessionId> leases_;
  v1::StoreUsage usage_;
  uint64_t incarnation_ = 0;
  int failed_starts_ = 0;
  bool kept_ = true;
  bool core_counts_on_it_ = true;  // the last it was told is not StoreDied
  pid_t pid_ = 0;
  bool up_ = false;
  bool stopped_ = false;
};

}  // namespace raylet
