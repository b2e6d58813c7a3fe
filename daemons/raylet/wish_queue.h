// WishQueue: what this node wants of the head (records to keep or forget, names to find), in an order in which
// it may be asked. Pure.
//
// What always holds:
//   * A job is recorded before anything of it; a graph is forgotten after its parts have been answered; a job
//     is forgotten last. Parts of a graph go in their order, several at once. Wishes about one name go one by one.
//   * What was not yet sent when its graph or job is forgotten is dropped (and answered).
//   * What belongs to a job that the head refused for good is refused with it.
//   * Each wish with a ticket is answered exactly once.
//
// Bounded by the core, which persists no more than options of it allow, and keeps what it persists anyway.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "daemons/raylet/core/effects.h"
#include "daemons/raylet/core/events.h"
#include "protocol/words/ids.h"

namespace raylet {

// One wish until it is answered. Only `number`, `what`, `ticket` and `bytes` are for others to read.
struct Wish {
  uint64_t number = 0;  // in the order of their coming
  std::variant<Record, FindName> what;
  Ticket ticket;        // nil: the link's own wish, nobody waits for an answer
  uint64_t bytes = 0;   // of the graph's chunk, as it came over the wire

  JobId job;
  size_t blocked_by = 0;
  std::vector<std::shared_ptr<Wish>> blocks;
  bool in_flight = false;
  bool ever_sent = false;
  bool dropped = false;  // no longer wanted: not tried again
  bool answered = false;
};
using WishPtr = std::shared_ptr<Wish>;

class WishQueue {
 public:
  void add(Ticket ticket, std::variant<Record, FindName> what);
  // The head does not know the job any more, whose driver is here all the same: it and its names are wished
  // for again. False: there is no such job, or it is under way already.
  bool register_again(JobId job);

  // The first wish that nothing blocks; null: none. It stays until begin().
  WishPtr next() const { return ready_.empty() ? nullptr : ready_.begin()->second; }
  // It is sent now. False: its job was refused, so it was answered instead.
  bool begin(const WishPtr& wish);
  // No answer came of it that lasts: it waits for begin() again, unless it was dropped meanwhile.
  void put_back(const WishPtr& wish);
  // The head's answer to a record, and to a FindName.
  void answer(const WishPtr& wish, Persisted with);
  void answer_find(const WishPtr& wish, NameFound found);

  // Persisted and NameFound events that nobody was told of yet.
  bool has_answers() const { return !answers_.empty(); }
  std::vector<Event> take_answers() { return std::exchange(answers_, {}); }

  bool empty() const { return wishes_.empty(); }
  size_t size() const { return wishes_.size(); }
  uint64_t waiting_bytes() const { return waiting_bytes_; }
  size_t calls_in_flight() const { return calls_in_flight_; }
  uint64_t bytes_in_flight() const { return bytes_in_flight_; }
  // What the head may count on to live on: a heartbeat names them.
  std::vector<JobId> known_jobs() const;
  std::vector<GraphId> sent_graphs() const;

 private:
  using NameKey = std::pair<std::string, std::string>;  // namespace, name

  struct Job {
    RecordJob record;
    WishPtr registration;  // while under way
    WishPtr ending;        // likewise
    Failure refused;       // the head does not want it: nor anything of it
    bool sent = false;     // the head may know it
    bool known = false;    // the head said that it does
    std::set<uint64_t> wishes;  // without an answer
  };
  struct Graph {
    JobId job;
    bool sent = false;  // the head may know it
    std::set<uint64_t> parts;  // without an answer
  };
  struct Name {
    WishPtr last;                    // the last wish about it without an answer
    std::optional<RecordName> held;  // acknowledged, not forgotten
  };

  void block(const WishPtr& wish, const WishPtr& by);
  void join_job(const WishPtr& wish, JobId id);
  void wait_for_name(const WishPtr& wish, const NameKey& key, bool changes);
  void place(const WishPtr& wish, const RecordJob& record);
  void place(const WishPtr& wish, const RecordGraph& record);
  void place(const WishPtr& wish, const ForgetGraph& record);
  void place(const WishPtr& wish, const ForgetJob& record);
  void place(const WishPtr& wish, const RecordName& record);
  void place(const WishPtr& wish, const ForgetName& record);
  void place(const WishPtr& wish, const FindName& find);
  void drop_or_wait(const WishPtr& wish, uint64_t number);
  const Failure* refusal_of_job(const Wish& wish) const;
  void end_flight(const WishPtr& wish);

  void finish(const WishPtr& wish, const RecordJob& record, bool done);
  void finish(const WishPtr& wish, const RecordGraph& record, bool done);
  void finish(const WishPtr& wish, const ForgetGraph& record, bool done);
  void finish(const WishPtr& wish, const ForgetJob& record, bool done);
  void finish(const WishPtr& wish, const RecordName& record, bool done);
  void finish(const WishPtr& wish, const ForgetName& record, bool done);
  void finish_name(const WishPtr& wish, const NameKey& key);

  uint64_t last_number_ = 0;
  std::map<uint64_t, WishPtr> wishes_;  // all without an answer
  std::map<uint64_t, WishPtr> ready_;   // those that nothing blocks and that are not in flight
  std::map<JobId, Job> jobs_;
  std::map<GraphId, Graph> graphs_;
  std::map<NameKey, Name> names_;
  size_t calls_in_flight_ = 0;
  uint64_t bytes_in_flight_ = 0;
  uint64_t waiting_bytes_ = 0;
  std::vector<Event> answers_;
};

}  // namespace raylet
