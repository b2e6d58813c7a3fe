// SegmentTable: duplicates of the store's segment descriptors, to pass on to sessions and to a restarted
// store, and mappings of them for the values that travel over gRPC as bytes.
#pragma once

#include <cstdint>
#include <map>

#include "daemons/raylet/core/effects.h"
#include "plasma/ipc/packet.h"
#include "protocol/words/ids.h"
#include "protocol/words/result.h"

namespace raylet {

class SegmentTable {
 public:
  struct Segment {
    FileDescriptor descriptor;
    uint64_t size_bytes = 0;
    char* mapping = nullptr;
  };

  SegmentTable() = default;
  SegmentTable(const SegmentTable&) = delete;
  ~SegmentTable();

  // Replaces what had this number.
  void add(SegmentId id, uint64_t size_bytes, FileDescriptor descriptor);
  const Segment* find(SegmentId id) const;
  const std::map<SegmentId, Segment>& segments() const { return segments_; }
  void clear();

  // Where the bytes are in this process, readable and writable, until clear() or the segment is replaced. An
  // Error if the segment is not known, is smaller than that, or can't be mapped.
  Result<char*> bytes_at(const StoredAt& at);

 private:
  static void unmap(Segment& segment);
  std::map<SegmentId, Segment> segments_;
};

}  // namespace raylet
