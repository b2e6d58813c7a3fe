#include "daemons/raylet/core/node.h"

#include <algorithm>
#include <cmath>

#include "daemons/raylet/core/node_state.h"
#include "protocol/words/check.h"
#include "protocol/words/overloaded.h"

namespace raylet {

Node::Node(NodeOptions options) : state_(std::make_unique<State>(std::move(options))) {}
Node::~Node() = default;

void Node::step(Instant now, std::span<Event> events, std::vector<Effect>& effects) {
  state_->step(now, events, effects);
}
NodeReport Node::report(Instant now) const { return state_->report(now); }
Explanation Node::explain(Instant now, const std::string& id) const { return state_->explain(now, id); }
void Node::validate() const { state_->validate(); }

Node::State::State(NodeOptions given) : options_(std::move(given)), available_(options_.resources) {
  if (options_.worker_slots == 0) {
    options_.worker_slots = std::max(1u, static_cast<uint32_t>(std::floor(options_.resources.get("CPU"))));
  }
}

void Node::State::step(Instant at, std::span<Event> events, std::vector<Effect>& effects) {
  MUST(at >= now_, "time went back");
  now_ = at;
  out_ = &effects;
  wake_at_ = Instant{INT64_MAX};
  for (Event& event : events) {
    std::visit([this](auto& what) { on(what); }, event);
    settle();
  }
  record_long_graphs();
  if (!recording_.empty()) record_parts();
  end_lost_jobs();
  settle();
  dispatch();
  start_workers();
  rebalance();
  settle();
  // Whoever asked is told once a step.
  for (size_t i = 0; i < answering_.size(); ++i) {
    Get& get = gets_[answering_[i]];
    if (!get.live) continue;
    get.answering = false;
    if (Session* session = sessions_.find(get.session); session != nullptr && !session->closed) {
      emit(AnswerGet{get.session, get.request, std::move(get.answers)});
    }
    get.answers.clear();
    if (get.over) end_get(answering_[i]);
  }
  answering_.clear();
  std::vector<TaskRef> progressing;
  progressing.swap(progressing_);
  for (const TaskRef& ref : progressing) {
    Graph* graph = graphs_.find(ref);
    if (graph == nullptr || !graph->progress_listed) continue;
    report_progress(*graph, false);
    if (graph->progress_listed) progressing_.push_back(ref);
  }
  settle();
  give_withheld_credit();
  // A wake-up that was asked for earlier and has not come still stands unless a sooner one is needed.
  if (wake_at_ < Instant{INT64_MAX} && (wake_at_ < wake_told_ || wake_told_ <= now_)) {
    wake_told_ = wake_at_;
    emit(WakeAt{wake_at_});
  }
  out_ = nullptr;
}

void Node::State::wake_by(Instant at) { wake_at_ = std::min(wake_at_, at); }

// Works off what the last event entails, until nothing is left.
void Node::State::settle() {
  while (true) {
    if (!failing_.empty()) {
      drain_failing();
    } else if (!calls_to_send_.empty()) {
      dispatch_calls();
    } else if (!doomed_.empty()) {
      for (size_t i = 0; i < doomed_.size(); ++i) free_object(doomed_[i]);
      doomed_.clear();
    } else if (!ending_.empty()) {
      std::vector<TaskRef> ending;
      ending.swap(ending_);
      for (const TaskRef& ref : ending) {
        if (Graph* graph = graphs_.find(ref)) consider_release(*graph);
      }
    } else if (!actors_to_forget_.empty()) {
      for (const ObjectId& id : actors_to_forget_) actors_.erase(id);
      actors_to_forget_.clear();
    } else {
      return;
    }
  }
}

FailurePtr make_failure(FailureCode code, std::string message, std::string task_name) {
  auto failure = std::make_shared<Failure>();
  failure->code = code;
  failure->message = std::move(message);
  failure->task_name = std::move(task_name);
  return failure;
}

Failure bad_graph(std::string message) {
  Failure failure;
  failure.code = FailureCode::kGraphInvalid;
  failure.message = std::move(message);
  return failure;
}

}  // namespace raylet
