#include "protocol/codec/session_codec.h"

#include <catch2/catch.hpp>
#include <functional>
#include <string>

#include "protocol/codec/id_codec.h"
#include "protocol/codec/limits.h"
#include "protocol/codec/random_words.h"

namespace raylet {
namespace {

v1::GraphChunk two_tasks() {
  v1::GraphChunk message;
  message.set_graph(std::string(16, 'g'));
  message.set_task_count(2);
  message.add_group_sizes(2);
  message.add_group_blobs("blob");
  return message;
}

// The error that `spoil` brings about in a chunk that was fine.
std::string refusal_of(const std::function<void(v1::GraphChunk&)>& spoil) {
  v1::GraphChunk message = two_tasks();
  spoil(message);
  Result<GraphChunk> chunk = decode_graph_chunk(std::move(message), 0);
  return chunk.ok() ? "accepted" : chunk.error().message;
}

std::string serialized(const GraphChunk& chunk) {
  v1::GraphChunk message;
  encode_graph_chunk(chunk, &message);
  return message.SerializeAsString();
}

}  // namespace

TEST_CASE("a chunk comes back from the wire as it went there") {
  Rng rng(1);
  for (int round = 0; round < 300; ++round) {
    GraphChunk chunk = random_graph_chunk(rng);
    std::string wire = serialized(chunk);
    v1::GraphChunk message;
    REQUIRE(message.ParseFromString(wire));
    Result<GraphChunk> decoded = decode_graph_chunk(std::move(message), wire.size());
    INFO((decoded.ok() ? "" : decoded.error().message));
    REQUIRE(decoded.ok());
    CHECK(decoded->wire_bytes == wire.size());
    CHECK(decoded->deps == chunk.deps);
    CHECK(decoded->externals == chunk.externals);
    CHECK(decoded->names == chunk.names);
    CHECK(decoded->wanted == chunk.wanted);
    CHECK(decoded->return_counts == chunk.return_counts);
    CHECK(decoded->options.size() == chunk.options.size());
    CHECK(serialized(*decoded) == wire);
  }
}

TEST_CASE("truncated and damaged chunks are decoded or refused, and what is let through holds") {
  Rng rng(2);
  int refused = 0;
  for (int round = 0; round < 2'000; ++round) {
    std::string wire = serialized(random_graph_chunk(rng));
    if (rng.chance(0.3)) wire.resize(rng.below(wire.size() + 1));
    for (uint64_t hits = rng.below(4); hits > 0 && !wire.empty(); --hits) {
      wire[rng.below(wire.size())] = static_cast<char>(rng.next());
    }
    v1::GraphChunk message;
    if (!message.ParseFromString(wire)) continue;
    Result<GraphChunk> chunk = decode_graph_chunk(std::move(message), wire.size());
    if (!chunk.ok()) {
      ++refused;
      CHECK(!chunk.error().message.empty());
      continue;
    }
    uint64_t tasks = 0;
    for (uint32_t size : chunk->group_sizes) tasks += size;
    REQUIRE(tasks == chunk->task_count);
    REQUIRE(chunk->group_blobs.size() == chunk->group_sizes.size());
    for (uint64_t dep : chunk->deps) REQUIRE((dep % 2 == 0 || dep / 2 < chunk->externals.size()));
    for (uint32_t number : chunk->option_numbers) REQUIRE(number <= chunk->options.size());
    for (uint32_t number : chunk->name_numbers) REQUIRE(number < chunk->names.size());
  }
  CHECK(refused > 50);
}

TEST_CASE("columns that don't fit together are refused by name") {
  using C = v1::GraphChunk;
  CHECK(refusal_of([](C&) {}) == "accepted");
  CHECK_THAT(refusal_of([](C& c) { c.set_graph("short"); }), Catch::Contains("graph_chunk.graph"));
  CHECK_THAT(refusal_of([](C& c) { c.set_task_count(3); }), Catch::Contains("group_sizes"));
  CHECK_THAT(refusal_of([](C& c) { c.add_group_blobs("b"); }), Catch::Contains("group_blobs"));
  CHECK_THAT(refusal_of([](C& c) { c.set_group_sizes(0, 0); }), Catch::Contains("group_sizes"));
  CHECK_THAT(refusal_of([](C& c) { c.add_function_numbers(1); }), Catch::Contains("function_numbers"));
  CHECK_THAT(refusal_of([](C& c) { c.add_deps(0); }), Catch::Contains("dep_counts"));
  CHECK_THAT(refusal_of([](C& c) { c.add_dep_counts(1), c.add_dep_counts(0), c.add_deps(1); }),
             Catch::Contains("external"));
  CHECK_THAT(refusal_of([](C& c) {
               c.add_dep_counts(1), c.add_dep_counts(0), c.add_deps(0), c.add_dep_returns(0), c.add_dep_returns(1);
             }),
             Catch::Contains("dep_returns"));
  CHECK_THAT(refusal_of([](C& c) { c.add_externals("short"); }), Catch::Contains("externals"));
  CHECK_THAT(refusal_of([](C& c) { c.add_borrow_counts(1), c.add_borrow_counts(0), c.add_borrows(0); }),
             Catch::Contains("borrows"));
  CHECK_THAT(refusal_of([](C& c) { c.add_return_counts(1), c.add_return_counts(0); }),
             Catch::Contains("return_counts"));
  CHECK_THAT(refusal_of([](C& c) { c.add_option_numbers(0), c.add_option_numbers(1); }),
             Catch::Contains("option_numbers"));
  CHECK_THAT(refusal_of([](C& c) { c.add_name_numbers(0), c.add_name_numbers(0); }),
             Catch::Contains("name_numbers"));
  CHECK_THAT(refusal_of([](C& c) { c.add_functions()->set_kind(static_cast<v1::FunctionDef_Kind>(7)); }),
             Catch::Contains("kind 7"));
}

TEST_CASE("what is over a limit is refused with the limit") {
  using C = v1::GraphChunk;
  CHECK_THAT(refusal_of([](C& c) { c.set_task_count(kTasksPerChunkMax + 1); }), Catch::Contains("1048576"));
  CHECK_THAT(refusal_of([](C& c) { c.set_first_task(kTaskIndexMax); }), Catch::Contains("first_task"));
  CHECK_THAT(refusal_of([](C& c) { c.set_group_blobs(0, std::string(kBlobBytesMax + 1, 'b')); }),
             Catch::Contains("group_blobs"));
  CHECK_THAT(refusal_of([](C& c) { c.add_return_counts(1), c.add_return_counts(kReturnsPerTaskMax + 1); }),
             Catch::Contains("return_counts"));
  CHECK_THAT(refusal_of([](C& c) { c.add_wanted(kTaskIndexMax); }), Catch::Contains("wanted"));
}

TEST_CASE("options say CPU 1 when they say nothing, and nothing when they say so") {
  CHECK(decode_task_options(v1::TaskOptions{}).value().resources.to_string() == "CPU 1");
  v1::TaskOptions none;
  none.set_no_resources(true);
  CHECK(decode_task_options(std::move(none)).value().resources.empty());
  v1::TaskOptions both;
  both.set_no_resources(true);
  both.add_resources()->set_name("CPU");
  CHECK(!decode_task_options(std::move(both)).ok());
  v1::TaskOptions fine;
  fine.add_resources()->set_name("GPU");
  fine.mutable_resources(0)->set_amount(0.00001);
  CHECK_THAT(decode_task_options(std::move(fine)).error().message, Catch::Contains("GPU"));
  v1::TaskOptions retries;
  retries.set_has_retries_max(true);
  retries.set_retries_max(-2);
  CHECK_THAT(decode_task_options(std::move(retries)).error().message, Catch::Contains("retries_max"));
}

TEST_CASE("a failure comes back as it went, and long texts are cut between characters") {
  Rng rng(3);
  for (int round = 0; round < 100; ++round) {
    v1::Failure message;
    encode_failure(random_failure(rng), &message);
    std::string wire = message.SerializeAsString();
    v1::Failure again;
    encode_failure(decode_failure(std::move(message)).value(), &again);
    CHECK(again.SerializeAsString() == wire);
  }
  CHECK(!decode_failure(v1::Failure{}).ok());
  CHECK(cut_text("ab\u00e9", 3) == "ab");
  CHECK(cut_text("ab\u00e9", 4) == "ab\u00e9");
  CHECK(cut_text("abc", 2) == "ab");
}

TEST_CASE("lists of ids are whole, not nil and bounded") {
  Rng rng(4);
  std::vector<ObjectId> ids;
  for (int i = 0; i < 50; ++i) ids.push_back(random_object_id(rng));
  std::string bytes = encode_object_ids(ids);
  CHECK(bytes.substr(0, 28) == ids[0].binary());
  CHECK(decode_object_ids(bytes, "ids").value() == ids);
  CHECK(decode_object_id(ids[3].binary(), "id").value() == ids[3]);
  CHECK(decode_object_ids("", "ids").value().empty());
  CHECK(!decode_object_ids(bytes + "x", "ids").ok());
  CHECK(!decode_object_ids(bytes + std::string(28, '\0'), "ids").ok());
  CHECK(!decode_object_ids(std::string((kIdsPerFrameMax + 1) * 28, 'x'), "ids").ok());
}

}  // namespace raylet
