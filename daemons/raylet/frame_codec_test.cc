#include "daemons/raylet/frame_codec.h"

#include <catch2/catch.hpp>
#include <string>
#include <utility>

#include "protocol/codec/id_codec.h"
#include "protocol/codec/limits.h"
#include "protocol/codec/random_words.h"
#include "protocol/codec/session_codec.h"

namespace raylet {
namespace {

constexpr SessionId kSession{7};

template <typename T>
T decoded(v1::ClientFrame frame) {
  Result<std::optional<Event>> event = decode_client_frame(kSession, std::move(frame), 100);
  INFO((event.ok() ? "" : event.error().message));
  REQUIRE(event.ok());
  REQUIRE(event->has_value());
  REQUIRE(std::holds_alternative<T>(**event));
  return std::get<T>(std::move(**event));
}

std::string refusal_of(v1::ClientFrame frame) {
  Result<std::optional<Event>> event = decode_client_frame(kSession, std::move(frame), 100);
  return event.ok() ? "accepted" : event.error().message;
}

ObjectId object(uint64_t task) { return {{1, 2}, task, 0}; }

}  // namespace

TEST_CASE("a get names its objects, its request and whether it wants values") {
  v1::ClientFrame frame;
  frame.mutable_get()->set_request(5);
  frame.mutable_get()->set_ids(object(1).binary() + object(2).binary());
  frame.mutable_get()->set_values(true);
  GetAsked get = decoded<GetAsked>(frame);
  CHECK(get.session == kSession);
  CHECK(get.request == RequestId{5});
  CHECK(get.ids == std::vector<ObjectId>{object(1), object(2)});
  CHECK(get.values);
  frame.mutable_get()->set_request(0);
  CHECK_THAT(refusal_of(frame), Catch::Contains("get.request"));
}

TEST_CASE("references come with their unpin counts") {
  v1::ClientFrame frame;
  v1::References* references = frame.mutable_references();
  references->set_held(object(1).binary());
  references->set_released(object(2).binary() + object(3).binary());
  references->set_unpinned(object(4).binary() + object(5).binary());
  ReferencesChanged once = decoded<ReferencesChanged>(frame);
  CHECK(once.held.size() == 1);
  CHECK(once.released.size() == 2);
  CHECK(once.unpinned.at(1).count == 1);
  references->add_unpin_counts(3);
  CHECK_THAT(refusal_of(frame), Catch::Contains("unpin_counts"));
  references->add_unpin_counts(9);
  CHECK(decoded<ReferencesChanged>(frame).unpinned.at(1).count == 9);
}

TEST_CASE("results share a frame: several returns, failures and handed back tasks") {
  v1::ClientFrame frame;
  v1::Results* results = frame.mutable_results();
  results->set_batch(4);
  for (uint32_t status : {v1::TASK_OK, v1::TASK_FAILED, v1::TASK_OK, v1::TASK_HANDED_BACK}) {
    results->add_positions(results->positions_size());
    results->add_statuses(status);
    results->add_durations_us(10 + status);
  }
  results->add_return_counts(2);
  results->add_return_counts(1);
  for (uint32_t kind : {v1::RETURN_INLINE, v1::RETURN_SEALED, v1::RETURN_INLINE}) results->add_return_kinds(kind);
  results->add_inline_values("first");
  results->add_inline_values("third");
  results->add_sealed()->set_slab(8);
  results->add_failures()->set_code(v1::TASK_RAISED);
  results->mutable_failures(0)->set_message("no");
  results->add_contained()->set_return_ordinal(2);
  results->mutable_contained(0)->set_ids(object(6).binary());

  ResultsArrived event = decoded<ResultsArrived>(frame);
  CHECK(event.batch == 4);
  REQUIRE(event.results.size() == 4);
  REQUIRE(event.results[0].returns.size() == 2);
  CHECK(*std::get<Bytes>(event.results[0].returns[0].payload) == "first");
  CHECK(std::get<SealedBytes>(event.results[0].returns[1].payload).slab == SlabId{8});
  CHECK(event.results[1].status == TaskResult::Status::kFailed);
  CHECK(event.results[1].failure.message == "no");
  CHECK(*std::get<Bytes>(event.results[2].returns.at(0).payload) == "third");
  CHECK(event.results[2].returns[0].contained == std::vector<ObjectId>{object(6)});
  CHECK(event.results[3].status == TaskResult::Status::kHandedBack);

  v1::ClientFrame extra = frame;
  extra.mutable_results()->add_inline_values("fourth");
  CHECK_THAT(refusal_of(extra), Catch::Contains("inline_values"));
  v1::ClientFrame missing = frame;
  missing.mutable_results()->clear_failures();
  CHECK_THAT(refusal_of(missing), Catch::Contains("failures"));
  v1::ClientFrame far = frame;
  far.mutable_results()->mutable_contained(0)->set_return_ordinal(3);
  CHECK_THAT(refusal_of(far), Catch::Contains("contained"));
}

TEST_CASE("the shortest results are inline values of tasks with one return") {
  v1::ClientFrame frame;
  for (uint32_t i = 0; i < 3; ++i) {
    frame.mutable_results()->add_positions(i);
    frame.mutable_results()->add_inline_values(std::to_string(i));
  }
  ResultsArrived event = decoded<ResultsArrived>(frame);
  CHECK(*std::get<Bytes>(event.results.at(2).returns.at(0).payload) == "2");
}

TEST_CASE("a put is inline or sealed, never neither and never too large for a message") {
  v1::ClientFrame frame;
  frame.mutable_put()->set_id(object(1).binary());
  CHECK_THAT(refusal_of(frame), Catch::Contains("neither"));
  frame.mutable_put()->set_inline_value("v");
  CHECK(*std::get<Bytes>(decoded<PutArrived>(frame).payload) == "v");
  frame.mutable_put()->set_inline_value(std::string(kInlineValueBytesMax + 1, 'v'));
  CHECK_THAT(refusal_of(frame), Catch::Contains("slab"));
  frame.mutable_put()->mutable_sealed()->set_slab(3);
  frame.mutable_put()->mutable_sealed()->set_size_bytes(64);
  CHECK(std::get<SealedBytes>(decoded<PutArrived>(frame).payload).size_bytes == 64);
}

TEST_CASE("a cancel names a graph or an object") {
  v1::ClientFrame frame;
  frame.mutable_cancel();
  CHECK_THAT(refusal_of(frame), Catch::Contains("neither"));
  frame.mutable_cancel()->set_graph(std::string(16, 'g'));
  CHECK(!decoded<CancelAsked>(frame).graph.is_nil());
  frame.mutable_cancel()->set_object(object(1).binary());
  CHECK_THAT(refusal_of(frame), Catch::Contains("both"));
}

TEST_CASE("frames about the connection are left to the shell, unknown ones are refused") {
  v1::ClientFrame hello;
  hello.mutable_hello();
  CHECK(!decode_client_frame(kSession, std::move(hello), 1).value().has_value());
  CHECK_THAT(refusal_of(v1::ClientFrame{}), Catch::Contains("newer"));
}

TEST_CASE("a refusal says what it is about") {
  v1::ClientFrame frame;
  frame.mutable_get()->set_request(3);
  v1::ServerFrame refusal = encode_refusal(subject_of(frame), invalid("why"));
  CHECK(refusal.refusal().about() == "get");
  CHECK(refusal.refusal().request() == 3);
  CHECK(refusal.refusal().failure().message() == "why");
}

TEST_CASE("answers are split so that no frame carries more than its share of values") {
  AnswerGet effect{kSession, RequestId{2}, {}};
  for (uint64_t i = 0; i < 10; ++i) {
    effect.answers.push_back(
        {object(i + 1), ObjectAnswer::Kind::kInline, make_bytes(std::string(1 << 20, 'x')), {}, {}});
  }
  effect.answers.push_back({object(99), ObjectAnswer::Kind::kLocated, {}, {SegmentId{1}, 64, 128}, {}});
  std::vector<v1::ServerFrame> frames = encode_answers(effect);
  REQUIRE(frames.size() == 3);
  std::string ids;
  for (const v1::ServerFrame& frame : frames) {
    CHECK(frame.object_answers().request() == 2);
    CHECK(frame.ByteSizeLong() < kAnswerBytesMax + 4096);
    ids += frame.object_answers().ids();
  }
  CHECK(decode_object_ids(ids, "ids").value().size() == 11);
  CHECK(frames.back().object_answers().locations(0).offset() == 64);
}

TEST_CASE("a batch leaves out the columns that say nothing") {
  SendBatch batch;
  batch.batch = 3;
  batch.graphs.push_back({1, 2});
  batch.tasks.resize(2);
  batch.tasks[1].index = 5;
  batch.tasks[1].input_count = 2;
  batch.inputs = {{BatchInput::Kind::kInline, 0}, {BatchInput::Kind::kEarlier, 0}};
  batch.inline_inputs.push_back(make_bytes("in"));
  v1::RunBatch message;
  encode_batch(batch, &message);
  CHECK(message.tasks(1) == 5);
  CHECK(message.attempts_size() == 0);
  CHECK(message.names_size() == 0);
  CHECK(message.graph_numbers_size() == 0);
  CHECK(message.inputs(1) == v1::INPUT_EARLIER);
  CHECK(message.job().empty());

  batch.tasks[1].name = 1;
  batch.names.push_back("own");
  v1::RunBatch named;
  encode_batch(batch, &named);
  CHECK(named.names(named.name_numbers(0)).empty());
  CHECK(named.names(named.name_numbers(1)) == "own");
}

TEST_CASE("foreign bytes are refused or decoded, never more") {
  Rng rng(5);
  int decoded_count = 0;
  for (int round = 0; round < 3'000; ++round) {
    v1::ClientFrame frame;
    switch (rng.below(3)) {
      case 0: encode_graph_chunk(random_graph_chunk(rng), frame.mutable_graph_chunk()); break;
      case 1: {
        v1::Results* results = frame.mutable_results();
        for (uint64_t i = rng.below(20); i > 0; --i) {
          results->add_positions(static_cast<uint32_t>(rng.below(300)));
          if (rng.chance(0.9)) results->add_statuses(static_cast<uint32_t>(rng.below(5)));
          if (rng.chance(0.9)) results->add_inline_values(random_string(rng, 9));
          if (rng.chance(0.3)) encode_failure(random_failure(rng), results->add_failures());
        }
        break;
      }
      case 2: frame.mutable_references()->set_held(random_string(rng, 100)); break;
    }
    std::string wire = frame.SerializeAsString();
    for (uint64_t hits = rng.below(3); hits > 0 && !wire.empty(); --hits) {
      wire[rng.below(wire.size())] = static_cast<char>(rng.next());
    }
    v1::ClientFrame damaged;
    if (!damaged.ParseFromString(wire)) continue;
    subject_of(damaged);
    Result<std::optional<Event>> event = decode_client_frame(kSession, std::move(damaged), wire.size());
    decoded_count += event.ok();
  }
  CHECK(decoded_count > 100);
}

}  // namespace raylet
