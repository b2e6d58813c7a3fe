// SegmentMemory: the bytes of one segment: a memfd, sealed so that nobody can shrink or grow it, and a mapping
// of all of it in this process. Nothing is named anywhere, so the last process that has it takes it along.
//
// It is sparse: pages exist where someone wrote or warm() was told to, until cool() gives them back.
// warm() and cool() may be called from any thread while others, in any process, read and write.
#pragma once

#include <boost/interprocess/mapped_region.hpp>
#include <cstddef>
#include <cstdint>

#include "plasma/ipc/packet.h"
#include "protocol/words/result.h"

namespace raylet::plasma {

class SegmentMemory {
 public:
  // REQUIRES: whole pages. An error says what the machine lacks.
  static Result<SegmentMemory> create(uint64_t size_bytes);
  // A segment that an earlier store made. An error unless it is a memfd of this size that can't be resized.
  static Result<SegmentMemory> adopt(FileDescriptor descriptor, uint64_t size_bytes);

  char* data() const { return static_cast<char*>(mapping_.get_address()); }
  uint64_t size_bytes() const { return mapping_.get_size(); }
  // For another process. Invalid if this one has no descriptor left.
  FileDescriptor duplicate() const { return descriptor_.duplicate(); }

  // Makes every page of [from, until) exist without changing a byte. An error if the machine is out of memory.
  Status warm(uint64_t from, uint64_t until);
  // Gives the pages from `from` on back; their bytes are zero from here on.
  Status cool(uint64_t from);
  // How many bytes have pages, as far as the kernel says.
  uint64_t resident_bytes() const;

 private:
  static Result<SegmentMemory> map(FileDescriptor descriptor);

  FileDescriptor descriptor_;
  boost::interprocess::mapped_region mapping_;
};

}  // namespace raylet::plasma
