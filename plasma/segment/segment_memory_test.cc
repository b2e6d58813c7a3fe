#include "plasma/segment/segment_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>

namespace raylet::plasma {
namespace {

constexpr uint64_t kSize = 4 << 20;

}  // namespace

TEST_CASE("a segment can neither shrink nor grow, and is closed by exec") {
  SegmentMemory memory = SegmentMemory::create(kSize).value();
  FileDescriptor descriptor = memory.duplicate();
  REQUIRE(descriptor.valid());
  CHECK(ftruncate(descriptor.number(), kSize / 2) != 0);
  CHECK(ftruncate(descriptor.number(), kSize * 2) != 0);
  CHECK((fcntl(descriptor.number(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("what one process writes the other reads, through the descriptor") {
  SegmentMemory memory = SegmentMemory::create(kSize).value();
  std::strcpy(memory.data() + 8192, "written here");
  SegmentMemory again = SegmentMemory::adopt(memory.duplicate(), kSize).value();
  CHECK(std::strcmp(again.data() + 8192, "written here") == 0);
  CHECK(again.data() != memory.data());
}

TEST_CASE("only a sealed memfd of the right size is adopted") {
  SegmentMemory memory = SegmentMemory::create(kSize).value();
  CHECK_THAT(SegmentMemory::adopt(memory.duplicate(), kSize * 2).error().message, Catch::Contains("4194304"));
  CHECK(!SegmentMemory::adopt(FileDescriptor(), kSize).ok());
  FileDescriptor open_ended(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(ftruncate(open_ended.number(), kSize) == 0);
  CHECK_THAT(SegmentMemory::adopt(std::move(open_ended), kSize).error().message, Catch::Contains("sealed"));
  FileDescriptor file(open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (file.valid()) {
    REQUIRE(ftruncate(file.number(), kSize) == 0);
    CHECK(!SegmentMemory::adopt(std::move(file), kSize).ok());
  }
}

TEST_CASE("warming makes pages without changing a byte, cooling gives them back") {
  SegmentMemory memory = SegmentMemory::create(kSize).value();
  CHECK(memory.resident_bytes() == 0);
  memory.data()[100] = 'x';
  REQUIRE(memory.warm(0, kSize / 2).ok());
  CHECK(memory.resident_bytes() >= kSize / 2);
  CHECK(memory.data()[100] == 'x');
  memory.data()[kSize / 2 - 1] = 'y';
  REQUIRE(memory.cool(4096).ok());
  CHECK(memory.resident_bytes() == 4096);
  CHECK(memory.data()[100] == 'x');
  CHECK(memory.data()[kSize / 2 - 1] == 0);
}

TEST_CASE("what the machine can't give is an error") {
  Result<SegmentMemory> huge = SegmentMemory::create(uint64_t{1} << 62);
  REQUIRE(!huge.ok());
  CHECK_THAT(huge.error().message, Catch::Contains("can't"));
}

}  // namespace raylet::plasma
