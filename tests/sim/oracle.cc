#include "tests/sim/oracle.h"

#include <cstring>

#include "protocol/words/check.h"

namespace raylet::sim {
namespace {

void append(std::string& out, uint64_t word) { out.append(reinterpret_cast<const char*>(&word), sizeof word); }

uint64_t word_at(const std::string& bytes, size_t offset) {
  uint64_t word = 0;
  std::memcpy(&word, bytes.data() + offset, sizeof word);
  return word;
}

}  // namespace

GraphPlan& Oracle::add(GraphPlan plan) {
  GraphId id = plan.id;
  return graphs_[id] = std::move(plan);
}

GraphPlan* Oracle::find(const GraphId& id) {
  auto found = graphs_.find(id);
  return found == graphs_.end() ? nullptr : &found->second;
}

TaskPlan* Oracle::find(const TaskId& id) {
  GraphPlan* graph = find(id.graph);
  return graph == nullptr || id.index >= graph->tasks.size() ? nullptr : &graph->tasks[id.index];
}

uint64_t Oracle::expected(const ObjectId& id) {
  if (auto known = values_.find(id); known != values_.end()) {
    return known->second;
  }
  const TaskPlan* plan = find(id.task_id());
  MUST(plan != nullptr, "an object that nobody planned");
  uint64_t hash = mix_bits(plan->salt, id.index);
  for (const ObjectId& input : plan->inputs) {
    hash = mix_bits(hash, expected(input));
  }
  if (plan->kind == TaskPlan::Kind::kNests) {
    hash = mix_bits(hash, nested_value(plan->salt));
  }
  values_[id] = hash;
  return hash;
}

bool Oracle::may_be_empty(const ObjectId& id) {
  const TaskPlan* plan = find(id.task_id());
  return plan != nullptr && plan->kind == TaskPlan::Kind::kCreates && plan->get_if_exists;
}

GraphPlan Oracle::nested_plan(const TaskId& parent, uint32_t attempt, const TaskPlan& plan) const {
  GraphPlan nested;
  nested.id.high = mix_bits(parent.graph.high, mix_bits(parent.index, attempt)) | 1;
  nested.id.low = mix_bits(parent.graph.low, attempt);
  nested.nested = true;
  nested.fail_fast = plan.salt % 3 != 0;
  uint64_t count = 1 + plan.salt % 4;
  for (uint64_t i = 0; i < count; ++i) {
    TaskPlan task;
    task.salt = mix_bits(plan.salt, i + 100);
    task.duration = Duration(1'000'000 + static_cast<int64_t>(task.salt % 20'000'000));
    if (i > 0) {
      task.inputs.push_back({nested.id, i - 1, 0});
    }
    nested.tasks.push_back(task);
  }
  return nested;
}

uint64_t Oracle::nested_value(uint64_t salt) const {
  uint64_t count = 1 + salt % 4;
  uint64_t hash = 0;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t own = mix_bits(mix_bits(salt, i + 100), 0);
    hash = i == 0 ? own : mix_bits(own, hash);
  }
  return hash;
}

uint32_t Oracle::taint(const ObjectId& id) {
  auto known = taints_.find(id);
  if (known != taints_.end()) {
    return known->second;
  }
  GraphPlan* graph = find(id.graph);
  const TaskPlan* plan = find(id.task_id());
  if (plan == nullptr) {
    return 0;
  }
  taints_[id] = 0;
  uint32_t taint = 0;
  auto take = [&](const TaskPlan& task) {
    using Kind = TaskPlan::Kind;
    if (task.kind == Kind::kRaises) taint |= kRaise;
    if (task.kind == Kind::kPoison) taint |= kCrash;
    if (task.kind == Kind::kCreates || task.kind == Kind::kCalls) taint |= kActor;
    if (task.kind == Kind::kNests || task.kind == Kind::kNestsLater) taint |= kNested;
    for (const ObjectId& input : task.inputs) {
      if (!graph->fail_fast || input.graph != id.graph) taint |= this->taint(input);
    }
    if (!task.actor.is_nil()) taint |= this->taint(task.actor);
  };
  if (graph->fail_fast) {
    auto [of_graph, fresh] = graph_taints_.try_emplace(id.graph, 0);
    if (fresh) {
      for (const TaskPlan& task : graph->tasks) take(task);
      graph_taints_[id.graph] = taint;
    }
    taint = graph_taints_[id.graph];
  } else {
    take(*plan);
  }
  taints_[id] = taint;
  return taint;
}

std::optional<std::string> Oracle::unexplained(const ObjectId& id, const Failure& failure) {
  const uint32_t why = taint(id);
  bool explained = false;
  const bool anything_ended = (why & (kRaise | kCrash | kActor)) != 0 || cancels > 0 || exhausted_tasks > 0 ||
                              store_losses > 0 || store_tight || actor_kills > 0;
  switch (failure.code) {
    case FailureCode::kTaskRaised:
      explained = (why & kRaise) != 0;
      break;
    case FailureCode::kWorkerCrashed:
      explained = (why & kCrash) != 0 || exhausted_tasks > 0;
      break;
    case FailureCode::kTaskCancelled:
      explained = anything_ended;
      break;
    case FailureCode::kObjectLost:
      explained = store_losses > 0;
      break;
    case FailureCode::kActorDied:
      explained = (why & kActor) != 0 && (actor_kills > 0 || worker_deaths > 0 || anything_ended);
      break;
    case FailureCode::kActorNameTaken:
      explained = (why & kActor) != 0;
      break;
    case FailureCode::kObjectStoreFull:
      explained = store_tight;
      break;
    default:
      break;
  }
  if (explained) {
    return std::nullopt;
  }
  std::string text = "failure " + std::to_string(static_cast<int>(failure.code)) + " (" + failure.message +
                     ") of object " + id.hex() + " has no cause; its task";
  if (const TaskPlan* plan = find(id.task_id())) {
    text += " is of kind " + std::to_string(static_cast<int>(plan->kind)) + ", ran " + std::to_string(plan->runs) +
            " times and reads";
    for (const ObjectId& input : plan->inputs) text += " " + input.hex();
  } else {
    text += " is none: it was put";
  }
  return text;
}

std::string encode(const Content& content, uint64_t size_bytes) {
  std::string bytes;
  append(bytes, content.hash);
  append(bytes, content.contained.size());
  for (const ObjectId& id : content.contained) {
    bytes += id.binary();
  }
  if (bytes.size() < size_bytes) {
    bytes.resize(size_bytes, static_cast<char>(content.hash));
  }
  return bytes;
}

std::optional<Content> decode(const std::string& bytes) {
  if (bytes.size() < 16) return std::nullopt;
  Content content;
  content.hash = word_at(bytes, 0);
  uint64_t count = word_at(bytes, 8);
  if (count > 100 || bytes.size() < 16 + count * ObjectId::kSizeBytes) return std::nullopt;
  for (uint64_t i = 0; i < count; ++i) {
    auto id =
        ObjectId::from_binary(std::string_view(bytes).substr(16 + i * ObjectId::kSizeBytes, ObjectId::kSizeBytes));
    if (!id) return std::nullopt;
    content.contained.push_back(*id);
  }
  return content;
}

std::string encode_group(const GraphId& graph, uint64_t first_task, uint32_t count) {
  std::string blob;
  for (uint64_t word : {graph.high, graph.low, first_task, uint64_t{count}}) {
    append(blob, word);
  }
  return blob;
}

bool group_names(const std::string& blob, uint32_t position, const TaskId& task) {
  return blob.size() == 32 && word_at(blob, 0) == task.graph.high && word_at(blob, 8) == task.graph.low &&
         position < word_at(blob, 24) && word_at(blob, 16) + position == task.index;
}

}  // namespace raylet::sim
