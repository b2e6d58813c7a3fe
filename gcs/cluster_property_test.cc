// The head's promise, tried on random histories: whatever was acknowledged survives any restart, whatever was
// not is there whole or not at all.
#include <catch2/catch.hpp>
#include <deque>
#include <optional>
#include <set>

#include "gcs/cluster.h"
#include "protocol/words/rng.h"

namespace raylet {
namespace {

using Disk = std::map<std::pair<Table, std::string>, Bytes>;

void write_to(Disk& disk, const std::vector<Write>& writes) {
  for (const Write& write : writes) {
    if (write.value) {
      disk[{write.table, write.key}] = write.value;
    } else {
      disk.erase({write.table, write.key});
    }
  }
}

std::vector<StoredRecord> records_of(const Disk& disk) {
  std::vector<StoredRecord> records;
  for (const auto& [key, value] : disk) records.push_back({key.first, key.second, value});
  return records;
}

bool same(const Disk& left, const Disk& right) {
  return left.size() == right.size() &&
         std::equal(left.begin(), left.end(), right.begin(), [](const auto& a, const auto& b) {
           return a.first == b.first && *a.second == *b.second;
         });
}

Disk disk_of(const Cluster& cluster) {
  Disk disk;
  write_to(disk, cluster.everything());
  return disk;
}

// Nodes, jobs, graphs and names from small ranges, so that requests meet.
HeadEvent random_request(Rng& rng, CallId call) {
  NodeId node{1, 1 + rng.below(3)};
  Incarnation incarnation{1 + rng.below(2)};
  JobId job{2, 1 + rng.below(3)};
  GraphId graph{3, 1 + rng.below(4)};
  ObjectId actor{{4, 1 + rng.below(2)}, 0, 0};
  std::string name = "name" + std::to_string(rng.below(3));
  switch (rng.below(12)) {
    case 0:
    case 1: {
      NodeRecord record;
      record.node = node;
      record.incarnation = incarnation;
      return NodeRegistered{call, record};
    }
    case 2: return NodeLeft{call, node, incarnation};
    case 3:
    case 4: return JobRegistered{call, {job, node, "script", rng.below(2)}};
    case 5: return JobEnded{call, job};
    case 6:
    case 7: {
      uint32_t part = static_cast<uint32_t>(rng.below(3));
      std::string chunk(rng.below(20), static_cast<char>('a' + rng.below(2)));
      return GraphPartCame{call, {graph, job, node, incarnation, part, part == 2, chunk}};
    }
    case 8: return GraphEnded{call, graph};
    case 9: return NameRegistered{call, {"ns", name, actor, job, node, rng.chance(0.3), "handle"}};
    case 10: return NameForgotten{call, "ns", name, actor};
    default: {
      std::vector<JobId> jobs;
      std::vector<GraphId> graphs;
      for (uint64_t i = 1; i <= 3; ++i) jobs.push_back({2, i});
      for (uint64_t i = 1; i <= 4; ++i) {
        if (rng.chance(0.9)) graphs.push_back({3, i});
      }
      return HeartbeatCame{call, node, incarnation, {}, 0, jobs, graphs, rng.chance(0.5) ? UINT64_MAX : 0};
    }
  }
}

TEST_CASE("nothing acknowledged is lost and nothing unacknowledged is half there, wherever the head stops") {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    Rng rng(seed);
    INFO("seed " << seed);
    Disk disk;
    uint64_t epoch = 1;
    auto cluster = std::make_unique<Cluster>(ClusterOptions{.epoch = epoch});
    std::deque<PersistWrites> under_way;
    // How the disk looks after each ticket: prefixes of the history, the only states a restart may find.
    std::map<uint64_t, Disk> after_ticket{{0, disk}};
    uint64_t last_ticket = 0;
    uint64_t persisted = 0;
    uint64_t last_call = 0;
    Instant now;
    std::vector<HeadEffect> effects;

    for (int round = 0; round < 120; ++round) {
      std::vector<HeadEvent> events;
      for (uint64_t count = rng.below(4); count > 0; --count) {
        CallId call{++last_call};
        events.push_back(random_request(rng, call));
      }
      if (!under_way.empty() && rng.chance(0.5)) {
        write_to(disk, under_way.front().writes);
        persisted = under_way.front().ticket.number;
        under_way.pop_front();
        events.push_back(WritesPersisted{{persisted}});
      }
      now = now + std::chrono::milliseconds(rng.below(2'000));
      effects.clear();
      cluster->step(now, events, effects);
      cluster->validate();
      for (HeadEffect& effect : effects) {
        if (auto* batch = std::get_if<PersistWrites>(&effect)) {
          REQUIRE(batch->ticket.number == last_ticket + 1);
          last_ticket = batch->ticket.number;
          Disk next = after_ticket.at(last_ticket - 1);
          write_to(next, batch->writes);
          after_ticket[last_ticket] = std::move(next);
          under_way.push_back(std::move(*batch));
        }
      }
      // What the head has in memory is exactly what the disk will hold when all tickets are written.
      REQUIRE(same(disk_of(*cluster), after_ticket.at(last_ticket)));

      if (rng.chance(0.05)) {
        // Killed. The batch under way may have been written or not; then it starts again from the disk.
        if (!under_way.empty() && rng.chance(0.5)) {
          write_to(disk, under_way.front().writes);
          ++persisted;
        }
        REQUIRE(same(disk, after_ticket.at(persisted)));
        cluster = std::make_unique<Cluster>(ClusterOptions{.epoch = ++epoch});
        LoadReport report = cluster->load(now, records_of(disk));
        cluster->validate();
        REQUIRE(report.refused.empty());
        REQUIRE(report.loaded_count == disk.size());
        REQUIRE(same(disk_of(*cluster), disk));
        under_way.clear();
        last_ticket = 0;
        persisted = 0;
        after_ticket = {{0, disk}};
      }
    }
  }
}

TEST_CASE("an acknowledged request's effect is on disk at the moment of its answer") {
  uint64_t checked = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    Rng rng(seed);
    INFO("seed " << seed);
    Disk disk;
    Cluster cluster({});
    std::deque<PersistWrites> under_way;
    std::map<CallId, std::pair<Table, std::string>> makes;
    std::map<CallId, std::string> value_of;
    std::vector<HeadEffect> effects;
    uint64_t last_call = 0;
    // Additions only: once acknowledged, the key must be on disk with exactly that value.
    for (int round = 0; round < 100; ++round) {
      std::vector<HeadEvent> events;
      for (uint64_t count = rng.below(3); count > 0; --count) {
        CallId call{++last_call};
        HeadEvent event = random_request(rng, call);
        if (auto* asked = std::get_if<NodeRegistered>(&event)) {
          asked->node.incarnation = {1};
          makes[call] = {Table::kNodes, node_key(asked->node.node)};
          value_of[call] = encode(asked->node);
        } else if (auto* asked = std::get_if<JobRegistered>(&event)) {
          makes[call] = {Table::kJobs, job_key(asked->job.job)};
          value_of[call] = encode(asked->job);
        } else if (auto* asked = std::get_if<GraphPartCame>(&event)) {
          asked->part.owner_incarnation = {1};
          makes[call] = {Table::kGraphs, graph_part_key(asked->part.graph, asked->part.part)};
          value_of[call] = encode(asked->part);
        } else if (auto* asked = std::get_if<NameRegistered>(&event)) {
          makes[call] = {Table::kNames, name_key(asked->name.name_space, asked->name.name)};
          value_of[call] = encode(asked->name);
        } else {
          continue;
        }
        events.push_back(std::move(event));
      }
      if (!under_way.empty() && rng.chance(0.4)) {
        write_to(disk, under_way.front().writes);
        events.push_back(WritesPersisted{under_way.front().ticket});
        under_way.pop_front();
      }
      effects.clear();
      cluster.step({}, events, effects);
      for (HeadEffect& effect : effects) {
        if (auto* batch = std::get_if<PersistWrites>(&effect)) under_way.push_back(std::move(*batch));
        auto* reply = std::get_if<HeadReply>(&effect);
        if (reply == nullptr || std::holds_alternative<Refused>(reply->answer)) continue;
        auto at = disk.find(makes.at(reply->call));
        REQUIRE(at != disk.end());
        REQUIRE(*at->second == value_of.at(reply->call));
        ++checked;
      }
    }
  }
  REQUIRE(checked > 1'000);
}

}  // namespace
}  // namespace raylet
