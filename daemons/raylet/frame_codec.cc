#include "daemons/raylet/frame_codec.h"

#include <string>
#include <utility>

#include "protocol/codec/columns.h"
#include "protocol/codec/id_codec.h"
#include "protocol/codec/limits.h"
#include "protocol/codec/session_codec.h"

namespace raylet {
namespace {

using MaybeEvent = Result<std::optional<Event>>;

MaybeEvent event_of(Event event) { return std::optional<Event>(std::move(event)); }

Result<RequestId> decode_request(uint64_t number, const char* what) {
  if (number == 0) return invalid(std::string(what) + ": expected a number of your own choice, not 0");
  return RequestId{number};
}

Result<SealedBytes> decode_sealed(const v1::Sealed& message) {
  if (message.slab() == 0) return invalid("sealed.slab: expected the number of a granted slab, got 0");
  if (message.offset() > kSlabBytesMax || message.size_bytes() > kSlabBytesMax) {
    return invalid("sealed: offset " + std::to_string(message.offset()) + " and size " +
                   std::to_string(message.size_bytes()) + " are beyond every slab");
  }
  return SealedBytes{SlabId{message.slab()}, message.offset(), message.size_bytes()};
}

Result<Bytes> decode_inline(std::string* value, const char* what) {
  if (value->size() > kInlineValueBytesMax) {
    return invalid(std::string(what) + ": a value in a message has at most " +
                   std::to_string(kInlineValueBytesMax) + " bytes, got " + std::to_string(value->size()) +
                   "; write it to a slab");
  }
  return make_bytes(std::move(*value));
}

MaybeEvent decode_get(SessionId session, const v1::Get& message) {
  Result<RequestId> request = decode_request(message.request(), "get.request");
  if (!request.ok()) return request.error();
  Result<std::vector<ObjectId>> ids = decode_object_ids(message.ids(), "get.ids");
  if (!ids.ok()) return ids.error();
  return event_of(GetAsked{session, *request, *std::move(ids), message.values(), message.wanted_count()});
}

MaybeEvent decode_references(SessionId session, const v1::References& message) {
  Result<std::vector<ObjectId>> held = decode_object_ids(message.held(), "references.held");
  if (!held.ok()) return held.error();
  Result<std::vector<ObjectId>> released = decode_object_ids(message.released(), "references.released");
  if (!released.ok()) return released.error();
  Result<std::vector<ObjectId>> unpinned = decode_object_ids(message.unpinned(), "references.unpinned");
  if (!unpinned.ok()) return unpinned.error();
  bool counted = message.unpin_counts_size() > 0;
  if (counted && static_cast<size_t>(message.unpin_counts_size()) != unpinned->size()) {
    return invalid("references.unpin_counts: expected " + std::to_string(unpinned->size()) +
                   " entries or none, got " + std::to_string(message.unpin_counts_size()));
  }
  ReferencesChanged event{session, *std::move(held), *std::move(released), {}};
  event.unpinned.reserve(unpinned->size());
  for (size_t i = 0; i < unpinned->size(); ++i) {
    uint32_t count = counted ? message.unpin_counts(static_cast<int>(i)) : 1;
    if (count == 0) return invalid("references.unpin_counts: expected at least 1, got 0");
    event.unpinned.push_back({(*unpinned)[i], count});
  }
  return event_of(std::move(event));
}

MaybeEvent decode_put(SessionId session, v1::Put&& message) {
  Result<ObjectId> id = decode_object_id(message.id(), "put.id");
  if (!id.ok()) return id.error();
  Result<std::vector<ObjectId>> contained = decode_object_ids(message.contained(), "put.contained");
  if (!contained.ok()) return contained.error();
  PutArrived event{session, *id, Bytes(), *std::move(contained)};
  switch (message.content_case()) {
    case v1::Put::kInlineValue: {
      Result<Bytes> value = decode_inline(message.mutable_inline_value(), "put.inline_value");
      if (!value.ok()) return value.error();
      event.payload = *std::move(value);
      break;
    }
    case v1::Put::kSealed: {
      Result<SealedBytes> sealed = decode_sealed(message.sealed());
      if (!sealed.ok()) return sealed.error();
      event.payload = *sealed;
      break;
    }
    case v1::Put::CONTENT_NOT_SET: return invalid("put: expected inline_value or sealed, got neither");
  }
  return event_of(std::move(event));
}

MaybeEvent decode_cancel(SessionId session, const v1::Cancel& message) {
  CancelAsked event{session, {}, {}, message.force(), message.recursive(), RequestId{message.request()}};
  if (message.graph().empty() == message.object().empty()) {
    return invalid("cancel: expected a graph or an object, got " +
                   std::string(message.graph().empty() ? "neither" : "both"));
  }
  if (!message.graph().empty()) {
    Result<GraphId> graph = decode_graph_id(message.graph(), "cancel.graph");
    if (!graph.ok()) return graph.error();
    event.graph = *graph;
  } else {
    Result<ObjectId> object = decode_object_id(message.object(), "cancel.object");
    if (!object.ok()) return object.error();
    event.object = *object;
  }
  return event_of(std::move(event));
}

MaybeEvent decode_find_actor(SessionId session, v1::FindActor&& message) {
  Result<RequestId> request = decode_request(message.request(), "find_actor.request");
  if (!request.ok()) return request.error();
  if (message.name().empty()) return invalid("find_actor.name: expected the name of an actor, got none");
  RETURN_IF_ERROR(check_at_most("find_actor.name bytes", message.name().size(), kNameBytesMax));
  RETURN_IF_ERROR(check_at_most("find_actor.namespace bytes", message.namespace_().size(), kNameBytesMax));
  return event_of(FindActorAsked{session, *request, std::move(*message.mutable_name()),
                                 std::move(*message.mutable_namespace_())});
}

// Walks the columns of a Results frame: each reader takes the next entry of its list.
class ResultsReader {
 public:
  explicit ResultsReader(v1::Results& message) : message_(message) {}

  Result<std::vector<TaskResult>> read() {
    int count = message_.positions_size();
    RETURN_IF_ERROR(check_at_most("results.positions", count, kResultsPerFrameMax));
    RETURN_IF_ERROR(check_sizes(count));
    std::vector<TaskResult> results(count);
    for (int i = 0; i < count; ++i) {
      TaskResult& result = results[i];
      result.position = message_.positions(i);
      result.duration_us = message_.durations_us_size() > 0 ? message_.durations_us(i) : 0;
      RETURN_IF_ERROR(read_status(i, &result));
    }
    RETURN_IF_ERROR(check_all_taken());
    RETURN_IF_ERROR(read_contained(results));
    return results;
  }

 private:
  Status check_sizes(int count) {
    if (message_.statuses_size() != 0 && message_.statuses_size() != count) {
      return invalid("results.statuses: expected " + std::to_string(count) + " entries or none, got " +
                     std::to_string(message_.statuses_size()));
    }
    if (message_.durations_us_size() != 0 && message_.durations_us_size() != count) {
      return invalid("results.durations_us: expected " + std::to_string(count) + " entries or none, got " +
                     std::to_string(message_.durations_us_size()));
    }
    return Done{};
  }

  Status read_status(int i, TaskResult* result) {
    uint32_t status = message_.statuses_size() > 0 ? message_.statuses(i) : 0;
    switch (status) {
      case v1::TASK_OK: result->status = TaskResult::Status::kOk; return read_returns(result);
      case v1::TASK_FAILED: result->status = TaskResult::Status::kFailed; return read_failure(result);
      case v1::TASK_RETRY: result->status = TaskResult::Status::kRetry; return read_failure(result);
      case v1::TASK_HANDED_BACK: result->status = TaskResult::Status::kHandedBack; return Done{};
      default: return invalid("results.statuses: " + std::to_string(status) + " is no TaskStatus");
    }
  }

  Status read_returns(TaskResult* result) {
    uint32_t count = 1;
    if (message_.return_counts_size() > 0) {
      if (next_count_ == message_.return_counts_size()) return too_few("return_counts");
      count = message_.return_counts(next_count_++);
    }
    RETURN_IF_ERROR(check_at_most("results.return_counts", count, kReturnsPerTaskMax));
    for (; count > 0; --count) {
      result->returns.emplace_back();
      RETURN_IF_ERROR(read_payload(&result->returns.back().payload));
    }
    return Done{};
  }

  Status read_payload(Payload* payload) {
    uint32_t kind = v1::RETURN_INLINE;
    if (message_.return_kinds_size() > 0) {
      if (return_count_ == message_.return_kinds_size()) return too_few("return_kinds");
      kind = message_.return_kinds(return_count_);
    }
    ++return_count_;
    if (kind == v1::RETURN_INLINE) {
      if (next_inline_ == message_.inline_values_size()) return too_few("inline_values");
      Result<Bytes> value = decode_inline(message_.mutable_inline_values(next_inline_++), "results.inline_values");
      if (!value.ok()) return value.error();
      *payload = *std::move(value);
      return Done{};
    }
    if (kind == v1::RETURN_SEALED) {
      if (next_sealed_ == message_.sealed_size()) return too_few("sealed");
      Result<SealedBytes> sealed = decode_sealed(message_.sealed(next_sealed_++));
      if (!sealed.ok()) return sealed.error();
      *payload = *sealed;
      return Done{};
    }
    return invalid("results.return_kinds: " + std::to_string(kind) + " is no ReturnKind");
  }

  Status read_failure(TaskResult* result) {
    if (next_failure_ == message_.failures_size()) return too_few("failures");
    Result<Failure> failure = decode_failure(std::move(*message_.mutable_failures(next_failure_++)));
    if (!failure.ok()) return failure.error();
    result->failure = *std::move(failure);
    return Done{};
  }

  Status read_contained(std::vector<TaskResult>& results) {
    if (message_.contained_size() == 0) return Done{};
    std::vector<TaskResult::Return*> returns;
    for (TaskResult& result : results) {
      for (TaskResult::Return& value : result.returns) returns.push_back(&value);
    }
    for (const v1::Contained& contained : message_.contained()) {
      if (contained.return_ordinal() >= returns.size()) {
        return invalid("results.contained: return " + std::to_string(contained.return_ordinal()) + " of " +
                       std::to_string(returns.size()));
      }
      Result<std::vector<ObjectId>> ids = decode_object_ids(contained.ids(), "results.contained.ids");
      if (!ids.ok()) return ids.error();
      std::vector<ObjectId>& into = returns[contained.return_ordinal()]->contained;
      into.insert(into.end(), ids->begin(), ids->end());
    }
    return Done{};
  }

  Status check_all_taken() {
    RETURN_IF_ERROR(all_taken("return_counts", next_count_, message_.return_counts_size()));
    RETURN_IF_ERROR(all_taken("return_kinds", message_.return_kinds_size() > 0 ? return_count_ : 0,
                              message_.return_kinds_size()));
    RETURN_IF_ERROR(all_taken("inline_values", next_inline_, message_.inline_values_size()));
    RETURN_IF_ERROR(all_taken("sealed", next_sealed_, message_.sealed_size()));
    return all_taken("failures", next_failure_, message_.failures_size());
  }

  static Error too_few(const char* list) {
    return invalid(std::string("results.") + list + ": fewer entries than statuses and return_counts ask for");
  }

  static Status all_taken(const char* list, int taken, int size) {
    if (taken == size) return Done{};
    return invalid(std::string("results.") + list + ": expected " + std::to_string(taken) + " entries, got " +
                   std::to_string(size));
  }

  v1::Results& message_;
  int next_count_ = 0;
  int next_inline_ = 0;
  int next_sealed_ = 0;
  int next_failure_ = 0;
  int return_count_ = 0;  // over all tasks so far
};

MaybeEvent decode_results(SessionId session, v1::Results&& message) {
  Result<std::vector<TaskResult>> results = ResultsReader(message).read();
  if (!results.ok()) return results.error();
  return event_of(ResultsArrived{session, message.batch(), *std::move(results)});
}

void add_answer(const ObjectAnswer& answer, v1::ObjectAnswers* message) {
  append_object_id(answer.id, message->mutable_ids());
  switch (answer.kind) {
    case ObjectAnswer::Kind::kInline:
      message->add_kinds(v1::ANSWER_INLINE);
      message->add_inline_values(answer.value ? *answer.value : std::string());
      break;
    case ObjectAnswer::Kind::kLocated:
      message->add_kinds(v1::ANSWER_LOCATED);
      encode_location(answer.at, message->add_locations());
      break;
    case ObjectAnswer::Kind::kFailed:
      message->add_kinds(v1::ANSWER_FAILED);
      encode_failure(answer.failure, message->add_failures());
      break;
    case ObjectAnswer::Kind::kReady: message->add_kinds(v1::ANSWER_READY); break;
  }
}

size_t payload_bytes(const ObjectAnswer& answer) {
  return size_bytes(answer.value) + size_bytes(answer.failure.cause) + answer.failure.traceback.size();
}

void encode_tasks(const SendBatch& batch, v1::RunBatch* message) {
  bool several_graphs = false;
  bool retried = false;
  bool several_returns = false;
  bool named = false;
  bool filtered = false;
  for (const SendBatch::Task& task : batch.tasks) {
    several_graphs |= task.graph != 0;
    retried |= task.attempt != 0;
    several_returns |= task.return_count != 1;
    named |= task.name != 0;
    filtered |= task.retry != 0;
  }
  int count = static_cast<int>(batch.tasks.size());
  message->mutable_tasks()->Reserve(count);
  message->mutable_function_numbers()->Reserve(count);
  message->mutable_group_numbers()->Reserve(count);
  message->mutable_group_positions()->Reserve(count);
  message->mutable_input_counts()->Reserve(count);
  for (const SendBatch::Task& task : batch.tasks) {
    if (several_graphs) message->add_graph_numbers(task.graph);
    message->add_tasks(task.index);
    if (retried) message->add_attempts(task.attempt);
    message->add_function_numbers(task.function);
    message->add_group_numbers(task.group);
    message->add_group_positions(task.group_position);
    if (several_returns) message->add_return_counts(task.return_count);
    if (named) message->add_name_numbers(task.name);
    message->add_input_counts(task.input_count);
    if (filtered) message->add_retry_numbers(task.retry);
  }
  if (named) {
    message->add_names("");  // number 0: the function's name
    for (const std::string& name : batch.names) message->add_names(name);
  }
}

}  // namespace

Result<std::optional<Event>> decode_client_frame(SessionId session, v1::ClientFrame&& frame, size_t wire_bytes) {
  switch (frame.body_case()) {
    case v1::ClientFrame::kHello:
    case v1::ClientFrame::kGoodbye:
    case v1::ClientFrame::kPutPiece:
    case v1::ClientFrame::kOutput: return std::optional<Event>();
    case v1::ClientFrame::kGraphChunk: {
      Result<GraphChunk> chunk = decode_graph_chunk(std::move(*frame.mutable_graph_chunk()), wire_bytes);
      if (!chunk.ok()) return chunk.error();
      return event_of(ChunkArrived{session, *std::move(chunk)});
    }
    case v1::ClientFrame::kGet: return decode_get(session, frame.get());
    case v1::ClientFrame::kCancelGet: {
      Result<RequestId> request = decode_request(frame.cancel_get().request(), "cancel_get.request");
      if (!request.ok()) return request.error();
      return event_of(GetCancelled{session, *request});
    }
    case v1::ClientFrame::kReferences: return decode_references(session, frame.references());
    case v1::ClientFrame::kPut: return decode_put(session, std::move(*frame.mutable_put()));
    case v1::ClientFrame::kSlabRequest: {
      Result<RequestId> request = decode_request(frame.slab_request().request(), "slab_request.request");
      if (!request.ok()) return request.error();
      uint64_t size_bytes = frame.slab_request().size_bytes();
      if (size_bytes == 0 || size_bytes > kSlabBytesMax) {
        return invalid("slab_request.size_bytes: expected 1 to " + std::to_string(kSlabBytesMax) + ", got " +
                       std::to_string(size_bytes));
      }
      return event_of(SlabAsked{session, *request, size_bytes});
    }
    case v1::ClientFrame::kSlabReturn:
      if (frame.slab_return().slab() == 0) return invalid("slab_return.slab: expected a granted slab, got 0");
      return event_of(SlabReturned{session, SlabId{frame.slab_return().slab()}});
    case v1::ClientFrame::kCancel: return decode_cancel(session, frame.cancel());
    case v1::ClientFrame::kKillActor: {
      Result<ObjectId> actor = decode_object_id(frame.kill_actor().actor(), "kill_actor.actor");
      if (!actor.ok()) return actor.error();
      return event_of(KillActorAsked{session, *actor, frame.kill_actor().no_restart()});
    }
    case v1::ClientFrame::kFindActor: return decode_find_actor(session, std::move(*frame.mutable_find_actor()));
    case v1::ClientFrame::kResults: return decode_results(session, std::move(*frame.mutable_results()));
    case v1::ClientFrame::kBlocked: return event_of(WorkerBlocked{session, frame.blocked().blocked()});
    case v1::ClientFrame::BODY_NOT_SET: break;
  }
  return invalid("a frame without a body that this raylet knows; is the client newer than the raylet?");
}

FrameSubject subject_of(const v1::ClientFrame& frame) {
  auto graph_of = [](const std::string& binary) { return GraphId::from_binary(binary).value_or(GraphId{}); };
  switch (frame.body_case()) {
    case v1::ClientFrame::kHello: return {"hello", {}, {}};
    case v1::ClientFrame::kGraphChunk: return {"graph_chunk", graph_of(frame.graph_chunk().graph()), {}};
    case v1::ClientFrame::kGet: return {"get", {}, RequestId{frame.get().request()}};
    case v1::ClientFrame::kCancelGet: return {"cancel_get", {}, RequestId{frame.cancel_get().request()}};
    case v1::ClientFrame::kReferences: return {"references", {}, {}};
    case v1::ClientFrame::kPut: return {"put", {}, {}};
    case v1::ClientFrame::kSlabRequest: return {"slab_request", {}, RequestId{frame.slab_request().request()}};
    case v1::ClientFrame::kSlabReturn: return {"slab_return", {}, {}};
    case v1::ClientFrame::kCancel:
      return {"cancel", graph_of(frame.cancel().graph()), RequestId{frame.cancel().request()}};
    case v1::ClientFrame::kKillActor: return {"kill_actor", {}, {}};
    case v1::ClientFrame::kFindActor: return {"find_actor", {}, RequestId{frame.find_actor().request()}};
    case v1::ClientFrame::kGoodbye: return {"goodbye", {}, {}};
    case v1::ClientFrame::kPutPiece: return {"put_piece", {}, {}};
    case v1::ClientFrame::kResults: return {"results", {}, {}};
    case v1::ClientFrame::kBlocked: return {"blocked", {}, {}};
    case v1::ClientFrame::kOutput: return {"output", {}, {}};
    case v1::ClientFrame::BODY_NOT_SET: break;
  }
  return {"unknown", {}, {}};
}

v1::ServerFrame encode_refusal(const FrameSubject& subject, const Error& error) {
  Refuse effect;
  effect.about = subject.about;
  effect.graph = subject.graph;
  effect.request = subject.request;
  effect.failure.code = subject.graph.is_nil() ? FailureCode::kRequestInvalid : FailureCode::kGraphInvalid;
  effect.failure.message = error.message;
  return encode(effect);
}

void encode_location(const StoredAt& at, v1::Location* message) {
  message->set_segment(at.segment.number);
  message->set_offset(at.offset);
  message->set_size_bytes(at.size_bytes);
}

void encode_batch(const SendBatch& batch, v1::RunBatch* message) {
  message->set_batch(batch.batch);
  if (batch.first_of_job) message->set_job(batch.job.binary());
  for (const FunctionDef& function : batch.functions) encode_function(function, message->add_functions());
  for (const SendBatch::Group& group : batch.groups) {
    v1::TaskGroup* to = message->add_groups();
    to->set_number(group.number);
    if (group.blob) to->set_blob(*group.blob);
  }
  put_column(batch.dropped_groups, message->mutable_dropped_groups());
  for (const GraphId& graph : batch.graphs) message->add_graphs(graph.binary());
  encode_tasks(batch, message);
  message->mutable_inputs()->Reserve(static_cast<int>(batch.inputs.size()));
  for (const BatchInput& input : batch.inputs) {
    message->add_inputs(4 * input.index + static_cast<uint64_t>(input.kind));
  }
  for (const Bytes& value : batch.inline_inputs) message->add_inline_inputs(value ? *value : std::string());
  for (const SendBatch::Located& located : batch.located_inputs) {
    encode_location(located.at, message->add_located_inputs());
    append_object_id(located.id, message->mutable_located_ids());
  }
  for (const Bytes& filter : batch.retry_exceptions)
    message->add_retry_exceptions(filter ? *filter : std::string());
}

std::vector<v1::ServerFrame> encode_answers(const AnswerGet& effect) {
  std::vector<v1::ServerFrame> frames;
  v1::ObjectAnswers* message = nullptr;
  size_t bytes = 0;
  for (const ObjectAnswer& answer : effect.answers) {
    size_t more = payload_bytes(answer);
    if (message == nullptr || bytes + more > kAnswerBytesMax ||
        static_cast<size_t>(message->kinds_size()) == kAnswersPerFrameMax) {
      message = frames.emplace_back().mutable_object_answers();
      message->set_request(effect.request.number);
      bytes = 0;
    }
    add_answer(answer, message);
    bytes += more;
  }
  return frames;
}

v1::ServerFrame encode(const GrantSlab& effect) {
  v1::ServerFrame frame;
  v1::SlabGrant* message = frame.mutable_slab_grant();
  message->set_request(effect.request.number);
  message->set_slab(effect.slab.number);
  if (effect.failure.code != FailureCode::kNone) {
    encode_failure(effect.failure, message->mutable_failure());
  } else {
    encode_location(effect.at, message->mutable_location());
  }
  return frame;
}

v1::ServerFrame encode(const Refuse& effect) {
  v1::ServerFrame frame;
  v1::Refusal* message = frame.mutable_refusal();
  encode_failure(effect.failure, message->mutable_failure());
  message->set_about(effect.about);
  if (!effect.graph.is_nil()) message->set_graph(effect.graph.binary());
  message->set_request(effect.request.number);
  return frame;
}

v1::ServerFrame encode(const GiveCredit& effect) {
  v1::ServerFrame frame;
  frame.mutable_credit()->set_bytes(effect.bytes);
  return frame;
}

v1::ServerFrame encode(const ReportProgress& effect) {
  v1::ServerFrame frame;
  v1::GraphProgress* message = frame.mutable_graph_progress();
  message->set_graph(effect.graph.binary());
  put_column(effect.finished, message->mutable_finished());
  message->set_finished_total(effect.finished_total);
  message->set_task_total(effect.task_total);
  message->set_durable(effect.durable);
  return frame;
}

v1::ServerFrame encode(const ReportGraphEnd& effect) {
  v1::ServerFrame frame;
  v1::GraphEnded* message = frame.mutable_graph_ended();
  message->set_graph(effect.graph.binary());
  if (effect.failure.code != FailureCode::kNone) encode_failure(effect.failure, message->mutable_failure());
  return frame;
}

v1::ServerFrame encode(const TellDriver& effect) {
  v1::ServerFrame frame;
  v1::Notice* message = frame.mutable_notice();
  switch (effect.severity) {
    case TellDriver::Severity::kInfo: message->set_severity(v1::INFO); break;
    case TellDriver::Severity::kWarning: message->set_severity(v1::WARNING); break;
    case TellDriver::Severity::kError: message->set_severity(v1::ERROR); break;
  }
  message->set_text(effect.text);
  return frame;
}

v1::ServerFrame encode(const AnswerFindActor& effect) {
  v1::ServerFrame frame;
  v1::ActorFound* message = frame.mutable_actor_found();
  message->set_request(effect.request.number);
  if (effect.failure.code != FailureCode::kNone) {
    encode_failure(effect.failure, message->mutable_failure());
    return frame;
  }
  message->set_actor(effect.actor.binary());
  if (effect.handle) message->set_handle(*effect.handle);
  return frame;
}

v1::ServerFrame encode(const Acknowledge& effect) {
  v1::ServerFrame frame;
  frame.mutable_ack()->set_request(effect.request.number);
  return frame;
}

v1::ServerFrame encode(const InterruptTask& effect) {
  v1::ServerFrame frame;
  frame.mutable_cancel_task()->set_batch(effect.batch);
  frame.mutable_cancel_task()->set_position(effect.position);
  return frame;
}

}  // namespace raylet
