#include "tests/sim/head_host.h"

#include "protocol/words/overloaded.h"
#include "tests/sim/node_host.h"

namespace raylet::sim {
namespace {

constexpr Duration kAskAgainAfter = std::chrono::milliseconds(300);
constexpr Duration kHeartbeatEvery = std::chrono::seconds(1);
constexpr size_t kCallsMax = 64;
// In the order of the variant.
constexpr const char* kHeadEventNames[] = {
    "<- NodeRegistered", "<- HeartbeatCame", "<- NodeLeft", "<- ViewAsked", "<- WatchOpened", "<- WatchReady",
    "<- WatchClosed", "<- JobRegistered", "<- JobEnded", "<- JobsAsked", "<- GraphPartCame", "<- GraphEnded",
    "<- GraphsAsked", "<- NameRegistered", "<- NameAsked", "<- NameForgotten", "<- WritesPersisted", "<- HeadTick",
};
static_assert(std::size(kHeadEventNames) == std::variant_size_v<HeadEvent>);

}  // namespace

// ---------------------------------------------------------------- the head's process

void HeadHost::start() {
  if (cluster_ != nullptr) return;
  if (!redis_up_) {
    world_.queue.after(std::chrono::milliseconds(50), [this] { start(); });
    return;
  }
  ++life_;
  world_.note({Who::kHead}, "starts", life_, disk_.size());
  ClusterOptions options;
  options.epoch = life_;
  cluster_ = std::make_unique<Cluster>(options);
  std::vector<StoredRecord> records;
  for (const auto& [key, value] : disk_) records.push_back({key.first, key.second, value});
  LoadReport report = cluster_->load(world_.now(), records);
  world_.require(report.refused.empty(), "H1",
                 report.refused.empty() ? "" : "a record of our own can't be read: " + report.refused[0],
                 {Who::kHead});
  check_acknowledged();
  inbox_.clear();
  step_due_ = false;
  inbox_.push_back(HeadTick{});
  step();
}

void HeadHost::kill() {
  if (cluster_ == nullptr) return;
  world_.note({Who::kHead}, "is killed", life_);
  // Of what was on its way to Redis, the first part may have arrived.
  while (!unwritten_.empty() && world_.rng.chance(0.5)) {
    for (Write& write : unwritten_.front().writes) {
      if (write.value) {
        disk_[{write.table, write.key}] = write.value;
      } else {
        disk_.erase({write.table, write.key});
      }
    }
    unwritten_.pop_front();
  }
  unwritten_.clear();
  writing_ = false;
  cluster_.reset();
  open_calls_.clear();
  inbox_.clear();
  world_.queue.after(world_.micros(10'000, 3'000'000), [this] { start(); });
}

void HeadHost::kill_redis() {
  if (!redis_up_) return;
  world_.note({Who::kRedis}, "is killed");
  redis_up_ = false;
  ++redis_life_;
  writing_ = false;
  world_.queue.after(world_.micros(10'000, 3'000'000), [this] {
    world_.note({Who::kRedis}, "starts");
    redis_up_ = true;
    write_next();
  });
}

void HeadHost::step() {
  step_due_ = false;
  std::vector<HeadEvent> events = std::move(inbox_);
  inbox_.clear();
  for (const HeadEvent& event : events) {
    std::visit(
        [&](const auto& e) {
          uint64_t graph = 0;
          if constexpr (requires { e.graph.low; }) graph = e.graph.low;
          if constexpr (requires { e.part.graph.low; }) graph = e.part.graph.low;
          if constexpr (requires { e.graphs.size(); }) graph = e.graphs.size();
          world_.note({Who::kHead}, kHeadEventNames[event.index()], graph);
        },
        event);
  }
  std::vector<HeadEffect> effects;
  cluster_->step(world_.now(), events, effects);
  world_.note({Who::kHead}, "steps", events.size(), effects.size());
  for (HeadEffect& effect : effects) perform(effect);
  cluster_->validate();
}

void HeadHost::perform(HeadEffect& effect) {
  std::visit(Overloaded{
                 [&](PersistWrites& e) {
                   unwritten_.push_back(std::move(e));
                   write_next();
                 },
                 [&](HeadReply& e) {
                   auto open = open_calls_.find(e.call);
                   world_.require(open != open_calls_.end(), "H2", "a call is answered twice", {Who::kHead});
                   auto answer = std::move(open->second);
                   open_calls_.erase(open);
                   const bool twice = world_.faults_last() && world_.rng.chance(world_.scenario.rpc_twice);
                   for (int i = 0; i <= twice; ++i) {
                     if (world_.faults_last() && world_.rng.chance(world_.scenario.rpc_loss)) continue;
                     world_.queue.after(world_.between(Duration(10'000), world_.scenario.rpc_delay_max),
                                        [answer, said = e.answer] { answer(said); });
                   }
                 },
                 [&](WakeHeadAt& e) {
                   world_.queue.at(e.at, [this, life = life_, wake = ++wake_] {
                     if (life != life_ || wake != wake_ || cluster_ == nullptr) return;
                     inbox_.push_back(HeadTick{});
                     if (!step_due_) step();
                   });
                 },
                 [](const auto&) {},
             },
             effect);
}

void HeadHost::write_next() {
  if (!redis_up_ || writing_ || unwritten_.empty() || cluster_ == nullptr) return;
  writing_ = true;
  world_.queue.after(world_.micros(50, 5'000), [this, head = life_, redis = redis_life_] {
    if (redis != redis_life_ || head != life_ || cluster_ == nullptr) return;
    writing_ = false;
    PersistWrites persist = unwritten_.front();
    for (const Write& write : persist.writes) {
      if (write.value) {
        disk_[{write.table, write.key}] = write.value;
      } else {
        disk_.erase({write.table, write.key});
      }
    }
    check_acknowledged();
    // Redis may die between the write and its answer; it is written again then, which changes nothing.
    if (world_.faults_last() && world_.scenario.redis_kill_every > Duration{} && world_.rng.chance(0.02)) {
      return kill_redis();
    }
    unwritten_.pop_front();
    inbox_.push_back(WritesPersisted{persist.ticket});
    step();
    write_next();
  });
}

// H3: what was acknowledged and not taken back is on disk.
void HeadHost::check_acknowledged() {
  for (const auto& key : acknowledged_) {
    world_.require(disk_.count(key) != 0, "H3",
                   "an acknowledged record of table " + std::string(to_string(key.first)) + " is gone: " +
                       to_hex(key.second),
                   {Who::kHead});
  }
}

size_t HeadHost::records_on_disk(Table table) const {
  size_t count = 0;
  for (const auto& [key, value] : disk_) count += key.first == table;
  return count;
}

// ---------------------------------------------------------------- the network

void HeadHost::set_call(HeadEvent& event, CallId id) {
  std::visit(
      [&](auto& which) {
        if constexpr (requires { which.call = id; }) which.call = id;
      },
      event);
}

void HeadHost::call(HeadEvent request, std::function<void(const Answer&)> answer) {
  const bool twice = world_.faults_last() && world_.rng.chance(world_.scenario.rpc_twice);
  for (int i = 0; i <= twice; ++i) {
    if (world_.faults_last() && world_.rng.chance(world_.scenario.rpc_loss)) continue;
    // The second one may come long after.
    Duration delay = world_.between(Duration(10'000), world_.scenario.rpc_delay_max);
    if (i > 0) delay += world_.micros(0, 2'000'000);
    world_.queue.after(delay, [this, request, answer] {
      if (cluster_ == nullptr) return;
      CallId id{next_call_++};
      open_calls_[id] = answer;
      HeadEvent event = request;
      set_call(event, id);
      inbox_.push_back(std::move(event));
      if (step_due_) return;
      step_due_ = true;
      world_.queue.after(world_.micros(0, 300), [this, life = life_] {
        if (life == life_ && cluster_ != nullptr && step_due_) step();
      });
    });
  }
}

// ---------------------------------------------------------------- the raylet's link

void HeadHost::node_started(uint64_t life) {
  node_life_ = life;
  ++link_life_;
  registered_ = false;
  register_node();
}

void HeadHost::node_died() {
  node_life_ = 0;
  ++link_life_;
  calls_.clear();
  jobs_.clear();
  recorded_.clear();
  job_of_graph_.clear();
  acknowledged_.clear();
  named_.clear();
}

void HeadHost::register_node() {
  NodeRegistered request;
  request.node.node = world_.node->id();
  request.node.incarnation = {node_life_};
  request.node.address = "unix:/node";
  call(request, [this, link = link_life_](const Answer& answer) {
    if (link != link_life_ || registered_) return;
    world_.require(std::holds_alternative<NodeAccepted>(answer), "H4", "the newest life of a node is refused",
                   {Who::kHead});
    registered_ = true;
    heard_moment_ = 0;
    heartbeat();
    pump();
  });
  world_.queue.after(kAskAgainAfter, [this, link = link_life_] {
    if (link == link_life_ && !registered_) register_node();
  });
}

void HeadHost::heartbeat() {
  HeartbeatCame request;
  request.node = world_.node->id();
  request.incarnation = {node_life_};
  for (const auto& [job, record] : jobs_) request.jobs.push_back(job);
  request.graphs.assign(recorded_.begin(), recorded_.end());
  request.heard_moment = heard_moment_;
  call(request, [this, link = link_life_](const Answer& answer) {
    if (link == link_life_) heartbeat_answered(std::get<HeartbeatAnswer>(answer));
  });
  world_.queue.after(kHeartbeatEvery, [this, link = link_life_] {
    if (link == link_life_ && registered_) heartbeat();
  });
}

void HeadHost::heartbeat_answered(const HeartbeatAnswer& answer) {
  heard_moment_ = std::max(heard_moment_, answer.moment);
  if (answer.register_again && registered_) {
    registered_ = false;
    register_node();
    return;
  }
  for (const JobId& job : answer.unknown_jobs) {
    auto known = jobs_.find(job);
    if (known == jobs_.end()) continue;
    JobRegistered request;
    request.job = {job, world_.node->id(), known->second.script, known->second.pid};
    call(request, [](const Answer&) {});
  }
}

void HeadHost::persist(Persist effect) {
  Call call;
  call.ticket = effect.ticket;
  call.record = std::move(effect.record);
  std::visit(Overloaded{
                 [&](const RecordGraph& r) {
                   call.graph = r.graph;
                   call.job = r.job;
                   job_of_graph_[r.graph] = r.job;
                   recorded_.insert(r.graph);
                 },
                 [&](const ForgetGraph& r) {
                   call.graph = r.graph;
                   call.job = job_of_graph_[r.graph];
                   call.is_forget = true;
                   recorded_.erase(r.graph);
                   for (auto key = acknowledged_.begin(); key != acknowledged_.end();) {
                     const bool its =
                         key->first == Table::kGraphs && key->second.find(r.graph.binary()) != std::string::npos;
                     key = its ? acknowledged_.erase(key) : std::next(key);
                   }
                 },
                 [&](const RecordJob& r) {
                   call.job = r.job;
                   call.is_job = true;
                   jobs_[r.job] = r;
                 },
                 [&](const ForgetJob& r) {
                   call.job = r.job;
                   call.is_job = call.is_forget = true;
                   jobs_.erase(r.job);
                   std::erase_if(acknowledged_, [&](const auto& key) {
                     return key == std::make_pair(Table::kJobs, job_key(r.job));
                   });
                   for (auto& [graph, job] : job_of_graph_) {
                     if (job != r.job) continue;
                     std::erase_if(acknowledged_, [&, id = graph](const auto& key) {
                       return key.first == Table::kGraphs && key.second.find(id.binary()) != std::string::npos;
                     });
                   }
                   // Names of the job go with it; which those are, the link does not know.
                   std::erase_if(acknowledged_, [](const auto& key) { return key.first == Table::kNames; });
                   named_.clear();
                 },
                 [&](const RecordName& r) {
                   call.job = r.job;
                   call.name = r.name_space + '\1' + r.name;
                 },
                 [&](const ForgetName& r) {
                   call.name = r.name_space + '\1' + r.name;
                   call.is_forget = true;
                   acknowledged_.erase({Table::kNames, name_key(r.name_space, r.name)});
                   named_.erase({r.name_space, r.name});
                 },
             },
             call.record);
  world_.note({Who::kHead}, "is told to persist", call.ticket.number, call.record.index());
  if (call.is_forget) drop_unsent_before(call);
  calls_.push_back(std::move(call));
  pump();
}

void HeadHost::find_name(FindName effect) {
  Call call;
  call.ticket = effect.ticket;
  call.is_question = true;
  call.name = effect.name_space + '\1' + effect.name;
  call.question = std::move(effect);
  calls_.push_back(std::move(call));
  pump();
}

void HeadHost::drop_unsent_before(const Call& forget) {
  for (size_t i = 0; i < calls_.size();) {
    Call& call = calls_[i];
    const bool its = forget.is_job ? call.job == forget.job : !forget.graph.is_nil() && call.graph == forget.graph;
    // A part may be dropped; what the head was told of its siblings is forgotten by the forget itself.
    if (its && !call.sent && !call.is_forget && !call.is_job && !call.is_question && call.name.empty()) {
      finish(i, Persisted{call.ticket, {}, {}});
    } else {
      ++i;
    }
  }
}

// The order that the link keeps: nothing overtakes a forget or a job's own record, or what it is about.
bool HeadHost::may_go(size_t at) const {
  const Call& call = calls_[at];
  for (size_t i = 0; i < at; ++i) {
    const Call& earlier = calls_[i];
    const bool same_job = !call.job.is_nil() && earlier.job == call.job;
    if (same_job && (earlier.is_job || call.is_job)) return false;
    const bool same_graph = !call.graph.is_nil() && earlier.graph == call.graph;
    if (same_graph && (earlier.is_forget || call.is_forget)) return false;
    if (!call.name.empty() && earlier.name == call.name) return false;
  }
  return true;
}

void HeadHost::pump() {
  if (!registered_) return;
  size_t under_way = 0;
  for (size_t i = 0; i < calls_.size() && under_way < kCallsMax; ++i) {
    if (calls_[i].sent) {
      ++under_way;
    } else if (may_go(i)) {
      calls_[i].sent = true;
      ++under_way;
      send(calls_[i]);
    }
  }
}

HeadEvent HeadHost::request_of(const Call& call, CallId id) const {
  const NodeId node = world_.node->id();
  if (call.is_question) return NameAsked{id, call.question.name_space, call.question.name};
  return std::visit(
      Overloaded{
          [&](const RecordGraph& r) -> HeadEvent {
            GraphPartRecord part{r.graph, r.job, node, {node_life_}, r.part, r.last, "chunk of " + r.graph.hex()};
            return GraphPartCame{id, std::move(part)};
          },
          [&](const ForgetGraph& r) -> HeadEvent { return GraphEnded{id, r.graph}; },
          [&](const RecordJob& r) -> HeadEvent { return JobRegistered{id, {r.job, node, r.script, r.pid}}; },
          [&](const ForgetJob& r) -> HeadEvent { return JobEnded{id, r.job}; },
          [&](const RecordName& r) -> HeadEvent {
            return NameRegistered{
                id, {r.name_space, r.name, r.actor, r.job, node, r.detached, r.handle ? *r.handle : ""}};
          },
          [&](const ForgetName& r) -> HeadEvent { return NameForgotten{id, r.name_space, r.name, r.actor}; },
      },
      call.record);
}

void HeadHost::send(Call& of) {
  ++of.tries;
  call(request_of(of, {}),
       [this, life = link_life_, ticket = of.ticket](const Answer& answer) { answered(life, ticket, answer); });
  world_.queue.after(kAskAgainAfter, [this, link = link_life_, ticket = of.ticket, tries = of.tries] {
    if (link != link_life_) return;
    for (Call& waiting : calls_) {
      if (waiting.ticket == ticket && waiting.tries == tries) return send(waiting);
    }
  });
}

void HeadHost::answered(uint64_t life, Ticket ticket, const Answer& answer) {
  if (life != link_life_) return;
  for (size_t i = 0; i < calls_.size(); ++i) {
    if (calls_[i].ticket != ticket) continue;
    if (const auto* refused = std::get_if<Refused>(&answer)) {
      if (refused->code == Code::kUnavailable) return;  // asked again in a while
      return finish(i, Persisted{ticket, {refused->failure, refused->message}, refused->holder});
    }
    if (const auto* name = std::get_if<NameAnswer>(&answer)) {
      NameFound found{ticket, name->found, name->actor, make_bytes(name->handle)};
      calls_.erase(calls_.begin() + static_cast<ptrdiff_t>(i));
      world_.node->post(std::move(found));
      return pump();
    }
    acknowledge(calls_[i]);
    return finish(i, Persisted{ticket, {}, {}});
  }
}

// H5: a name has one holder at a time.
void HeadHost::acknowledge(const Call& call) {
  std::visit(Overloaded{
                 [&](const RecordGraph& r) {
                   if (recorded_.count(r.graph) != 0)
                     acknowledged_.insert({Table::kGraphs, graph_part_key(r.graph, r.part)});
                 },
                 [&](const RecordJob& r) {
                   if (jobs_.count(r.job) != 0) acknowledged_.insert({Table::kJobs, job_key(r.job)});
                 },
                 [&](const RecordName& r) {
                   for (const Call& later : calls_) {
                     const auto* forget = std::get_if<ForgetName>(&later.record);
                     if (!later.is_question && forget != nullptr && forget->actor == r.actor) return;
                   }
                   auto [holder, fresh] = named_.try_emplace({r.name_space, r.name}, r.actor);
                   world_.require(fresh || holder->second == r.actor, "H5",
                                  "the name " + r.name + " is granted twice", {Who::kHead});
                   if (jobs_.count(r.job) != 0)
                     acknowledged_.insert({Table::kNames, name_key(r.name_space, r.name)});
                 },
                 [](const auto&) {},
             },
             call.record);
  check_acknowledged();
}

std::string HeadHost::owes() const {
  std::string text;
  for (const Call& call : calls_) {
    text += " ticket " + std::to_string(call.ticket.number) +
            (call.is_question ? " a question" : " record kind " + std::to_string(call.record.index())) +
            " of job " + call.job.hex() + " graph " + call.graph.hex() + " name " + call.name + ", tried " +
            std::to_string(call.tries) + " times;";
  }
  return text;
}

void HeadHost::finish(size_t at, Persisted answer) {
  calls_.erase(calls_.begin() + static_cast<ptrdiff_t>(at));
  world_.node->post(std::move(answer));
  pump();
}

}  // namespace raylet::sim
