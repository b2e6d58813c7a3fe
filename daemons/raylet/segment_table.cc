#include "daemons/raylet/segment_table.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace raylet {

SegmentTable::~SegmentTable() { clear(); }

void SegmentTable::unmap(Segment& segment) {
  if (segment.mapping != nullptr) munmap(segment.mapping, segment.size_bytes);
  segment.mapping = nullptr;
}

void SegmentTable::add(SegmentId id, uint64_t size_bytes, FileDescriptor descriptor) {
  Segment& segment = segments_[id];
  unmap(segment);
  segment.descriptor = std::move(descriptor);
  segment.size_bytes = size_bytes;
}

const SegmentTable::Segment* SegmentTable::find(SegmentId id) const {
  auto found = segments_.find(id);
  return found == segments_.end() ? nullptr : &found->second;
}

void SegmentTable::clear() {
  for (auto& [id, segment] : segments_) unmap(segment);
  segments_.clear();
}

Result<char*> SegmentTable::bytes_at(const StoredAt& at) {
  auto found = segments_.find(at.segment);
  if (found == segments_.end()) {
    return Error{Code::kNotFound, "segment " + std::to_string(at.segment.number) + " of the store is not known"};
  }
  Segment& segment = found->second;
  if (at.offset > segment.size_bytes || at.size_bytes > segment.size_bytes - at.offset) {
    return Error{Code::kOutOfRange, "a place outside of segment " + std::to_string(at.segment.number)};
  }
  if (segment.mapping == nullptr) {
    void* mapping =
        mmap(nullptr, segment.size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, segment.descriptor.number(), 0);
    if (mapping == MAP_FAILED) {
      return Error{Code::kResourceExhausted, std::string("can't map a segment: ") + std::strerror(errno)};
    }
    segment.mapping = static_cast<char*>(mapping);
  }
  return segment.mapping + at.offset;
}

}  // namespace raylet
