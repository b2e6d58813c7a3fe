#include "protocol/codec/session_codec.h"

#include <string>
#include <utility>

#include "protocol/codec/columns.h"
#include "protocol/codec/id_codec.h"
#include "protocol/codec/limits.h"

namespace raylet {
namespace {

// Bytes that a message may lack: empty on the wire is null in words.
Bytes take_optional_bytes(std::string* from) { return from->empty() ? nullptr : make_bytes(std::move(*from)); }

Result<FunctionDef> decode_function(v1::FunctionDef&& message) {
  FunctionDef function;
  function.number = message.number();
  switch (message.kind()) {
    case v1::FunctionDef::FUNCTION: function.kind = FunctionDef::Kind::kFunction; break;
    case v1::FunctionDef::ACTOR_CLASS: function.kind = FunctionDef::Kind::kActorClass; break;
    case v1::FunctionDef::ACTOR_METHOD: function.kind = FunctionDef::Kind::kActorMethod; break;
    default:
      return invalid("graph_chunk.functions: kind " + std::to_string(message.kind()) +
                     " is none of FUNCTION, ACTOR_CLASS, ACTOR_METHOD; is the client newer than this raylet?");
  }
  RETURN_IF_ERROR(check_at_most("graph_chunk.functions.name bytes", message.name().size(), kNameBytesMax));
  RETURN_IF_ERROR(check_at_most("graph_chunk.functions.pickled bytes", message.pickled().size(), kBlobBytesMax));
  function.name = std::move(*message.mutable_name());
  function.pickled = make_bytes(std::move(*message.mutable_pickled()));
  return function;
}

// One entry a task, or none at all.
Status check_column(const char* what, size_t size, uint32_t task_count) {
  if (size == 0 || size == task_count) return Done{};
  return invalid(std::string(what) + ": expected " + std::to_string(task_count) +
                 " entries (one a task) or none, got " + std::to_string(size));
}

// A column of counts and the list that they divide.
Status check_counts(const char* what, const std::vector<uint32_t>& counts, size_t list_size, uint32_t task_count) {
  RETURN_IF_ERROR(check_column(what, counts.size(), task_count));
  uint64_t sum = 0;
  for (uint32_t count : counts) sum += count;
  if (sum == list_size) return Done{};
  return invalid(std::string(what) + ": they add up to " + std::to_string(sum) +
                 ", but the list they divide has " + std::to_string(list_size) + " entries");
}

Status check_each_below(const char* what, const std::vector<uint32_t>& column, uint64_t bound) {
  for (uint32_t entry : column) {
    if (entry >= bound) {
      return invalid(std::string(what) + ": expected numbers below " + std::to_string(bound) + ", got " +
                     std::to_string(entry));
    }
  }
  return Done{};
}

Status decode_groups(v1::GraphChunk& message, GraphChunk* chunk) {
  if (message.group_sizes_size() != message.group_blobs_size()) {
    return invalid("graph_chunk: " + std::to_string(message.group_sizes_size()) + " group_sizes for " +
                   std::to_string(message.group_blobs_size()) + " group_blobs; expected as many");
  }
  chunk->group_sizes = take_column<uint32_t>(message.group_sizes());
  uint64_t tasks = 0;
  for (uint32_t size : chunk->group_sizes) {
    if (size == 0 || size > kTasksPerGroupMax) {
      return invalid("graph_chunk.group_sizes: expected 1 to " + std::to_string(kTasksPerGroupMax) +
                     " tasks a group, got " + std::to_string(size));
    }
    tasks += size;
  }
  if (tasks != chunk->task_count) {
    return invalid("graph_chunk.group_sizes: they add up to " + std::to_string(tasks) + ", expected task_count, " +
                   std::to_string(chunk->task_count));
  }
  chunk->group_blobs.reserve(message.group_blobs_size());
  for (std::string& blob : *message.mutable_group_blobs()) {
    RETURN_IF_ERROR(
        check_at_most("graph_chunk.group_blobs bytes (make large arguments objects)", blob.size(), kBlobBytesMax));
    chunk->group_blobs.push_back(make_bytes(std::move(blob)));
  }
  return Done{};
}

Status decode_deps(const v1::GraphChunk& message, GraphChunk* chunk) {
  RETURN_IF_ERROR(check_at_most("graph_chunk.deps", message.deps_size(), kDepsPerChunkMax));
  RETURN_IF_ERROR(check_at_most("graph_chunk.externals", message.externals_size(), kExternalsPerChunkMax));
  RETURN_IF_ERROR(check_at_most("graph_chunk.borrows", message.borrows_size(), kBorrowsPerChunkMax));
  chunk->externals.reserve(message.externals_size());
  for (const std::string& external : message.externals()) {
    Result<ObjectId> id = decode_object_id(external, "graph_chunk.externals");
    if (!id.ok()) return id.error();
    chunk->externals.push_back(*id);
  }
  chunk->dep_counts = take_column<uint32_t>(message.dep_counts());
  chunk->deps = take_column<uint64_t>(message.deps());
  RETURN_IF_ERROR(
      check_counts("graph_chunk.dep_counts", chunk->dep_counts, chunk->deps.size(), chunk->task_count));
  for (uint64_t dep : chunk->deps) {
    bool external = dep % 2 == 1;
    if (dep / 2 >= (external ? chunk->externals.size() : kTaskIndexMax)) {
      return invalid(
          "graph_chunk.deps: " + std::to_string(dep) +
          (external ? " names an external that is not there" : " names a task beyond every graph's limit"));
    }
  }
  chunk->dep_returns = take_column<uint32_t>(message.dep_returns());
  if (!chunk->dep_returns.empty() && chunk->dep_returns.size() != chunk->deps.size()) {
    return invalid("graph_chunk.dep_returns: expected " + std::to_string(chunk->deps.size()) +
                   " entries (one a dependency) or none, got " + std::to_string(chunk->dep_returns.size()));
  }
  RETURN_IF_ERROR(check_each_below("graph_chunk.dep_returns", chunk->dep_returns, kReturnsPerTaskMax));
  chunk->borrow_counts = take_column<uint32_t>(message.borrow_counts());
  chunk->borrows = take_column<uint32_t>(message.borrows());
  RETURN_IF_ERROR(
      check_counts("graph_chunk.borrow_counts", chunk->borrow_counts, chunk->borrows.size(), chunk->task_count));
  return check_each_below("graph_chunk.borrows", chunk->borrows, chunk->externals.size());
}

Status decode_functions_and_options(v1::GraphChunk& message, GraphChunk* chunk) {
  RETURN_IF_ERROR(check_at_most("graph_chunk.functions", message.functions_size(), kFunctionsPerChunkMax));
  RETURN_IF_ERROR(check_at_most("graph_chunk.options", message.options_size(), kOptionsPerChunkMax));
  chunk->functions.reserve(message.functions_size());
  for (v1::FunctionDef& from : *message.mutable_functions()) {
    Result<FunctionDef> function = decode_function(std::move(from));
    if (!function.ok()) return function.error();
    chunk->functions.push_back(*std::move(function));
  }
  chunk->function_numbers = take_column<uint32_t>(message.function_numbers());
  RETURN_IF_ERROR(check_column("graph_chunk.function_numbers", chunk->function_numbers.size(), chunk->task_count));
  chunk->options.reserve(message.options_size());
  for (v1::TaskOptions& from : *message.mutable_options()) {
    Result<TaskOptions> options = decode_task_options(std::move(from));
    if (!options.ok()) return options.error();
    chunk->options.push_back(*std::move(options));
  }
  chunk->option_numbers = take_column<uint32_t>(message.option_numbers());
  RETURN_IF_ERROR(check_column("graph_chunk.option_numbers", chunk->option_numbers.size(), chunk->task_count));
  return check_each_below("graph_chunk.option_numbers", chunk->option_numbers, chunk->options.size() + 1);
}

Status decode_returns_and_names(v1::GraphChunk& message, GraphChunk* chunk) {
  chunk->return_counts = take_column<uint32_t>(message.return_counts());
  RETURN_IF_ERROR(check_column("graph_chunk.return_counts", chunk->return_counts.size(), chunk->task_count));
  for (uint32_t count : chunk->return_counts) {
    if (count == 0 || count > kReturnsPerTaskMax) {
      return invalid("graph_chunk.return_counts: expected 1 to " + std::to_string(kReturnsPerTaskMax) + ", got " +
                     std::to_string(count));
    }
  }
  RETURN_IF_ERROR(check_at_most("graph_chunk.wanted", message.wanted_size(), kWantedPerChunkMax));
  chunk->wanted = take_column<uint64_t>(message.wanted());
  for (uint64_t task : chunk->wanted) {
    RETURN_IF_ERROR(check_at_most("graph_chunk.wanted: a task's index", task, kTaskIndexMax - 1));
  }
  RETURN_IF_ERROR(check_at_most("graph_chunk.names", message.names_size(), kNamesPerChunkMax));
  chunk->names.reserve(message.names_size());
  for (std::string& name : *message.mutable_names()) {
    chunk->names.push_back(cut_text(std::move(name), kTaskNameBytesMax));
  }
  chunk->name_numbers = take_column<uint32_t>(message.name_numbers());
  RETURN_IF_ERROR(check_column("graph_chunk.name_numbers", chunk->name_numbers.size(), chunk->task_count));
  return check_each_below("graph_chunk.name_numbers", chunk->name_numbers, chunk->names.size());
}

}  // namespace

Result<GraphChunk> decode_graph_chunk(v1::GraphChunk&& message, uint64_t wire_bytes) {
  GraphChunk chunk;
  Result<GraphId> graph = decode_graph_id(message.graph(), "graph_chunk.graph");
  if (!graph.ok()) return graph.error();
  chunk.graph = *graph;
  RETURN_IF_ERROR(
      check_at_most("graph_chunk.task_count (send more chunks)", message.task_count(), kTasksPerChunkMax));
  RETURN_IF_ERROR(
      check_at_most("graph_chunk.first_task", message.first_task(), kTaskIndexMax - kTasksPerChunkMax));
  chunk.first_task = message.first_task();
  chunk.task_count = message.task_count();
  chunk.last = message.last();
  chunk.fail_fast = message.fail_fast();
  chunk.report_progress = message.report_progress();
  chunk.hold_all = message.hold_all();
  chunk.graph_name = cut_text(std::move(*message.mutable_graph_name()), kTaskNameBytesMax);
  RETURN_IF_ERROR(decode_groups(message, &chunk));
  RETURN_IF_ERROR(decode_deps(message, &chunk));
  RETURN_IF_ERROR(decode_functions_and_options(message, &chunk));
  RETURN_IF_ERROR(decode_returns_and_names(message, &chunk));
  chunk.submitted_by_batch = message.submitted_by_batch();
  chunk.submitted_by_position = message.submitted_by_position();
  chunk.wire_bytes = wire_bytes;
  return chunk;
}

void encode_graph_chunk(const GraphChunk& chunk, v1::GraphChunk* message) {
  message->set_graph(chunk.graph.binary());
  message->set_first_task(chunk.first_task);
  message->set_task_count(chunk.task_count);
  message->set_last(chunk.last);
  message->set_fail_fast(chunk.fail_fast);
  message->set_report_progress(chunk.report_progress);
  message->set_hold_all(chunk.hold_all);
  message->set_graph_name(chunk.graph_name);
  for (const FunctionDef& function : chunk.functions) encode_function(function, message->add_functions());
  put_column(chunk.function_numbers, message->mutable_function_numbers());
  put_column(chunk.group_sizes, message->mutable_group_sizes());
  for (const Bytes& blob : chunk.group_blobs) message->add_group_blobs(*blob);
  put_column(chunk.dep_counts, message->mutable_dep_counts());
  put_column(chunk.deps, message->mutable_deps());
  put_column(chunk.dep_returns, message->mutable_dep_returns());
  for (const ObjectId& external : chunk.externals) append_object_id(external, message->add_externals());
  put_column(chunk.borrow_counts, message->mutable_borrow_counts());
  put_column(chunk.borrows, message->mutable_borrows());
  put_column(chunk.return_counts, message->mutable_return_counts());
  put_column(chunk.option_numbers, message->mutable_option_numbers());
  for (const TaskOptions& options : chunk.options) encode_task_options(options, message->add_options());
  put_column(chunk.wanted, message->mutable_wanted());
  for (const std::string& name : chunk.names) message->add_names(name);
  put_column(chunk.name_numbers, message->mutable_name_numbers());
  message->set_submitted_by_batch(chunk.submitted_by_batch);
  message->set_submitted_by_position(chunk.submitted_by_position);
}

Result<TaskOptions> decode_task_options(v1::TaskOptions&& message) {
  TaskOptions options;
  if (message.no_resources() && message.resources_size() > 0) {
    return invalid("options: no_resources together with " + std::to_string(message.resources_size()) +
                   " resources; expected one or the other");
  }
  Result<Resources> resources = decode_resources(message.resources());
  if (!resources.ok()) return resources.error();
  options.resources = *std::move(resources);
  if (message.resources_size() == 0 && !message.no_resources()) MUST(options.resources.set("CPU", 1).ok());
  if (message.has_retries_max()) {
    if (message.retries_max() < -1) {
      return invalid("options.retries_max: expected -1 (for ever), 0 or more, got " +
                     std::to_string(message.retries_max()));
    }
    options.retries_max = message.retries_max();
  }
  options.retry_on_exception = message.retry_on_exception();
  RETURN_IF_ERROR(
      check_at_most("options.retry_exceptions bytes", message.retry_exceptions().size(), kBlobBytesMax));
  options.retry_exceptions = take_optional_bytes(message.mutable_retry_exceptions());
  if (!message.actor().empty()) {
    Result<ObjectId> actor = decode_object_id(message.actor(), "options.actor");
    if (!actor.ok()) return actor.error();
    options.actor = *actor;
  }
  RETURN_IF_ERROR(check_at_most("options.actor_name bytes", message.actor_name().size(), kNameBytesMax));
  RETURN_IF_ERROR(check_at_most("options.actor_namespace bytes", message.actor_namespace().size(), kNameBytesMax));
  options.actor_name = std::move(*message.mutable_actor_name());
  options.actor_namespace = std::move(*message.mutable_actor_namespace());
  options.detached = message.detached();
  options.get_if_exists = message.get_if_exists();
  options.priority = message.priority();
  options.data_producer = message.data_producer();
  RETURN_IF_ERROR(check_at_most("options.actor_handle bytes", message.actor_handle().size(), kBlobBytesMax));
  options.actor_handle = take_optional_bytes(message.mutable_actor_handle());
  return options;
}

void encode_task_options(const TaskOptions& options, v1::TaskOptions* message) {
  encode_resources(options.resources, message->mutable_resources());
  message->set_no_resources(options.resources.empty());
  message->set_has_retries_max(options.retries_max.has_value());
  message->set_retries_max(options.retries_max.value_or(0));
  message->set_retry_on_exception(options.retry_on_exception);
  if (options.retry_exceptions) message->set_retry_exceptions(*options.retry_exceptions);
  if (!options.actor.is_nil()) message->set_actor(options.actor.binary());
  message->set_actor_name(options.actor_name);
  message->set_actor_namespace(options.actor_namespace);
  message->set_detached(options.detached);
  message->set_get_if_exists(options.get_if_exists);
  message->set_priority(options.priority);
  message->set_data_producer(options.data_producer);
  if (options.actor_handle) message->set_actor_handle(*options.actor_handle);
}

Result<Resources> decode_resources(const WireResources& message) {
  RETURN_IF_ERROR(check_at_most("resources: names", message.size(), kResourceNamesMax));
  Resources resources;
  for (const v1::ResourceAmount& amount : message) {
    RETURN_IF_ERROR(check_at_most("resources: bytes of a name", amount.name().size(), kNameBytesMax));
    RETURN_IF_ERROR(resources.set(amount.name(), amount.amount()));
  }
  return resources;
}

void encode_resources(const Resources& resources, WireResources* message) {
  for (const auto& [name, units] : resources.units()) {
    v1::ResourceAmount* amount = message->Add();
    amount->set_name(name);
    amount->set_amount(static_cast<double>(units) / Resources::kUnitsPerWhole);
  }
}

void encode_function(const FunctionDef& function, v1::FunctionDef* message) {
  message->set_number(function.number);
  message->set_name(function.name);
  if (function.pickled) message->set_pickled(*function.pickled);
  switch (function.kind) {
    case FunctionDef::Kind::kFunction: message->set_kind(v1::FunctionDef::FUNCTION); break;
    case FunctionDef::Kind::kActorClass: message->set_kind(v1::FunctionDef::ACTOR_CLASS); break;
    case FunctionDef::Kind::kActorMethod: message->set_kind(v1::FunctionDef::ACTOR_METHOD); break;
  }
}

Result<Failure> decode_failure(v1::Failure&& message) {
  if (message.code() == v1::ERROR_NONE || !v1::ErrorCode_IsValid(message.code())) {
    return invalid("failure.code: " + std::to_string(message.code()) + " is not the code of a failure");
  }
  RETURN_IF_ERROR(check_at_most("failure.cause bytes", message.cause().size(), kFailureCauseBytesMax));
  Failure failure;
  failure.code = static_cast<FailureCode>(message.code());
  failure.message = cut_text(std::move(*message.mutable_message()), kFailureTextBytesMax);
  failure.task_name = cut_text(std::move(*message.mutable_task_name()), kTaskNameBytesMax);
  failure.cause = take_optional_bytes(message.mutable_cause());
  failure.traceback = cut_text(std::move(*message.mutable_traceback()), kFailureTextBytesMax);
  failure.pid = message.pid();
  return failure;
}

void encode_failure(const Failure& failure, v1::Failure* message) {
  message->set_code(static_cast<v1::ErrorCode>(failure.code));
  message->set_message(failure.message);
  message->set_task_name(failure.task_name);
  if (failure.cause) message->set_cause(*failure.cause);
  message->set_traceback(failure.traceback);
  message->set_pid(failure.pid);
}

std::string cut_text(std::string text, size_t size_bytes_max) {
  if (text.size() <= size_bytes_max) return text;
  size_t end = size_bytes_max;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  text.resize(end);
  return text;
}

}  // namespace raylet
