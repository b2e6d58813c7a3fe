#include "daemons/cli/node_plan.h"

#include <algorithm>
#include <catch2/catch.hpp>

using namespace raylet;

namespace {

const Machine kMachine{.cpus = 4, .memory_available_bytes = uint64_t{10} << 30};
const Programs kPrograms{.gcs = "/b/gcs",
                         .rayletd = "/b/rayletd",
                         .plasma_store = "/b/plasma-store",
                         .redis_server = "/usr/bin/redis-server",
                         .python = "/usr/bin/python3",
                         .client_directory = "/src/client"};

Result<NodePlan> plan(const StartOptions& options, const std::string& directory = "/tmp/s",
                      const std::string& path = "") {
  return plan_node(options, kMachine, kPrograms, directory, path);
}

// The argument after `flag`.
std::string value_of(const Command& command, const std::string& flag) {
  const auto at = std::find(command.arguments.begin(), command.arguments.end(), flag);
  REQUIRE(at != command.arguments.end());
  return *(at + 1);
}

bool has(const Command& command, const std::string& flag) {
  return std::count(command.arguments.begin(), command.arguments.end(), flag) > 0;
}

}  // namespace

TEST_CASE("a node that asks for nothing gets the machine's CPUs and a third of its memory as store") {
  const auto node = plan({}).value();
  REQUIRE(value_of(node.rayletd, "--num-cpus") == "4");
  REQUIRE(node.object_store_bytes == static_cast<uint64_t>(0.3 * (uint64_t{10} << 30)));
  REQUIRE(node.memory_bytes + node.object_store_bytes == uint64_t{10} << 30);
  REQUIRE_FALSE(has(node.rayletd, "--listen-tcp"));
  REQUIRE_FALSE(has(node.rayletd, "--null-workers"));
}

TEST_CASE("what the user asks for wins") {
  StartOptions options;
  options.num_cpus = 2.5;
  options.object_store_memory_bytes = uint64_t{1} << 30;
  options.memory_bytes = 7;
  options.resources = {{"ssd", 0.5}};
  const auto node = plan(options).value();
  REQUIRE(value_of(node.rayletd, "--num-cpus") == "2.5");
  REQUIRE(value_of(node.rayletd, "--object-store-memory") == "1073741824");
  REQUIRE(value_of(node.rayletd, "--memory") == "7");
  REQUIRE(value_of(node.rayletd, "--resources") == R"({"ssd":0.5})");
}

TEST_CASE("our Redis loses nothing it acknowledged and is open to nobody else") {
  const auto node = plan({}).value();
  REQUIRE(value_of(node.redis, "--appendfsync") == "always");
  REQUIRE(value_of(node.redis, "--appendonly") == "yes");
  REQUIRE(value_of(node.redis, "--port") == "0");
  REQUIRE(value_of(node.redis, "--unixsocketperm") == "600");
  REQUIRE(value_of(node.gcs, "--redis") == "unix:/tmp/s/redis.sock");
}

TEST_CASE("an existing Redis is used and none is started") {
  StartOptions options;
  options.redis_address = "db:6379";
  const auto node = plan(options).value();
  REQUIRE_FALSE(node.own_redis);
  REQUIRE(value_of(node.gcs, "--redis") == "db:6379");
}

TEST_CASE("a node that listens on TCP always has a token") {
  StartOptions options;
  options.listen = "127.0.0.1:7001";
  const auto node = plan(options).value();
  REQUIRE(value_of(node.rayletd, "--listen-tcp") == "127.0.0.1:7001");
  REQUIRE(value_of(node.rayletd, "--token-file") == "/tmp/s/token");
}

TEST_CASE("the user's PYTHONPATH comes before the checkout's client") {
  REQUIRE(plan({}).value().python_path == "/src/client");
  REQUIRE(plan({}, "/tmp/s", "/mine").value().python_path == "/mine:/src/client");
}

TEST_CASE("what can't be is refused by the flag's name") {
  const auto refused = [](const StartOptions& options, const std::string& flag,
                          const std::string& directory = "/tmp/s") {
    const auto node = plan(options, directory);
    REQUIRE_FALSE(node.ok());
    INFO(node.error().message);
    REQUIRE(node.error().message.find(flag) == 0);
  };
  StartOptions negative;
  negative.num_cpus = -1;
  refused(negative, "--num-cpus");
  StartOptions tiny_store;
  tiny_store.object_store_memory_bytes = 1000;
  refused(tiny_store, "--object-store-memory");
  StartOptions portless;
  portless.listen = "localhost";
  refused(portless, "--listen");
  refused({}, "--session-dir", "relative");
  refused({}, "--session-dir", "/" + std::string(kSessionDirectoryBytesMax, 'x'));
}

TEST_CASE("resources are a JSON object of amounts") {
  REQUIRE(parse_resources("{}").value().empty());
  REQUIRE(parse_resources(R"({"a": 1, "b": 0.25})").value() ==
          std::map<std::string, double>{{"a", 1}, {"b", 0.25}});
  for (const char* text :
       {"", "[1]", "{\"a\": \"1\"}", "{\"a\": -1}", "{\"CPU\": 1}", "{\"a\": 0.00001}", "{'a': 1}"}) {
    INFO(text);
    REQUIRE_FALSE(parse_resources(text).ok());
  }
}

TEST_CASE("addresses have a host and a port") {
  REQUIRE(parse_host_port("localhost:80")->port == 80);
  REQUIRE(parse_host_port("[::1]:80")->host == "::1");
  for (const char* text : {"", ":", ":80", "host", "host:", "host:x", "host:70000", "host:80x"}) {
    INFO(text);
    REQUIRE_FALSE(parse_host_port(text).ok());
  }
}
