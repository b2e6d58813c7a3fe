#include "plasma/segment/segment_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace raylet::plasma {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW;

// What Boost.Interprocess asks of something that can be mapped.
struct Mappable {
  int descriptor;
  boost::interprocess::mapping_handle_t get_mapping_handle() const {
    return boost::interprocess::ipcdetail::mapping_handle_from_file_handle(descriptor);
  }
};

Error machine_error(const std::string& what) {
  Code code = errno == ENOMEM || errno == ENOSPC || errno == EMFILE || errno == ENFILE ? Code::kResourceExhausted
                                                                                       : Code::kUnavailable;
  return {code, what + ": " + std::strerror(errno)};
}

}  // namespace

Result<SegmentMemory> SegmentMemory::create(uint64_t size_bytes) {
  MUST(size_bytes > 0 && size_bytes % kPageBytes == 0, "a segment has whole pages");
  FileDescriptor descriptor(memfd_create("raylet-segment", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!descriptor.valid()) return machine_error("a memfd can't be made");
  if (ftruncate(descriptor.number(), static_cast<off_t>(size_bytes)) != 0) {
    return machine_error("a memfd can't have " + std::to_string(size_bytes) + " bytes");
  }
  if (fcntl(descriptor.number(), F_ADD_SEALS, kSeals) != 0) return machine_error("a memfd can't be sealed");
  return map(std::move(descriptor));
}

Result<SegmentMemory> SegmentMemory::adopt(FileDescriptor descriptor, uint64_t size_bytes) {
  struct stat status {};
  if (!descriptor.valid() || fstat(descriptor.number(), &status) != 0) {
    return invalid("expected the descriptor of a segment, got none");
  }
  if (static_cast<uint64_t>(status.st_size) != size_bytes) {
    return invalid("expected a segment of " + std::to_string(size_bytes) + " bytes, got one of " +
                   std::to_string(status.st_size));
  }
  int seals = fcntl(descriptor.number(), F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) {
    return invalid("expected a memfd that is sealed against resizing, got something else");
  }
  return map(std::move(descriptor));
}

Result<SegmentMemory> SegmentMemory::map(FileDescriptor descriptor) {
  SegmentMemory memory;
  try {
    memory.mapping_ = boost::interprocess::mapped_region(Mappable{descriptor.number()},
                                                         boost::interprocess::read_write);
  } catch (const boost::interprocess::interprocess_exception& error) {
    return Error{Code::kResourceExhausted, std::string("a segment can't be mapped: ") + error.what()};
  }
  // Fewer, larger pages where the machine allows them for shared memory; most don't, which is fine.
  madvise(memory.mapping_.get_address(), memory.mapping_.get_size(), MADV_HUGEPAGE);
  memory.descriptor_ = std::move(descriptor);
  return memory;
}

Status SegmentMemory::warm(uint64_t from, uint64_t until) {
  MUST(from <= until && until <= size_bytes());
  if (from == until) return Done{};
  char* begin = data() + from / kPageBytes * kPageBytes;
  size_t length = static_cast<size_t>(data() + until - begin);
  if (madvise(begin, length, MADV_POPULATE_WRITE) == 0) return Done{};
  if (errno != EINVAL) return machine_error("pages can't be had");
  // Kernels before 5.14: fallocate gives the pages without touching what is in those that are there.
  if (fallocate(descriptor_.number(), 0, begin - data(), static_cast<off_t>(length)) != 0) {
    return machine_error("pages can't be had");
  }
  return Done{};
}

Status SegmentMemory::cool(uint64_t from) {
  MUST(from <= size_bytes() && from % kPageBytes == 0);
  if (from == size_bytes()) return Done{};
  if (fallocate(descriptor_.number(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(from),
                static_cast<off_t>(size_bytes() - from)) != 0) {
    return machine_error("pages can't be given back");
  }
  return Done{};
}

uint64_t SegmentMemory::resident_bytes() const {
  struct stat status {};
  if (fstat(descriptor_.number(), &status) != 0) return 0;
  return static_cast<uint64_t>(status.st_blocks) * 512;
}

}  // namespace raylet::plasma
