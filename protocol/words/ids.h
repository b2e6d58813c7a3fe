// The names of things. Each is its own type, so that two kinds of id never meet by accident.
//
// Wide ids (128 bits) are chosen by whoever makes the thing and never collide across the cluster: GraphId,
// JobId, NodeId. Narrow ids are counters of one process and mean nothing outside it: SessionId, WorkerId,
// SegmentId, SlabId, Ticket.
//
// An object's id is its graph, its task and which of the task's results it is, so that running the task
// again gives the same name. On the wire and in Python it is 28 bytes, 56 hex digits: graph (16), task
// (8, big-endian), index (4, big-endian). The nil id is all zeros.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace raylet {

template <typename Tag>
struct NarrowId {
  uint64_t number = 0;  // 0 is nil; counters start at 1
  auto operator<=>(const NarrowId&) const = default;
  bool is_nil() const { return number == 0; }
};

using SessionId = NarrowId<struct SessionTag>;  // one connection of a driver or a worker, until it closes
using WorkerId = NarrowId<struct WorkerTag>;    // one worker process, from the wish to start it to its death
using SlabId = NarrowId<struct SlabTag>;        // one lease of store memory
using SegmentId = NarrowId<struct SegmentTag>;  // one memfd of the store
using Ticket = NarrowId<struct TicketTag>;      // what an answer from the store or the head is matched by
using RequestId = NarrowId<struct RequestTag>;  // chosen by a session's client, unique within that session
using Incarnation = NarrowId<struct IncarnationTag>;  // which life of a process; grows with each restart

template <typename Tag>
struct WideId {
  static constexpr size_t kSizeBytes = 16;

  uint64_t high = 0;
  uint64_t low = 0;
  auto operator<=>(const WideId&) const = default;
  bool is_nil() const { return high == 0 && low == 0; }
  std::string binary() const;
  std::string hex() const;
  // Nothing unless `binary` has exactly kSizeBytes.
  static std::optional<WideId> from_binary(std::string_view binary);
};

using GraphId = WideId<struct GraphTag>;
using JobId = WideId<struct JobTag>;
using NodeId = WideId<struct NodeTag>;

struct TaskId {
  GraphId graph;
  uint64_t index = 0;
  auto operator<=>(const TaskId&) const = default;
};

struct ObjectId {
  static constexpr size_t kSizeBytes = 28;

  GraphId graph;
  uint64_t task = 0;
  uint32_t index = 0;  // which result of the task, from 0
  auto operator<=>(const ObjectId&) const = default;
  bool is_nil() const { return *this == ObjectId{}; }
  TaskId task_id() const { return {graph, task}; }
  std::string binary() const;
  std::string hex() const;
  static std::optional<ObjectId> from_binary(std::string_view binary);
  static std::optional<ObjectId> from_hex(std::string_view hex);
};

std::string to_hex(std::string_view binary);
std::optional<std::string> from_hex(std::string_view hex);

inline uint64_t mix_bits(uint64_t a, uint64_t b) {
  uint64_t z = a ^ (b + 0x9e3779b97f4a7c15u + (a << 6) + (a >> 2));
  z = (z ^ (z >> 31)) * 0xbf58476d1ce4e5b9u;
  return z ^ (z >> 29);
}

}  // namespace raylet

template <typename Tag>
struct std::hash<raylet::NarrowId<Tag>> {
  size_t operator()(const raylet::NarrowId<Tag>& id) const noexcept { return raylet::mix_bits(id.number, 1); }
};
template <typename Tag>
struct std::hash<raylet::WideId<Tag>> {
  size_t operator()(const raylet::WideId<Tag>& id) const noexcept { return raylet::mix_bits(id.high, id.low); }
};
template <>
struct std::hash<raylet::ObjectId> {
  size_t operator()(const raylet::ObjectId& id) const noexcept {
    return raylet::mix_bits(raylet::mix_bits(id.graph.high, id.graph.low), id.task * 31 + id.index);
  }
};
template <>
struct std::hash<raylet::TaskId> {
  size_t operator()(const raylet::TaskId& id) const noexcept {
    return raylet::mix_bits(raylet::mix_bits(id.graph.high, id.graph.low), id.index);
  }
};
