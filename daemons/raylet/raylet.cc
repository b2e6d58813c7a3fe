#include "daemons/raylet/raylet.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <iomanip>
#include <random>

#include "daemons/kit/flags.h"
#include "daemons/kit/log.h"
#include "daemons/kit/spawn.h"
#include "daemons/raylet/frame_codec.h"
#include "daemons/raylet/local_driver.h"
#include "daemons/raylet/node_status.h"
#include "protocol/words/overloaded.h"

namespace raylet {
namespace {

constexpr Duration kStopPoll = std::chrono::milliseconds(10);
constexpr Duration kWorkersLeaveMax = std::chrono::milliseconds(700);
constexpr Duration kHeadLeaveMax = std::chrono::milliseconds(1'500);
constexpr Duration kGrpcStopMax = std::chrono::milliseconds(500);
// One for the whole cluster: with different ones a groupby on strings would take its groups apart.
constexpr const char* kHashSeed = "PYTHONHASHSEED=0";

// A raylet that comes back in the same session directory is the same node in a new life.
Result<NodeId> read_or_make_node_id(const std::string& directory) {
  std::string path = directory + "/node_id";
  std::ifstream file(path);
  std::string hex;
  if (file >> std::setw(64) >> hex) {
    auto binary = from_hex(hex);
    auto id = binary ? NodeId::from_binary(*binary) : std::nullopt;
    if (id && !id->is_nil()) return *id;
  }
  std::random_device random;
  auto draw = [&] { return (uint64_t{random()} << 32) | random(); };
  NodeId id{draw(), draw() | 1};
  std::ofstream out(path);
  out << id.hex() << "\n";
  out.close();
  if (!out) {
    return Error{Code::kPermissionDenied, "can't write " + path + ": " + std::strerror(errno) +
                                              "; make room there or choose another --session-dir"};
  }
  chmod(path.c_str(), 0600);
  return id;
}

std::string host_name() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  return name;
}

NodeOptions node_options(const RayletOptions& options, const NodeId& node) {
  NodeOptions result;
  result.resources = options.resources;
  result.seed = node.low;
  return result;
}

// Libraries with their own threads would have every worker take the whole machine.
std::vector<std::string> zygote_environment() {
  return environment_with({"OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1",
                           "NUMEXPR_NUM_THREADS=1", "VECLIB_MAXIMUM_THREADS=1", "NUMBA_NUM_THREADS=1", kHashSeed});
}

}  // namespace

Result<std::unique_ptr<Raylet>> Raylet::start(Loop& loop, RayletOptions options) {
  std::string logs = options.session_directory + "/logs";
  if (mkdir(logs.c_str(), 0700) != 0 && errno != EEXIST) {
    return Error{Code::kPermissionDenied, "can't make the directory " + logs + ": " + std::strerror(errno) +
                                              "; choose another --session-dir"};
  }
  Result<NodeId> node = read_or_make_node_id(options.session_directory);
  if (!node.ok()) return node.error();
  std::unique_ptr<Raylet> raylet(new Raylet(loop, std::move(options), *node));
  RETURN_IF_ERROR(raylet->open());
  return raylet;
}

Raylet::Raylet(Loop& loop, RayletOptions options, NodeId node)
    : loop_(loop),
      options_(std::move(options)),
      node_id_(node),
      node_(node_options(options_, node)),
      children_(loop),
      service_(loop,
               {[this](RemoteStream& stream) {
                  auto driver = std::make_shared<RemoteDriver>(loop_, *this, stream);
                  drivers_[driver->id()] = driver;
                  return driver;
                },
                [this](v1::NodeStatus* reply) { fill_status(reply); },
                [this](const v1::ExplainRequest& request, v1::ExplainReply* reply) {
                  encode_explanation(node_.explain(loop_.now(), request.id()), reply);
                },
                [this] { return metrics_text(); },
                [this](const v1::GetTimelineRequest& request, v1::GetTimelineReply* reply) {
                  auto binary = from_hex(request.graph());
                  auto graph = binary ? GraphId::from_binary(*binary) : std::nullopt;
                  size_t limit = request.limit() == 0 ? TimelineTable::kFinishedMax : request.limit();
                  if (request.graph().empty() || graph) {
                    encode_timeline(timeline_.newest(graph.value_or(GraphId{}), limit), reply);
                  }
                  reply->set_dropped(timeline_.dropped_total());
                }}),
      wake_alarm_(loop, [this] { tell(Tick{}); }),
      stop_alarm_(loop, [this] { continue_stop(); }) {
  loop_.set_turn_end([this] { take_turn(); });
}

Raylet::~Raylet() {
  if (grpc_stopper_.joinable()) grpc_stopper_.join();
}

Status Raylet::open() {
  const std::string logs = options_.session_directory + "/logs/";
  std::string token;
  if (!options_.token_path.empty()) {
    Result<std::string> read = read_token(options_.token_path);
    if (!read.ok()) return read.error();
    token = *read;
  }
  Result<std::unique_ptr<LocalDoor>> door = LocalDoor::open(
      loop_, options_.socket_path,
      {[this](FileDescriptor socket) {
         auto driver = std::make_shared<LocalDriver>(loop_, *this, std::move(socket));
         drivers_[driver->id()] = driver;
       },
       [this] { return drivers_.size(); }});
  if (!door.ok()) return door.error();
  door_ = std::move(*door);
  Result<std::unique_ptr<GrpcServer>> grpc =
      GrpcServer::start(loop_, {{options_.listen_address}, options_.listen_tcp, token, {service_.for_server()}});
  if (!grpc.ok()) return grpc.error();
  grpc_ = std::move(*grpc);
  if (!options_.metrics_http.empty()) {
    Result<std::unique_ptr<MetricsHttp>> http =
        MetricsHttp::listen(loop_, options_.metrics_http, [this] { return metrics_text(); });
    if (!http.ok()) return http.error();
    metrics_http_ = std::move(*http);
  }

  store_ = std::make_unique<StoreLink>(
      loop_, children_, segments_,
      StoreLink::Options{options_.store_binary, options_.object_store_bytes,
                         "unix:" + options_.session_directory + "/store.grpc", logs + "store.log",
                         options_.log_level},
      StoreLink::Handlers{[this](Event event) { tell(std::move(event)); },
                          [this] {
                            if (fleet_) fleet_->forget_segments();
                            for (auto& [id, driver] : drivers_) {
                              if (auto* local = dynamic_cast<LocalDriver*>(driver.get())) local->forget_segments();
                            }
                          }});
  RETURN_IF_ERROR(store_->start());
  if (options_.null_workers) {
    null_workers_ = std::make_unique<NullWorkers>(*this);
    versions_known_ = true;
  } else {
    fleet_ = std::make_unique<WorkerFleet>(
        loop_, *this, children_, timeline_,
        WorkerFleet::Options{{options_.python, logs + "zygote.log", zygote_environment()},
                             options_.session_directory + "/logs"},
        WorkerFleet::Handlers{
            [this](const JobId& job, v1::OutputLines lines) { forward_output(job, std::move(lines)); },
            [this](const WorkerVersions& versions, const std::string& trouble) {
              take_versions(versions, trouble);
            }});
    fleet_->start();
  }

  HeadLink::Options head;
  head.address = options_.head_address;
  head.token = head.address.rfind("unix:", 0) == 0 ? "" : token;
  head.self.node = node_id_;
  head.self.incarnation = {static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count())};
  head.self.host = host_name();
  head.self.address = options_.listen_tcp.empty() ? options_.listen_address : options_.listen_tcp;
  head.self.total = options_.resources;
  head.self.pid = static_cast<uint64_t>(getpid());
  head.self.store_capacity_bytes = options_.object_store_bytes;
  head_ = std::make_unique<HeadLink>(
      loop_, std::move(head),
      HeadLink::Handlers{[this](Event event) { tell(std::move(event)); },
                         [this] {
                           const v1::StoreUsage& usage = store_->usage();
                           return HeadLink::Usage{recent_report().available,
                                                  usage.sealed_bytes() + usage.slab_bytes()};
                         },
                         [this](std::string reason) {
                           log::error("this node has another life, this one stops: {}", reason);
                           loop_.post([this] { stop([this] { loop_.stop(); }); });
                         }});
  tell(Tick{});
  return Done{};
}

// ---------------------------------------------------------------- turns

void Raylet::tell(Event event) {
  events_.push_back(std::move(event));
  loop_.request_turn_end();
}

void Raylet::after_step(std::function<void()> job) {
  after_step_.push_back(std::move(job));
  loop_.request_turn_end();
}

void Raylet::take_turn() {
  std::swap(events_, stepping_);
  if (!stepping_.empty()) {
    auto began = std::chrono::steady_clock::now();
    node_.step(loop_.now(), stepping_, effects_);
    int64_t took_ns = (std::chrono::steady_clock::now() - began).count();
    step_ns_total_ += took_ns;
    step_ns_max_ = std::max(step_ns_max_, took_ns);
    ++steps_total_;
    events_total_ += stepping_.size();
    effects_total_ += effects_.size();
    for (Effect& effect : effects_) perform(effect);
    effects_.clear();
    stepping_.clear();
    store_->flush();
  }
  std::vector<std::function<void()>> jobs = std::move(after_step_);
  after_step_.clear();
  for (auto& job : jobs) job();
}

void Raylet::perform(Effect& effect) {
  auto to_worker = [this](auto& wish) {
    if (fleet_) {
      fleet_->perform(wish);
    } else if constexpr (!std::is_same_v<std::decay_t<decltype(wish)>, InterruptTask>) {
      null_workers_->perform(wish);
    }
  };
  std::visit(
      Overloaded{
          [&](SendBatch& wish) { to_worker(wish); },
          [&](RetractBatches& wish) { to_worker(wish); },
          [&](InterruptTask& wish) { to_worker(wish); },
          [&](StartWorker& wish) { to_worker(wish); },
          [&](StopWorker& wish) { to_worker(wish); },
          [&](AnswerGet& wish) {
            if (DriverSession* driver = find_driver(wish.session)) return driver->answer(wish);
            WorkerProcess* worker = fleet_ ? fleet_->find(wish.session) : nullptr;
            if (worker != nullptr) fleet_->answer(*worker, wish);
          },
          [&](GrantSlab& wish) {
            if (DriverSession* driver = find_driver(wish.session)) return driver->grant(wish);
            WorkerProcess* worker = fleet_ ? fleet_->find(wish.session) : nullptr;
            if (worker != nullptr) fleet_->grant(*worker, wish);
          },
          [&](Refuse& wish) { send_to(wish.session, encode(wish)); },
          [&](GiveCredit& wish) {
            if (DriverSession* driver = find_driver(wish.session)) return driver->give_credit(wish);
            send_to(wish.session, encode(wish));
          },
          [&](ReportProgress& wish) { send_to(wish.session, encode(wish)); },
          [&](ReportGraphEnd& wish) { send_to(wish.session, encode(wish)); },
          [&](TellDriver& wish) { send_to(wish.session, encode(wish)); },
          [&](AnswerFindActor& wish) { send_to(wish.session, encode(wish)); },
          [&](Acknowledge& wish) { send_to(wish.session, encode(wish)); },
          [&](CloseSession& wish) {
            if (DriverSession* driver = find_driver(wish.session)) return driver->close(wish.reason);
            if (WorkerProcess* worker = fleet_ ? fleet_->find(wish.session) : nullptr) {
              log::error("worker killed worker={} reason={}", worker->worker().number, wish.reason);
              worker->signal(SIGKILL);
            }
          },
          [&](StoreLeaseSlab& wish) { store_->perform(wish); },
          [&](StoreSeal& wish) { store_->perform(wish); },
          [&](StorePin& wish) { store_->perform(wish); },
          [&](StoreUnpin& wish) { store_->perform(wish); },
          [&](StoreFree& wish) { store_->perform(wish); },
          [&](StoreReturnSlab& wish) { store_->perform(wish); },
          [&](StoreEndSession& wish) { store_->perform(wish); },
          [&](Persist& wish) { perform_persist(wish); },
          [&](FindName& wish) { head_->find_name(std::move(wish)); },
          [&](WakeAt& wish) { wake_alarm_.set(wish.at); },
      },
      effect);
}

void Raylet::perform_persist(Persist& effect) {
  if (auto* forget = std::get_if<ForgetJob>(&effect.record)) {
    outputs_.erase(forget->job);
    if (fleet_) fleet_->forget_job(forget->job);
  }
  head_->persist(std::move(effect));
}

void Raylet::send_to(SessionId session, const v1::ServerFrame& frame) {
  if (DriverSession* driver = find_driver(session)) return driver->send(frame);
  WorkerProcess* worker = fleet_ ? fleet_->find(session) : nullptr;
  if (worker == nullptr) return;
  Status sent = worker->carrier().send(frame);
  if (!sent.ok()) log::error("frame lost worker={} reason={}", worker->worker().number, sent.error().message);
}

// ---------------------------------------------------------------- the end

void Raylet::stop(std::function<void()> done) {
  if (stopping_) return;
  stopping_ = true;
  stop_done_ = std::move(done);
  stop_began_ = loop_.now();
  log::info("stopping");
  door_.reset();
  grpc_->set_serving(false);
  auto drivers = drivers_;
  for (auto& [id, driver] : drivers) driver->close("the node is stopping");
  head_->leave(kHeadLeaveMax, [this] { head_left_ = true; });
  if (fleet_) fleet_->leave_all();
  store_->stop();
  stop_alarm_.set_after(kStopPoll);
}

void Raylet::continue_stop() {
  Duration waited = loop_.now() - stop_began_;
  if (fleet_ && waited > kWorkersLeaveMax) fleet_->kill_all();
  if (waited > kStopWaitMax / 2) store_->kill_now();
  if ((children_.watched_count() == 0 && head_left_) || waited > kStopWaitMax) return finish_stop();
  stop_alarm_.set_after(kStopPoll);
}

void Raylet::finish_stop() {
  children_.kill_strays();
  grpc_->stop_listening();
  // gRPC waits for calls that only this loop can end, so it is not this loop that waits for gRPC.
  grpc_stopper_ = std::thread([this] {
    grpc_->shutdown(kGrpcStopMax);
    loop_.post([this] { stop_done_(); });
  });
}

}  // namespace raylet
