// plasma-store as a process: what its raylet does with it, over a real socket, with real memory.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include <grpcpp/grpcpp.h>

#include "daemons/store/store_codec.h"
#include "plasma/ipc/packet.h"
#include "plasma/segment/segment_memory.h"
#include "protocol/codec/id_codec.h"
#include "protocol/wire/store.grpc.pb.h"

namespace raylet {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr int kPatienceMs = 20'000;  // for a process that must answer; reached only when it does not

ObjectId object(uint64_t task) { return {{1, 1}, task, 0}; }

// A directory for sockets that goes with the test.
class Directory {
 public:
  Directory() {
    char path[] = "/tmp/plasma-test-XXXXXX";
    REQUIRE(mkdtemp(path) != nullptr);
    path_ = path;
  }
  ~Directory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A plasma-store and the raylet's end of its channel. Killed with its owner.
class StoreProcess {
 public:
  StoreProcess(const Directory& directory, uint64_t capacity_bytes)
      : address("unix:" + directory.path() + "/store.grpc") {
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
    channel = FileDescriptor(ends[0]);
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    std::string descriptor = std::to_string(ends[1]);
    std::string capacity = std::to_string(capacity_bytes);
    pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      execl("daemons/store/plasma-store", "plasma-store", "--channel-fd", descriptor.c_str(), "--capacity",
            capacity.c_str(), "--listen", address.c_str(), "--log-level", "warn", nullptr);
      _exit(127);
    }
    close(ends[1]);
  }
  ~StoreProcess() {
    if (pid > 0) stop(SIGKILL);
  }

  int stop(int signal) {
    kill(pid, signal);
    return wait_for_exit();
  }
  int wait_for_exit() {
    int status = 0;
    REQUIRE(waitpid(pid, &status, 0) == pid);
    pid = -1;
    return status;
  }

  void tell(const v1::StoreCommand& command, FileDescriptor descriptor = {}) {
    OutgoingPacket packet = OutgoingPacket::make(command.SerializeAsString(), std::move(descriptor)).value();
    REQUIRE(packet.send(channel.number()) == OutgoingPacket::Sent::kYes);
  }

  // The next event that is not about usage; segments are mapped as they come.
  v1::StoreEvent next() {
    for (;;) {
      pollfd ready{channel.number(), POLLIN, 0};
      REQUIRE(poll(&ready, 1, kPatienceMs) == 1);
      Received received = receive_packet(channel.number()).value();
      REQUIRE(received.kind == Received::Kind::kPacket);
      v1::StoreEvent event;
      REQUIRE(event.ParseFromString(received.packet.frame));
      if (event.has_usage()) continue;
      if (!event.has_new_segment()) return event;
      const v1::NewSegment& made = event.new_segment();
      segments.emplace(
          made.segment(),
          plasma::SegmentMemory::adopt(std::move(received.packet.descriptor), made.size_bytes()).value());
    }
  }

  void hello(uint64_t segment_count = 0, uint64_t incarnation = 1) {
    v1::StoreCommand command;
    command.mutable_hello()->set_protocol_version(kStoreProtocolVersion);
    command.mutable_hello()->set_incarnation(incarnation);
    command.mutable_hello()->set_segments(segment_count);
    tell(command);
  }

  void ask(uint64_t slab, uint64_t size_bytes, uint64_t wait_ms_max = 0) {
    v1::StoreCommand command;
    v1::LeaseSlab* lease = command.mutable_lease_slab();
    lease->set_ticket(slab);
    lease->set_slab(slab);
    lease->set_session(1);
    lease->set_size_bytes(size_bytes);
    lease->set_wait_ms_max(wait_ms_max);
    tell(command);
  }

  v1::Location lease(uint64_t slab, uint64_t size_bytes) {
    ask(slab, size_bytes);
    v1::StoreEvent event = next();
    INFO(event.ShortDebugString());
    REQUIRE(event.has_leased());
    REQUIRE(event.leased().slab() == slab);
    return event.leased().location();
  }

  void seal(const ObjectId& id, uint64_t slab, uint64_t size_bytes, bool remakable = false) {
    v1::StoreCommand command;
    v1::SealObject* seal = command.mutable_batch()->add_seals();
    seal->set_id(id.binary());
    seal->set_slab(slab);
    seal->set_size_bytes(size_bytes);
    seal->set_remakable(remakable);
    tell(command);
  }

  char* bytes_at(const v1::Location& at) { return segments.at(at.segment()).data() + at.offset(); }

  v1::StoreUsage usage() {
    auto stub = v1::Store::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(kPatienceMs));
    v1::StoreUsage reply;
    grpc::Status status = stub->GetUsage(&context, {}, &reply);
    INFO(status.error_message());
    REQUIRE(status.ok());
    return reply;
  }

  std::string address;
  FileDescriptor channel;
  pid_t pid = -1;
  std::map<uint64_t, plasma::SegmentMemory> segments;
};

}  // namespace

TEST_CASE("what is written into a slab and sealed survives the store that leased it") {
  Directory directory;
  StoreProcess first(directory, 64 * kMiB);
  first.hello();
  REQUIRE(first.next().ready().capacity_bytes() == 64 * kMiB);
  v1::Location small = first.lease(1, 1000);
  v1::Location large = first.lease(2, 8 * kMiB);
  CHECK(large.offset() % 4096 == 0);
  std::strcpy(first.bytes_at(small), "small");
  std::memset(first.bytes_at(large), 'L', large.size_bytes());
  first.seal(object(1), 1, 512);
  first.seal(object(2), 2, 8 * kMiB);
  CHECK(first.usage().object_count() == 2);
  CHECK(WTERMSIG(first.stop(SIGKILL)) == SIGKILL);

  StoreProcess second(directory, 64 * kMiB);
  second.hello(first.segments.size(), 2);
  for (auto& [id, memory] : first.segments) {
    v1::StoreCommand adopt;
    adopt.mutable_adopt_segment()->set_segment(id);
    adopt.mutable_adopt_segment()->set_size_bytes(memory.size_bytes());
    second.tell(adopt, memory.duplicate());
  }
  v1::StoreCommand done;
  for (auto [task, at] : {std::pair(1, small), std::pair(2, large)}) {
    v1::SealedObject* sealed = done.mutable_adopt_done()->add_objects();
    sealed->set_id(object(task).binary());
    *sealed->mutable_location() = at;
    if (task == 1) sealed->mutable_location()->set_size_bytes(512);
  }
  v1::SlabLease* slab = done.mutable_adopt_done()->add_slabs();
  slab->set_slab(1);
  slab->set_session(1);
  *slab->mutable_location() = small;
  second.tell(done);
  v1::StoreEvent ready = second.next();
  INFO(ready.ShortDebugString());
  REQUIRE(ready.ready().incarnation() == 2);
  CHECK(second.usage().object_count() == 2);
  CHECK(second.usage().slab_bytes() == 512);

  // The bytes are the same memory, and what is leased from here on lies elsewhere.
  CHECK(std::strcmp(first.bytes_at(small), "small") == 0);
  CHECK(first.bytes_at(large)[8 * kMiB - 1] == 'L');
  v1::Location other = second.lease(3, kMiB);
  CHECK((other.segment() != large.segment() || other.offset() >= large.offset() + large.size_bytes() ||
         other.offset() + other.size_bytes() <= large.offset()));
  v1::StoreCommand seal_rest;
  v1::SealObject* seal = seal_rest.mutable_batch()->add_seals();
  seal->set_id(object(3).binary());
  seal->set_slab(1);
  seal->set_offset(512);
  seal->set_size_bytes(100);
  second.tell(seal_rest);
  CHECK(second.usage().object_count() == 3);
}

TEST_CASE("a store without a raylet ends by itself, and so does one that hears nonsense") {
  Directory directory;
  StoreProcess store(directory, 16 * kMiB);
  store.hello();
  REQUIRE(store.next().has_ready());
  SECTION("the raylet is gone") { store.channel = FileDescriptor(); }
  SECTION("the raylet sends no command") {
    OutgoingPacket packet = OutgoingPacket::make("\xff\xff not a frame").value();
    REQUIRE(packet.send(store.channel.number()) == OutgoingPacket::Sent::kYes);
  }
  int status = store.wait_for_exit();
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("SIGTERM stops a store cleanly") {
  Directory directory;
  StoreProcess store(directory, 16 * kMiB);
  store.hello();
  REQUIRE(store.next().has_ready());
  int status = store.stop(SIGTERM);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("a full store says so, and a freed object makes room for who waits") {
  Directory directory;
  StoreProcess store(directory, 16 * kMiB);
  store.hello();
  REQUIRE(store.next().has_ready());
  store.lease(1, 12 * kMiB);
  store.seal(object(1), 1, 12 * kMiB);
  store.ask(2, 17 * kMiB);
  CHECK(store.next().refused().failure().code() == v1::OBJECT_TOO_LARGE);
  store.ask(3, 8 * kMiB, 10);
  CHECK(store.next().refused().failure().code() == v1::OBJECT_STORE_FULL);
  store.ask(4, 8 * kMiB, 60'000);
  v1::StoreCommand free;
  free.mutable_batch()->set_freed(object(1).binary());
  store.tell(free);
  CHECK(store.next().leased().slab() == 4);
}

TEST_CASE("an object that can be made again is asked back before it goes") {
  Directory directory;
  StoreProcess store(directory, 16 * kMiB);
  store.hello();
  REQUIRE(store.next().has_ready());
  store.lease(1, 12 * kMiB);
  store.seal(object(1), 1, 12 * kMiB, true);
  store.ask(2, 12 * kMiB, 60'000);
  v1::StoreEvent evicted = store.next();
  REQUIRE(evicted.evicted().ids() == object(1).binary());
  CHECK(store.usage().object_count() == 1);
  v1::StoreCommand agree;
  agree.mutable_batch()->set_freed(object(1).binary());
  store.tell(agree);
  CHECK(store.next().leased().slab() == 2);
}

TEST_CASE("a command that makes no sense is complained about") {
  Directory directory;
  StoreProcess store(directory, 16 * kMiB);
  store.hello();
  REQUIRE(store.next().has_ready());
  store.seal(object(1), 99, 64);
  CHECK_THAT(store.next().complaint().text(), Catch::Contains("no such slab"));
  store.lease(1, 64);
}

}  // namespace raylet
