// Objects that somebody holds, waits for or still needs, and who that is.
//
// Tables only. What always holds: `uses` counts readers that have not ended, borrowing tasks, containing
// objects and waiting gets; a Share says that one session holds the object (once) or has pins on it; `pins`
// is the sum of its shares' pins. An object whose value is there and that has neither uses nor holders nor pins
// is freed.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "daemons/raylet/core/effects.h"
#include "daemons/raylet/core/graph_table.h"
#include "daemons/raylet/core/slot_pool.h"
#include "protocol/words/ids.h"

namespace raylet {

enum class ObjectState : uint8_t {
  kPending,
  kInline,
  kSealed,
  kFailed,
  kLost,  // was sealed; its task can make it again
};

struct ObjectExtra {
  std::vector<uint32_t> contained;
  std::vector<TaskRef> readers;  // tasks of other graphs that wait for it, one entry an edge
};

struct Object {
  ObjectId id;
  uint32_t graph = 0;  // slot of the graph whose row makes it; 0: a put, or its graph was let go
  uint32_t uses = 0;
  uint32_t pins = 0;
  uint32_t holders = 0;  // shares that hold
  uint32_t first_share = 0;
  uint32_t first_wait = 0;
  ObjectState state = ObjectState::kPending;
  bool remakable = false;
  bool live = false;
  bool future = false;  // its task has not arrived
  bool outlives = false;  // the row that made it was let go
  SessionId put_by;     // nil: a task's result
  Bytes value;
  StoredAt at;
  FailurePtr failure;
  Instant since;
  uint32_t batch_mark = 0;   // the batch that is being put together, and where the object is in its tables
  uint32_t batch_index = 0;
  std::unique_ptr<ObjectExtra> extra;

  bool is_there() const { return state == ObjectState::kInline || state == ObjectState::kSealed; }
  bool is_over() const { return is_there() || state == ObjectState::kFailed; }
  ObjectExtra& more() {
    if (!extra) extra = std::make_unique<ObjectExtra>();
    return *extra;
  }
};

// What one session has of one object.
struct Share {
  uint32_t object = 0;
  uint32_t session = 0;  // slot in the SessionTable
  uint32_t pins = 0;
  bool held = false;
  uint32_t next_of_object = 0;
  uint32_t next_of_session = 0;
  uint32_t prev_of_session = 0;
};

// A get that waits for an object.
struct Wait {
  uint32_t get = 0;
  uint32_t next = 0;
};

class ObjectTable {
 public:
  uint32_t add(const ObjectId& id);
  void remove(uint32_t number);
  Object& operator[](uint32_t number) { return objects_[number]; }
  const Object& operator[](uint32_t number) const { return objects_[number]; }
  uint32_t end() const { return objects_.end(); }
  uint32_t live() const { return objects_.live(); }

  // Objects that no row points to: puts, results of graphs that were let go, and of tasks still to come.
  uint32_t find_loose(const ObjectId& id) const;
  void loosen(uint32_t number);
  void unloosen(uint32_t number);

  // The share of `session` in `object`; 0: none. `first_of_session` is the session's list.
  uint32_t find_share(uint32_t object, uint32_t session) const;
  uint32_t add_share(uint32_t object, uint32_t session, uint32_t& first_of_session);
  void remove_share(uint32_t share, uint32_t& first_of_session);
  Share& share(uint32_t number) { return shares_[number]; }
  const Share& share(uint32_t number) const { return shares_[number]; }

  void add_wait(uint32_t object, uint32_t get);
  // Empties the object's list of waiting gets into `gets`.
  void take_waits(uint32_t object, std::vector<uint32_t>& gets);
  // False: it does not wait.
  bool remove_wait(uint32_t object, uint32_t get);
  uint64_t wait_count(uint32_t object) const;

 private:
  SlotPool<Object> objects_;
  SlotPool<Share> shares_;
  SlotPool<Wait> waits_;
  std::unordered_map<ObjectId, uint32_t> loose_;
};

}  // namespace raylet
