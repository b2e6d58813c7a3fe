#include "daemons/cli/status_screen.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <sstream>

using namespace raylet;

namespace {

bool shows(const std::string& screen, const std::string& text) { return screen.find(text) != std::string::npos; }

v1::NodeStatus busy_node() {
  v1::NodeStatus node;
  node.set_version("0.1.0");
  node.set_node(std::string("\x01\xab", 2));
  node.set_head_connected(true);
  node.set_store_connected(true);
  auto* total = node.add_total();
  total->set_name("CPU");
  total->set_amount(2);
  auto* available = node.add_available();
  available->set_name("CPU");
  available->set_amount(0.5);
  node.mutable_store()->set_capacity_bytes(1 << 30);
  auto* worker = node.add_workers();
  worker->set_worker(3);
  worker->set_pid(77);
  worker->set_state("busy");
  worker->set_running("sum_chunk-e87b0a1c00d51f3a8a0a33aa1bd0d9b3");
  worker->set_running_for_ms(1500);
  auto* graph = node.add_graphs();
  graph->set_graph("00112233445566778899aabbccddeeff");
  graph->set_state("running");
  graph->set_task_total(200);
  graph->set_finished(50);
  (*node.mutable_tasks_by_state())["running"] = 1;
  return node;
}

}  // namespace

TEST_CASE("the screen tells what a node is doing") {
  v1::HeadStatus head;
  head.set_redis_connected(true);
  const std::string screen = status_screen(busy_node(), &head, 100);
  INFO(screen);
  REQUIRE(shows(screen, "CPU 1.5 of 2"));
  REQUIRE(shows(screen, "sum_chunk  for 1.5 s"));
  REQUIRE(shows(screen, "25%"));
  REQUIRE(shows(screen, "1 running"));
  REQUIRE(shows(screen, "Redis connected"));
}

TEST_CASE("a head that does not answer is said so") {
  REQUIRE(shows(status_screen(busy_node(), nullptr, 100), "does not answer"));
}

TEST_CASE("no line is wider than the screen, whatever names users choose") {
  auto node = busy_node();
  node.mutable_workers(0)->set_running(std::string(500, 'w') + "\x1b[31m\n");
  node.mutable_graphs(0)->set_name(std::string(500, 'g'));
  for (int i = 0; i < 100; ++i) *node.add_workers() = node.workers(0);
  const std::string screen = status_screen(node, nullptr, 100);
  REQUIRE_FALSE(shows(screen, "\x1b"));
  REQUIRE(shows(screen, "... and 89 more"));
  std::istringstream lines(screen);
  for (std::string line; std::getline(lines, line);) {
    INFO(line);
    REQUIRE(line.size() <= 100);
  }
}

TEST_CASE("a task's name is shown as what the tasks of its function have in common") {
  CHECK(short_name("slow_square-e87b0a1c-00d5-1f3a") == "slow_square");
  CHECK(short_name("('rechunk-merge-0f41ab', 3, 4)") == "rechunk-merge");
  CHECK(short_name("sum-aggregate-abcdefab") == "sum-aggregate");
  CHECK(short_name("train_model") == "train_model");
  CHECK(short_name("Counter.add") == "Counter.add");
  CHECK(short_name("<lambda>") == "<lambda>");
  CHECK(short_name("-1").size() == 2);
  CHECK(short_name("").empty());
}

TEST_CASE("a progress bar is never more than full") {
  REQUIRE(progress_bar(0, 0, 17) == "[..........]   0%");
  REQUIRE(progress_bar(5, 10, 17) == "[#####.....]  50%");
  REQUIRE(progress_bar(20, 10, 17) == "[##########] 100%");
}

TEST_CASE("the JSON has ids as hex and numbers as numbers") {
  const auto json = status_json(busy_node(), nullptr);
  REQUIRE(json["node"] == "01ab");
  REQUIRE(json["total"]["CPU"] == 2);
  REQUIRE(json["graphs"][0]["finished"] == 50);
  REQUIRE(json["workers"][0]["running"] == "sum_chunk-e87b0a1c00d51f3a8a0a33aa1bd0d9b3");
  REQUIRE(json["head"].is_null());
}
