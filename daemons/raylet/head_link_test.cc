#include "daemons/raylet/head_link.h"

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <mutex>
#include <optional>

#include "daemons/kit/asio.h"
#include "protocol/wire/head.grpc.pb.h"
#include "protocol/wire/session.pb.h"

namespace raylet {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// A head that writes down what it is asked, and answers as the test tells it to.
class FakeHead final : public v1::Head::Service {
 public:
  explicit FakeHead(std::string address) : address_(std::move(address)) { start(); }
  ~FakeHead() override { stop(); }

  void start() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address_, grpc::InsecureServerCredentials());
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    REQUIRE(server_);
  }
  void stop() {
    if (!server_) return;
    server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
  }
  std::vector<std::string> asked() {
    std::lock_guard lock(mutex_);
    return asked_;
  }
  size_t count(const std::string& what) {
    std::vector<std::string> all = asked();
    return static_cast<size_t>(std::count(all.begin(), all.end(), what));
  }
  void refuse_next(int count) {
    std::lock_guard lock(mutex_);
    refusals_ = count;
  }
  void say_next_heartbeat(v1::HeartbeatReply reply) {
    std::lock_guard lock(mutex_);
    heartbeat_ = std::move(reply);
  }
  v1::HeartbeatRequest last_heartbeat() {
    std::lock_guard lock(mutex_);
    return last_heartbeat_;
  }
  void fail_next_registration(v1::ErrorCode code) {
    std::lock_guard lock(mutex_);
    registration_failure_ = code;
  }

  using Context = grpc::ServerContext;
  grpc::Status RegisterNode(Context*, const v1::RegisterNodeRequest*, v1::RegisterNodeReply* reply) override {
    std::lock_guard lock(mutex_);
    asked_.push_back("node");
    reply->set_cluster(std::string(16, 'c'));
    reply->set_epoch(7);
    reply->set_heartbeat_ms(20);
    if (registration_failure_ != v1::ERROR_NONE) reply->mutable_failure()->set_code(registration_failure_);
    return grpc::Status::OK;
  }
  grpc::Status Heartbeat(Context*, const v1::HeartbeatRequest* request, v1::HeartbeatReply* reply) override {
    std::lock_guard lock(mutex_);
    last_heartbeat_ = *request;
    reply->set_epoch(7);
    if (heartbeat_) *reply = *std::exchange(heartbeat_, std::nullopt);
    return grpc::Status::OK;
  }
  grpc::Status LeaveNode(Context*, const v1::LeaveNodeRequest*, v1::LeaveNodeReply*) override {
    return note("leave");
  }
  grpc::Status RegisterJob(Context*, const v1::RegisterJobRequest* request, v1::RegisterJobReply* reply) override {
    if (request->info().script() == "unwanted") reply->mutable_failure()->set_code(v1::LIMIT_EXCEEDED);
    return note("job");
  }
  grpc::Status EndJob(Context*, const v1::EndJobRequest*, v1::EndJobReply*) override { return note("end job"); }
  grpc::Status RecordGraph(Context*, const v1::RecordGraphRequest* request, v1::RecordGraphReply*) override {
    v1::GraphChunk chunk;
    if (!chunk.ParseFromString(request->record())) return {grpc::StatusCode::INVALID_ARGUMENT, "not a chunk"};
    return note("part " + std::to_string(request->part()));
  }
  grpc::Status EndGraph(Context*, const v1::EndGraphRequest*, v1::EndGraphReply*) override {
    return note("end graph");
  }
  grpc::Status RegisterName(Context*, const v1::RegisterNameRequest* request,
                            v1::RegisterNameReply* reply) override {
    if (request->name() == "taken") {
      reply->mutable_failure()->set_code(v1::ACTOR_NAME_TAKEN);
      reply->set_holder(ObjectId{{9, 9}, 1, 0}.binary());
    }
    return note("name");
  }
  grpc::Status FindName(Context*, const v1::FindNameRequest*, v1::FindNameReply* reply) override {
    reply->set_found(true);
    reply->set_actor(ObjectId{{9, 9}, 1, 0}.binary());
    reply->set_handle("handle");
    return note("find");
  }
  grpc::Status ForgetName(Context*, const v1::ForgetNameRequest*, v1::ForgetNameReply*) override {
    return note("forget name");
  }

 private:
  grpc::Status note(std::string what) {
    std::lock_guard lock(mutex_);
    if (refusals_ > 0) {
      --refusals_;
      return {grpc::StatusCode::UNAVAILABLE, "not now"};
    }
    asked_.push_back(std::move(what));
    return grpc::Status::OK;
  }

  std::string address_;
  std::unique_ptr<grpc::Server> server_;
  std::mutex mutex_;
  std::vector<std::string> asked_;
  int refusals_ = 0;
  std::optional<v1::HeartbeatReply> heartbeat_;
  v1::HeartbeatRequest last_heartbeat_;
  v1::ErrorCode registration_failure_ = v1::ERROR_NONE;
};

const JobId kJob{2, 2};
const GraphId kGraph{3, 3};
const ObjectId kActor{{4, 4}, 0, 0};

struct Fixture {
  std::string address = "unix:/tmp/raylet-head-link-test-" + std::to_string(getpid()) + ".sock";
  Loop loop;
  std::optional<FakeHead> head;
  std::vector<Event> events;
  std::string stale;
  std::optional<HeadLink> link;
  uint64_t last_ticket = 0;

  explicit Fixture(bool with_head = true) {
    if (with_head) head.emplace(address);
    HeadLink::Options options;
    options.address = address;
    options.self.node = {1, 1};
    options.self.incarnation = {1};
    link.emplace(loop, options,
                 HeadLink::Handlers{[this](Event event) { events.push_back(std::move(event)); },
                                    [] { return HeadLink::Usage{}; },
                                    [this](std::string reason) { stale = reason + "."; }});
  }
  // Runs the loop until it is so. A test that hangs here is stopped by its time limit.
  void until(const std::function<bool()>& so) {
    while (!so()) loop.io().run_one_for(milliseconds(10));
  }
  void run_for(Duration time) {
    auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) loop.io().run_one_until(end);
  }
  Ticket persist(Record record) {
    Ticket ticket{++last_ticket};
    link->persist({ticket, std::move(record)});
    return ticket;
  }
  void until_answered(size_t count) {
    until([&] { return events.size() >= count; });
  }
  Persisted answer(size_t index) { return std::get<Persisted>(events.at(index)); }
};

RecordJob job() { return {kJob, "script.py", 5}; }
RecordGraph part(uint32_t number, bool last = false) {
  auto chunk = std::make_shared<GraphChunk>();
  chunk->graph = kGraph;
  chunk->wire_bytes = 10;
  return {kGraph, kJob, number, last, chunk};
}

TEST_CASE("a job is recorded before its graphs, and all are answered") {
  Fixture f;
  f.persist(job());
  f.persist(part(0));
  f.persist(part(1, true));
  f.persist(RecordName{"counter", "ns", kActor, kJob, false, make_bytes("h")});
  f.until_answered(4);
  std::vector<std::string> asked = f.head->asked();
  REQUIRE(asked.size() == 5);
  REQUIRE(asked[0] == "node");
  REQUIRE(asked[1] == "job");
  for (size_t i = 0; i < 4; ++i) REQUIRE(f.answer(i).failure.code == FailureCode::kNone);
  REQUIRE(f.link->report().connected);
  REQUIRE(f.link->report().epoch == 7);
  REQUIRE(f.link->report().waiting_bytes == 0);
}

TEST_CASE("what can't be done now is tried again until it is done") {
  Fixture f;
  f.head->refuse_next(5);
  f.persist(job());
  f.persist(part(0, true));
  f.until_answered(2);
  REQUIRE(f.head->count("job") == 1);
  REQUIRE(f.head->count("part 0") == 1);
  REQUIRE(f.link->report().retries_total >= 5);
}

TEST_CASE("while no head is there everything waits, and goes when it comes, also the second time") {
  Fixture f(false);
  f.persist(job());
  f.persist(part(0, true));
  f.until([&] { return f.link->report().retries_total >= 2; });
  REQUIRE_FALSE(f.link->report().connected);
  REQUIRE(f.link->report().waiting_count == 2);
  f.head.emplace(f.address);
  f.until_answered(2);
  f.head->stop();
  f.persist(ForgetGraph{kGraph});
  f.until([&] { return !f.link->report().connected; });
  f.head->start();
  f.until_answered(3);
  REQUIRE(f.head->count("end graph") == 1);
}

TEST_CASE("a graph that ends before its record leaves never reaches the head") {
  Fixture f(false);
  f.persist(job());
  f.persist(part(0));
  f.persist(part(1, true));
  f.persist(ForgetGraph{kGraph});
  f.until_answered(3);
  f.head.emplace(f.address);
  f.until_answered(4);
  REQUIRE(f.head->asked() == std::vector<std::string>{"node", "job"});
}

TEST_CASE("a job that ends takes what was not yet sent with it, and comes last") {
  Fixture f;
  f.persist(job());
  f.until_answered(1);
  f.persist(part(0, true));
  f.until_answered(2);
  f.persist(part(1));
  f.persist(RecordName{"counter", "ns", kActor, kJob, false, nullptr});
  f.persist(ForgetJob{kJob});
  f.until_answered(5);
  REQUIRE(f.head->asked() == std::vector<std::string>{"node", "job", "part 0", "end job"});
  f.until(
      [&] { return f.head->last_heartbeat().jobs_size() == 0 && f.head->last_heartbeat().graphs_size() == 0; });
}

TEST_CASE("a driver that comes back while its job is ending is registered after the end") {
  Fixture f;
  f.persist(job());
  f.until_answered(1);
  f.persist(ForgetJob{kJob});
  f.persist(job());
  f.persist(part(0, true));
  f.until_answered(4);
  REQUIRE(f.head->asked() == std::vector<std::string>{"node", "job", "end job", "job", "part 0"});
  f.until([&] { return f.head->last_heartbeat().jobs_size() == 1; });
}

TEST_CASE("heartbeats name the jobs and the recorded graphs of the node") {
  Fixture f;
  f.persist(job());
  f.persist(part(0, true));
  f.until_answered(2);
  f.until(
      [&] { return f.head->last_heartbeat().jobs_size() == 1 && f.head->last_heartbeat().graphs_size() == 1; });
  REQUIRE(f.head->last_heartbeat().jobs(0) == kJob.binary());
  REQUIRE(f.head->last_heartbeat().graphs(0) == kGraph.binary());
}

TEST_CASE("a heartbeat says which answer of the head its sender had heard") {
  Fixture f;
  v1::HeartbeatReply reply;
  reply.set_moment(41);
  f.head->say_next_heartbeat(reply);
  f.until([&] { return f.head->last_heartbeat().heard_moment() == 41; });
}

TEST_CASE("a head that forgot the node or a job is told again") {
  Fixture f;
  f.persist(job());
  f.until_answered(1);
  v1::HeartbeatReply reply;
  reply.set_register_again(true);
  f.head->say_next_heartbeat(reply);
  f.until([&] { return f.head->count("node") == 2; });
  reply.Clear();
  reply.add_ended_jobs(kJob.binary());
  f.head->say_next_heartbeat(reply);
  f.until([&] { return f.head->count("job") == 2; });
  REQUIRE(f.events.size() == 1);
}

TEST_CASE("a name that is taken is answered with who has it") {
  Fixture f;
  f.persist(job());
  f.persist(RecordName{"taken", "ns", kActor, kJob, false, nullptr});
  f.until_answered(2);
  REQUIRE(f.answer(1).failure.code == FailureCode::kActorNameTaken);
  REQUIRE(f.answer(1).name_holder == ObjectId{{9, 9}, 1, 0});
}

TEST_CASE("wishes about one name go one after the other") {
  Fixture f;
  f.persist(job());
  f.persist(RecordName{"counter", "ns", kActor, kJob, false, nullptr});
  f.persist(ForgetName{"counter", "ns", kActor});
  f.link->find_name({Ticket{50}, "counter", "ns"});
  f.until_answered(4);
  REQUIRE(f.head->asked() == std::vector<std::string>{"node", "job", "name", "forget name", "find"});
  NameFound found = std::get<NameFound>(f.events.at(3));
  REQUIRE(found.found);
  REQUIRE(found.ticket == Ticket{50});
  REQUIRE(*found.handle == "handle");
}

TEST_CASE("what belongs to a job that the head does not want is refused with it") {
  Fixture f;
  f.persist(RecordJob{kJob, "unwanted", 5});
  f.persist(part(0, true));
  f.until_answered(2);
  REQUIRE(f.answer(0).failure.code == FailureCode::kLimitExceeded);
  REQUIRE(f.answer(1).failure.code == FailureCode::kLimitExceeded);
  REQUIRE(f.head->count("part 0") == 0);
}

TEST_CASE("a life that is not the newest is told to stop and says nothing more") {
  Fixture f(false);
  f.head.emplace(f.address);
  f.head->fail_next_registration(v1::REQUEST_INVALID);
  f.persist(job());
  f.until([&] { return !f.stale.empty(); });
  f.run_for(milliseconds(200));
  REQUIRE(f.head->asked() == std::vector<std::string>{"node"});
}

TEST_CASE("leaving comes after what must last") {
  Fixture f;
  f.persist(job());
  f.persist(part(0, true));
  bool left = false;
  f.link->leave(seconds(20), [&] { left = true; });
  f.until([&] { return left; });
  REQUIRE(f.head->asked() == std::vector<std::string>{"node", "job", "part 0", "leave"});
  REQUIRE(f.events.size() == 2);
}

TEST_CASE("leaving without a head ends after the given time") {
  Fixture f(false);
  f.persist(job());
  bool left = false;
  f.link->leave(milliseconds(50), [&] { left = true; });
  f.until([&] { return left; });
  REQUIRE(f.events.empty());
}

TEST_CASE("a link that is destroyed with calls under way leaves nothing behind") {
  Fixture f;
  for (int i = 0; i < 100; ++i) f.persist(RecordJob{{8, static_cast<uint64_t>(i + 1)}, "s", 1});
  f.until_answered(1);
  f.link.reset();
  size_t answered = f.events.size();
  f.run_for(milliseconds(50));
  REQUIRE(f.events.size() == answered);
}

}  // namespace
}  // namespace raylet
