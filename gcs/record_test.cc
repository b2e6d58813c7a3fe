#include "gcs/record.h"

#include <catch2/catch.hpp>

#include "protocol/words/rng.h"

namespace raylet {
namespace {

std::string random_text(Rng& rng, uint64_t size_max) {
  std::string text;
  for (uint64_t left = rng.below(size_max + 1); left > 0; --left) text.push_back(static_cast<char>(rng.next()));
  return text;
}

template <typename Id>
Id random_id(Rng& rng) {
  return {rng.next(), rng.next()};
}

NodeRecord random_node(Rng& rng) {
  NodeRecord record;
  record.node = random_id<NodeId>(rng);
  record.incarnation = {rng.next()};
  record.host = random_text(rng, 20);
  record.address = random_text(rng, 20);
  for (uint64_t left = rng.below(4); left > 0; --left) {
    double amount = static_cast<double>(rng.below(1'000'000)) / 10'000;
    REQUIRE(record.total.set("r" + std::to_string(rng.below(9)), amount).ok());
  }
  for (uint64_t left = rng.below(4); left > 0; --left) record.labels[random_text(rng, 5)] = random_text(rng, 5);
  record.pid = rng.next();
  record.store_capacity_bytes = rng.next();
  return record;
}

JobRecord random_job(Rng& rng) {
  return {random_id<JobId>(rng), random_id<NodeId>(rng), random_text(rng, 30), rng.next()};
}

GraphPartRecord random_part(Rng& rng) {
  return {random_id<GraphId>(rng), random_id<JobId>(rng), random_id<NodeId>(rng),
          Incarnation{rng.next()}, static_cast<uint32_t>(rng.next()), rng.chance(0.5), random_text(rng, 200)};
}

NameRecord random_name(Rng& rng) {
  ObjectId actor{random_id<GraphId>(rng), rng.next(), static_cast<uint32_t>(rng.next())};
  return {random_text(rng, 10), random_text(rng, 10), actor, random_id<JobId>(rng), random_id<NodeId>(rng),
          rng.chance(0.5), random_text(rng, 50)};
}

// Whatever happens to the bytes, decoding answers the record or an error, and never the wrong record.
void damage_and_decode(Rng& rng, const std::string& stored, auto decode) {
  std::string damaged = stored;
  switch (rng.below(4)) {
    case 0: damaged[rng.below(damaged.size())] ^= static_cast<char>(1 + rng.below(255)); break;
    case 1: damaged.resize(rng.below(damaged.size())); break;
    case 2: damaged += random_text(rng, 10) + "x"; break;
    case 3: damaged = random_text(rng, 300); break;
  }
  auto decoded = decode(damaged);
  REQUIRE_FALSE(decoded.ok());
  REQUIRE_FALSE(decoded.error().message.empty());
}

TEST_CASE("every record reads back as it was written, and damaged ones are refused") {
  Rng rng(20);
  for (int round = 0; round < 2'000; ++round) {
    NodeRecord node = random_node(rng);
    REQUIRE(decode_node(encode(node)).value() == node);
    damage_and_decode(rng, encode(node), decode_node);

    JobRecord job = random_job(rng);
    REQUIRE(decode_job(encode(job)).value() == job);
    damage_and_decode(rng, encode(job), decode_job);

    GraphPartRecord part = random_part(rng);
    REQUIRE(decode_graph_part(encode(part)).value() == part);
    damage_and_decode(rng, encode(part), decode_graph_part);

    NameRecord name = random_name(rng);
    REQUIRE(decode_name(encode(name)).value() == name);
    damage_and_decode(rng, encode(name), decode_name);
  }
}

TEST_CASE("a damaged body with a right checksum is refused, or is a record like any other") {
  Rng rng(21);
  uint64_t refused = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string stored = encode(random_node(rng));
    std::string body = stored.substr(0, stored.size() - 4);
    if (rng.chance(0.5)) {
      body[rng.below(body.size())] = static_cast<char>(rng.next());
    } else {
      body.resize(rng.below(body.size()));
    }
    Result<NodeRecord> decoded = decode_node(with_checksum(body));
    if (!decoded.ok()) {
      ++refused;
    } else {
      REQUIRE(decode_node(encode(*decoded)).value() == *decoded);
    }
  }
  REQUIRE(refused > 5'000);
}

TEST_CASE("a record of one table is refused by another") {
  Rng rng(3);
  std::string stored = encode(random_job(rng));
  REQUIRE_FALSE(decode_node(stored).ok());
  REQUIRE_FALSE(decode_graph_part(stored).ok());
  REQUIRE(decode_name(stored).error().message == "a stored record can't be read: it belongs to table 2");
}

TEST_CASE("names of two namespaces never share a key") {
  REQUIRE(name_key("a", "bc") != name_key("ab", "c"));
  REQUIRE(name_key("", "abc") != name_key("abc", ""));
}

}  // namespace
}  // namespace raylet
