#include "gcs/cluster.h"

#include <catch2/catch.hpp>
#include <optional>

namespace raylet {
namespace {

using std::chrono::seconds;

// A head whose disk acknowledges when the test says so.
class Head {
 public:
  explicit Head(ClusterOptions options = {}) : options_(options), cluster_(std::make_unique<Cluster>(options)) {}

  // The answer, if it came in this very step.
  std::optional<Answer> ask(HeadEvent event) {
    CallId call{++last_call_};
    std::visit(
        [&](auto& which) {
          if constexpr (requires { which.call; }) which.call = call;
        },
        event);
    step(std::move(event));
    return answer_to(call);
  }
  // The answer after everything was written.
  Answer ask_and_write(HeadEvent event) {
    std::optional<Answer> answer = ask(std::move(event));
    if (!answer) {
      write_all();
      answer = answer_to(CallId{last_call_});
    }
    REQUIRE(answer);
    return *answer;
  }
  void step(HeadEvent event) {
    effects_.clear();
    cluster_->step(now_, std::span(&event, 1), effects_);
    cluster_->validate();
    for (HeadEffect& effect : effects_) {
      if (auto* persist = std::get_if<PersistWrites>(&effect)) waiting_.push_back(*persist);
      if (auto* reply = std::get_if<HeadReply>(&effect)) answers_[reply->call] = reply->answer;
      if (auto* changed = std::get_if<ViewChanged>(&effect)) changes_.push_back(changed->part);
    }
  }
  void write_all() {
    while (!waiting_.empty()) {
      PersistWrites batch = waiting_.front();
      waiting_.erase(waiting_.begin());
      for (const Write& write : batch.writes) {
        if (write.value) {
          disk_[{write.table, write.key}] = write.value;
        } else {
          disk_.erase({write.table, write.key});
        }
      }
      step(WritesPersisted{batch.ticket});
    }
  }
  void pass(Duration by) {
    now_ = now_ + by;
    step(HeadTick{});
  }
  std::optional<Answer> answer_to(CallId call) {
    auto at = answers_.find(call);
    return at == answers_.end() ? std::nullopt : std::optional(at->second);
  }
  CallId last_call() const { return {last_call_}; }
  std::vector<StoredRecord> disk() const {
    std::vector<StoredRecord> records;
    for (const auto& [key, value] : disk_) records.push_back({key.first, key.second, value});
    return records;
  }

  Cluster& cluster() { return *cluster_; }
  std::vector<ViewPart> take_changes() { return std::exchange(changes_, {}); }
  size_t waiting_batches() const { return waiting_.size(); }

 private:
  ClusterOptions options_;
  std::unique_ptr<Cluster> cluster_;
  Instant now_;
  uint64_t last_call_ = 0;
  std::vector<HeadEffect> effects_;
  std::vector<PersistWrites> waiting_;
  std::vector<ViewPart> changes_;
  std::map<CallId, Answer> answers_;
  std::map<std::pair<Table, std::string>, Bytes> disk_;
};

const NodeId kNode{1, 1};
const JobId kJob{2, 2};
const GraphId kGraph{3, 3};
const ObjectId kActor{{4, 4}, 0, 0};

NodeRecord node(NodeId id = kNode, uint64_t incarnation = 1) {
  NodeRecord record;
  record.node = id;
  record.incarnation = {incarnation};
  record.host = "here";
  record.address = "unix:/tmp/raylet.grpc";
  REQUIRE(record.total.set("CPU", 2).ok());
  return record;
}
JobRecord job(JobId id = kJob) { return {id, kNode, "script.py", 77}; }
GraphPartRecord part(uint32_t number, bool last, std::string chunk = "chunk", GraphId graph = kGraph) {
  return {graph, kJob, kNode, Incarnation{1}, number, last, std::move(chunk)};
}
NameRecord name(ObjectId actor = kActor, bool detached = false) {
  return {"ns", "counter", actor, kJob, kNode, detached, "handle"};
}
HeartbeatCame heartbeat(uint64_t incarnation = 1, std::vector<JobId> jobs = {kJob},
                        std::vector<GraphId> graphs = {}, uint64_t heard_moment = 0) {
  return {{}, kNode, Incarnation{incarnation}, node().total, 0, std::move(jobs), std::move(graphs), heard_moment};
}

template <typename T>
bool is(const std::optional<Answer>& answer) {
  return answer && std::holds_alternative<T>(*answer);
}
Refused refused(const std::optional<Answer>& answer) {
  REQUIRE(is<Refused>(answer));
  return std::get<Refused>(*answer);
}

Head head_with_job() {
  Head head;
  REQUIRE(is<NodeAccepted>(head.ask_and_write(NodeRegistered{{}, node()})));
  REQUIRE(is<Acknowledged>(head.ask_and_write(JobRegistered{{}, job()})));
  return head;
}

TEST_CASE("nothing durable is acknowledged before it is on disk") {
  Head head;
  REQUIRE_FALSE(head.ask(NodeRegistered{{}, node()}));
  head.write_all();
  REQUIRE(is<NodeAccepted>(head.answer_to(head.last_call())));
  REQUIRE_FALSE(head.ask(JobRegistered{{}, job()}));
  REQUIRE_FALSE(head.ask(GraphPartCame{{}, part(0, true)}));
  REQUIRE_FALSE(head.ask(NameRegistered{{}, name()}));
  REQUIRE_FALSE(head.ask(JobEnded{{}, kJob}));
  head.write_all();
  REQUIRE(is<Acknowledged>(head.answer_to(head.last_call())));
}

TEST_CASE("what a question's answer rests on is on disk before it is given") {
  Head head = head_with_job();
  REQUIRE_FALSE(head.ask(NameRegistered{{}, name()}));
  REQUIRE_FALSE(head.ask(NameAsked{{}, "ns", "counter"}));
  head.write_all();
  REQUIRE(std::get<NameAnswer>(*head.answer_to(head.last_call())).actor == kActor);
}

TEST_CASE("a heartbeat is answered while the disk is away") {
  Head head = head_with_job();
  REQUIRE_FALSE(head.ask(GraphPartCame{{}, part(0, true)}));
  REQUIRE(is<HeartbeatAnswer>(head.ask(heartbeat())));
}

TEST_CASE("the writes of one step go to disk together") {
  Head head = head_with_job();
  std::vector<HeadEvent> events{GraphPartCame{CallId{100}, part(0, false)},
                                GraphPartCame{CallId{101}, part(1, true)},
                                NameRegistered{CallId{102}, name()}};
  std::vector<HeadEffect> effects;
  head.cluster().step({}, events, effects);
  REQUIRE(effects.size() == 1);
  REQUIRE(std::get<PersistWrites>(effects[0]).writes.size() == 3);
}

TEST_CASE("everything may be asked twice") {
  Head head = head_with_job();
  for (int time = 0; time < 2; ++time) {
    REQUIRE(is<NodeAccepted>(head.ask_and_write(NodeRegistered{{}, node()})));
    REQUIRE(is<Acknowledged>(head.ask_and_write(JobRegistered{{}, job()})));
    REQUIRE(is<Acknowledged>(head.ask_and_write(GraphPartCame{{}, part(0, true)})));
    REQUIRE(is<Acknowledged>(head.ask_and_write(NameRegistered{{}, name()})));
  }
  REQUIRE(head.disk().size() == 4);
  for (int time = 0; time < 2; ++time) {
    REQUIRE(is<Acknowledged>(head.ask_and_write(NameForgotten{{}, "ns", "counter", kActor})));
    REQUIRE(is<Acknowledged>(head.ask_and_write(GraphEnded{{}, kGraph})));
    REQUIRE(is<Acknowledged>(head.ask_and_write(JobEnded{{}, kJob})));
    REQUIRE(is<Acknowledged>(head.ask_and_write(NodeLeft{{}, kNode, {1}})));
  }
  REQUIRE(head.disk().empty());
}

TEST_CASE("the same id with another body is refused and changes nothing") {
  Head head = head_with_job();
  REQUIRE(is<Acknowledged>(head.ask_and_write(GraphPartCame{{}, part(0, true)})));
  std::vector<StoredRecord> before = head.disk();

  NodeRecord other_node = node();
  other_node.address = "unix:/elsewhere";
  REQUIRE(refused(head.ask_and_write(NodeRegistered{{}, other_node})).code == Code::kAlreadyExists);
  JobRecord other_job = job();
  other_job.pid = 78;
  REQUIRE(refused(head.ask_and_write(JobRegistered{{}, other_job})).code == Code::kAlreadyExists);
  REQUIRE(refused(head.ask_and_write(GraphPartCame{{}, part(0, true, "other")})).code == Code::kAlreadyExists);
  REQUIRE(refused(head.ask_and_write(GraphPartCame{{}, part(1, true)})).code == Code::kAlreadyExists);
  REQUIRE(head.disk().size() == before.size());
}

TEST_CASE("a later life of a node replaces the earlier one, which is refused from then on") {
  Head head = head_with_job();
  REQUIRE(is<NodeAccepted>(head.ask_and_write(NodeRegistered{{}, node(kNode, 2)})));
  Refused stale = refused(head.ask(NodeRegistered{{}, node(kNode, 1)}));
  REQUIRE(stale.code == Code::kFailedPrecondition);
  REQUIRE(std::get<HeartbeatAnswer>(*head.ask(heartbeat(1))).register_again);
  REQUIRE(refused(head.ask(GraphPartCame{{}, part(0, true)})).code == Code::kFailedPrecondition);
  REQUIRE(is<Acknowledged>(head.ask_and_write(NodeLeft{{}, kNode, {1}})));
  REQUIRE(head.cluster().report().node_count == 1);
}

TEST_CASE("a life that was given up may come back, an earlier one may not") {
  Head head;
  REQUIRE(is<NodeAccepted>(head.ask_and_write(NodeRegistered{{}, node(kNode, 5)})));
  head.pass(seconds(11));
  head.write_all();
  REQUIRE(head.cluster().report().node_count == 0);
  REQUIRE(refused(head.ask_and_write(NodeRegistered{{}, node(kNode, 4)})).code == Code::kFailedPrecondition);
  REQUIRE(is<NodeAccepted>(head.ask_and_write(NodeRegistered{{}, node(kNode, 5)})));
}

TEST_CASE("a silent node is suspect, then dead, and a heartbeat in between clears it") {
  Head head = head_with_job();
  head.pass(seconds(4));
  REQUIRE(head.cluster().report().suspect_count == 1);
  REQUIRE(is<HeartbeatAnswer>(head.ask(heartbeat())));
  REQUIRE(head.cluster().report().suspect_count == 0);
  head.pass(seconds(9));
  REQUIRE(head.cluster().report().node_count == 1);
  head.pass(seconds(1));
  REQUIRE(head.cluster().report().node_count == 0);
  REQUIRE(std::get<HeartbeatAnswer>(*head.ask(heartbeat())).register_again);
}

TEST_CASE("a restarted head gives every node and job a full lease") {
  Head head = head_with_job();
  Cluster restarted(ClusterOptions{.epoch = 2});
  Instant late{std::chrono::nanoseconds(seconds(3600)).count()};
  REQUIRE(restarted.load(late, head.disk()).loaded_count == 2);
  std::vector<HeadEffect> effects;
  HeadEvent tick = HeadTick{};
  restarted.step(late + seconds(9), std::span(&tick, 1), effects);
  REQUIRE(restarted.report().node_count == 1);
  restarted.step(late + seconds(29), std::span(&tick, 1), effects);
  REQUIRE(restarted.report().job_count == 1);
  restarted.step(late + seconds(31), std::span(&tick, 1), effects);
  REQUIRE(restarted.report().node_count == 0);
  REQUIRE(restarted.report().job_count == 0);
}

TEST_CASE("a job whose driver's node falls silent ends with its lease and leaves nothing behind") {
  Head head = head_with_job();
  REQUIRE(is<Acknowledged>(head.ask_and_write(GraphPartCame{{}, part(0, true)})));
  REQUIRE(is<Acknowledged>(head.ask_and_write(NameRegistered{{}, name()})));
  for (int second = 0; second < 60; ++second) {
    head.pass(seconds(1));
    REQUIRE(std::get<HeartbeatAnswer>(*head.ask(heartbeat(1, {kJob}, {kGraph}))).unknown_jobs.empty());
  }
  head.pass(seconds(31));
  head.write_all();
  REQUIRE(head.disk().empty());
}

TEST_CASE("a heartbeat is told which of its jobs nobody knows") {
  Head head = head_with_job();
  JobId unknown{9, 9};
  HeartbeatAnswer answer = std::get<HeartbeatAnswer>(*head.ask(heartbeat(1, {kJob, unknown})));
  REQUIRE(answer.unknown_jobs == std::vector<JobId>{unknown});
}

TEST_CASE("a graph that its owner, having heard from the head since, does not name is a leftover and is dropped") {
  Head head = head_with_job();
  REQUIRE(is<Acknowledged>(head.ask_and_write(GraphPartCame{{}, part(0, true)})));
  uint64_t moment = std::get<HeartbeatAnswer>(*head.ask(heartbeat())).moment;
  REQUIRE(head.cluster().report().graph_count == 1);
  head.ask(heartbeat(1, {kJob}, {kGraph}, moment));
  REQUIRE(head.cluster().report().graph_count == 1);
  head.ask(heartbeat(1, {kJob}, {}, moment));
  REQUIRE(head.cluster().report().graph_count == 0);
}

TEST_CASE("heartbeats from before a graph was recorded take nothing of it away, however late and many they come") {
  Head head = head_with_job();
  HeartbeatCame earlier = heartbeat(1, {kJob}, {}, std::get<HeartbeatAnswer>(*head.ask(heartbeat())).moment);
  REQUIRE(is<Acknowledged>(head.ask_and_write(GraphPartCame{{}, part(0, true)})));
  for (int i = 0; i < 10; ++i) head.ask(earlier);
  REQUIRE(head.cluster().report().graph_count == 1);
  Cluster restarted(ClusterOptions{.epoch = 2});
  restarted.load({}, head.disk());
  std::vector<HeadEffect> effects;
  HeadEvent event = earlier;
  restarted.step({}, std::span(&event, 1), effects);
  REQUIRE(restarted.report().graph_count == 1);
}

TEST_CASE("parts of a graph may come in any order, and it is complete with the last of them") {
  Head head = head_with_job();
  auto complete = [&] {
    return std::get<GraphList>(head.ask_and_write(GraphsAsked{{}, kJob})).graphs.at(0).complete;
  };
  REQUIRE(is<Acknowledged>(head.ask_and_write(GraphPartCame{{}, part(2, true)})));
  REQUIRE_FALSE(complete());
  REQUIRE(is<Acknowledged>(head.ask_and_write(GraphPartCame{{}, part(0, false)})));
  REQUIRE_FALSE(complete());
  REQUIRE(is<Acknowledged>(head.ask_and_write(GraphPartCame{{}, part(1, false)})));
  REQUIRE(complete());
}

TEST_CASE("a graph that a dead life recorded may be recorded again by the next") {
  Head head = head_with_job();
  REQUIRE(is<Acknowledged>(head.ask_and_write(GraphPartCame{{}, part(0, false, "old")})));
  REQUIRE(is<Acknowledged>(head.ask_and_write(GraphPartCame{{}, part(1, true, "old")})));
  REQUIRE(is<NodeAccepted>(head.ask_and_write(NodeRegistered{{}, node(kNode, 2)})));
  GraphPartRecord again = part(0, true, "again");
  again.owner_incarnation = {2};
  REQUIRE(is<Acknowledged>(head.ask_and_write(GraphPartCame{{}, again})));
  GraphList list = std::get<GraphList>(head.ask_and_write(GraphsAsked{{}, kJob}));
  REQUIRE(list.graphs.at(0).parts == 1);
  REQUIRE(head.disk().size() == 3);
}

TEST_CASE("the first actor has a name, the second is told who has it") {
  Head head = head_with_job();
  REQUIRE(is<Acknowledged>(head.ask_and_write(NameRegistered{{}, name()})));
  ObjectId second{{5, 5}, 0, 0};
  Refused taken = refused(head.ask_and_write(NameRegistered{{}, name(second)}));
  REQUIRE(taken.failure == FailureCode::kActorNameTaken);
  REQUIRE(taken.holder == kActor);
  REQUIRE(is<Acknowledged>(head.ask_and_write(NameForgotten{{}, "ns", "counter", second})));
  REQUIRE(std::get<NameAnswer>(head.ask_and_write(NameAsked{{}, "ns", "counter"})).actor == kActor);
  REQUIRE(is<Acknowledged>(head.ask_and_write(NameForgotten{{}, "ns", "counter", kActor})));
  REQUIRE_FALSE(std::get<NameAnswer>(head.ask_and_write(NameAsked{{}, "ns", "counter"})).found);
  REQUIRE(is<Acknowledged>(head.ask_and_write(NameRegistered{{}, name(second)})));
}

TEST_CASE("a name ends with its job unless it is detached, and with its node in any case") {
  for (bool detached : {false, true}) {
    Head head = head_with_job();
    REQUIRE(is<Acknowledged>(head.ask_and_write(NameRegistered{{}, name(kActor, detached)})));
    REQUIRE(is<Acknowledged>(head.ask_and_write(JobEnded{{}, kJob})));
    REQUIRE(std::get<NameAnswer>(head.ask_and_write(NameAsked{{}, "ns", "counter"})).found == detached);
    REQUIRE(is<Acknowledged>(head.ask_and_write(NodeLeft{{}, kNode, {1}})));
    REQUIRE(head.disk().empty());
  }
}

TEST_CASE("what rests on a node or job that the head does not know is told to come later") {
  Head head;
  REQUIRE(refused(head.ask(JobRegistered{{}, job()})).code == Code::kUnavailable);
  REQUIRE(is<NodeAccepted>(head.ask_and_write(NodeRegistered{{}, node()})));
  REQUIRE(refused(head.ask(GraphPartCame{{}, part(0, true)})).code == Code::kUnavailable);
  REQUIRE(refused(head.ask(NameRegistered{{}, name()})).code == Code::kUnavailable);
}

TEST_CASE("while the disk is behind by more than the limit more is told to come later and ends are taken") {
  ClusterOptions options;
  options.unwritten_bytes_max = 1'000;
  Head head(options);
  REQUIRE(is<NodeAccepted>(head.ask_and_write(NodeRegistered{{}, node()})));
  REQUIRE(is<Acknowledged>(head.ask_and_write(JobRegistered{{}, job()})));
  REQUIRE_FALSE(head.ask(GraphPartCame{{}, part(0, false, std::string(2'000, 'x'))}));
  REQUIRE(refused(head.ask(GraphPartCame{{}, part(1, true)})).code == Code::kUnavailable);
  REQUIRE_FALSE(head.ask(GraphEnded{{}, kGraph}));
  head.write_all();
  REQUIRE(is<Acknowledged>(head.answer_to(head.last_call())));
  REQUIRE(head.cluster().report().unwritten_bytes == 0);
  REQUIRE(is<Acknowledged>(head.ask_and_write(GraphPartCame{{}, part(1, true)})));
}

TEST_CASE("tables have their limits and say so") {
  ClusterOptions options;
  options.node_count_max = 1;
  options.job_count_max = 1;
  options.name_count_max = 1;
  options.record_bytes_max = 100;
  options.graph_bytes_max = 200;
  Head head(options);
  REQUIRE(is<NodeAccepted>(head.ask_and_write(NodeRegistered{{}, node()})));
  REQUIRE(refused(head.ask(NodeRegistered{{}, node({7, 7})})).failure == FailureCode::kLimitExceeded);
  REQUIRE(is<Acknowledged>(head.ask_and_write(JobRegistered{{}, job()})));
  REQUIRE(refused(head.ask(JobRegistered{{}, job({7, 7})})).failure == FailureCode::kLimitExceeded);
  REQUIRE(refused(head.ask(GraphPartCame{{}, part(0, true, std::string(101, 'x'))})).failure ==
          FailureCode::kLimitExceeded);
  REQUIRE(is<Acknowledged>(head.ask_and_write(GraphPartCame{{}, part(0, false, std::string(100, 'x'))})));
  REQUIRE(refused(head.ask(GraphPartCame{{}, part(1, true, std::string(100, 'x'))})).failure ==
          FailureCode::kLimitExceeded);
  REQUIRE(is<Acknowledged>(head.ask_and_write(NameRegistered{{}, name()})));
  NameRecord another = name();
  another.name = "another";
  REQUIRE(refused(head.ask(NameRegistered{{}, another})).failure == FailureCode::kLimitExceeded);
}

TEST_CASE("a reader of the view gets what changed, and the snapshot when it is too far behind") {
  ClusterOptions options;
  options.view_history_max = 3;
  Head head(options);
  auto view = [&](uint64_t known) { return std::get<ViewPart>(*head.ask(ViewAsked{{}, known})); };
  ViewPart first = view(0);
  REQUIRE(first.is_snapshot);
  REQUIRE(is<NodeAccepted>(head.ask_and_write(NodeRegistered{{}, node()})));
  REQUIRE(is<NodeAccepted>(head.ask_and_write(NodeRegistered{{}, node({7, 7})})));
  ViewPart delta = view(first.version);
  REQUIRE_FALSE(delta.is_snapshot);
  REQUIRE(delta.nodes.size() == 2);
  REQUIRE(view(delta.version).nodes.empty());
  REQUIRE(is<Acknowledged>(head.ask_and_write(NodeLeft{{}, kNode, {1}})));
  ViewPart gone = view(delta.version);
  REQUIRE(gone.nodes.size() == 1);
  REQUIRE_FALSE(gone.nodes[0].alive);
  REQUIRE(gone.nodes[0].node.incarnation == Incarnation{1});
  for (uint64_t life = 2; life < 6; ++life) {
    REQUIRE(is<NodeAccepted>(head.ask_and_write(NodeRegistered{{}, node(kNode, life)})));
  }
  REQUIRE(view(delta.version).is_snapshot);
  REQUIRE(view(delta.version).nodes.size() == 2);
  REQUIRE(view(view(0).version + 1).is_snapshot);
}

TEST_CASE("a watcher gets a snapshot, then changes, one at a time and none lost") {
  Head head;
  WatchId watch{1};
  head.step(WatchOpened{watch, 0});
  std::vector<ViewPart> parts = head.take_changes();
  REQUIRE(parts.size() == 1);
  uint64_t version = parts[0].version;
  REQUIRE(is<NodeAccepted>(head.ask_and_write(NodeRegistered{{}, node()})));
  REQUIRE(is<NodeAccepted>(head.ask_and_write(NodeRegistered{{}, node({7, 7})})));
  REQUIRE(head.take_changes().empty());
  head.step(WatchReady{watch});
  parts = head.take_changes();
  REQUIRE(parts.size() == 1);
  REQUIRE(parts[0].base_version == version);
  REQUIRE(parts[0].nodes.size() == 2);
  head.step(WatchReady{watch});
  REQUIRE(head.take_changes().empty());
  head.step(WatchClosed{watch});
  REQUIRE(is<Acknowledged>(head.ask_and_write(NodeLeft{{}, kNode, {1}})));
  REQUIRE(head.take_changes().empty());
}

TEST_CASE("versions of two lives of the head never meet") {
  Head first(ClusterOptions{.epoch = 1});
  REQUIRE(is<NodeAccepted>(first.ask_and_write(NodeRegistered{{}, node()})));
  uint64_t known = first.cluster().report().view_version;
  Head second(ClusterOptions{.epoch = 2});
  REQUIRE(std::get<ViewPart>(*second.ask(ViewAsked{{}, known})).is_snapshot);
}

TEST_CASE("records that can't be read are refused one by one and the rest is loaded") {
  Head head = head_with_job();
  REQUIRE(is<Acknowledged>(head.ask_and_write(GraphPartCame{{}, part(0, true)})));
  REQUIRE(is<Acknowledged>(head.ask_and_write(NameRegistered{{}, name()})));
  std::vector<StoredRecord> disk = head.disk();
  for (StoredRecord& record : disk) {
    if (record.table == Table::kGraphs) record.value = make_bytes(record.value->substr(1));
  }
  disk.push_back({Table::kJobs, "foreign", make_bytes("nonsense")});
  disk.push_back({Table::kJobs, job_key({8, 8}), make_bytes(encode(job()))});
  Cluster restarted({});
  LoadReport report = restarted.load({}, disk);
  restarted.validate();
  REQUIRE(report.loaded_count == 3);
  REQUIRE(report.refused.size() == 3);
  REQUIRE(restarted.report().job_count == 1);
}

}  // namespace
}  // namespace raylet
