// The ledger with a real redis-server, which is killed with SIGKILL wherever "dies" is said.
#include "daemons/head/ledger.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <map>
#include <optional>

#include "daemons/kit/asio.h"

extern char** environ;

namespace raylet {
namespace {

using std::chrono::milliseconds;

class Redis {
 public:
  Redis() {
    char name[] = "/tmp/rl-XXXXXX";
    REQUIRE(mkdtemp(name) != nullptr);
    directory_ = name;
  }
  ~Redis() {
    die();
    std::filesystem::remove_all(directory_);
  }
  std::string socket() const { return directory_ + "/redis.sock"; }
  std::string address() const { return "unix:" + socket(); }

  void start() {
    std::string log = directory_ + "/redis.log";
    std::string path = socket();
    const char* arguments[] = {"redis-server", "--port", "0", "--unixsocket", path.c_str(), "--dir",
                               directory_.c_str(), "--appendonly", "yes", "--appendfsync", "always", "--save", "",
                               "--logfile", log.c_str(), nullptr};
    REQUIRE(posix_spawnp(&pid_, "redis-server", nullptr, nullptr, const_cast<char**>(arguments), environ) == 0);
  }
  void die() {
    if (pid_ == 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
    std::filesystem::remove(socket());
  }

 private:
  std::string directory_;
  pid_t pid_ = 0;
};

// A ledger and the state that it keeps.
struct Keeper {
  Loop& loop;
  std::optional<Ledger::Loaded> loaded;
  std::vector<uint64_t> persisted;  // tickets, as they were acknowledged
  std::string fenced;
  std::map<std::string, Bytes> state;
  uint64_t last_ticket = 0;
  std::unique_ptr<Ledger> ledger;

  Keeper(Loop& given_loop, const Redis& redis) : loop(given_loop) {
    auto opened = Ledger::open(loop, redis.address(),
                               {[this](Ledger::Loaded from_disk) { loaded = std::move(from_disk); },
                                [this](Ticket ticket) { persisted.push_back(ticket.number); },
                                [this] { return everything(); },
                                [this](std::string reason) { fenced = std::move(reason); }});
    REQUIRE(opened.ok());
    ledger = *std::move(opened);
  }
  std::vector<Write> everything() const {
    std::vector<Write> all;
    for (const auto& [key, value] : state) all.push_back({Table::kJobs, key, value});
    return all;
  }
  void put(const std::string& key, const std::string& value) {
    state[key] = make_bytes(value);
    ledger->persist({Ticket{++last_ticket}, {{Table::kJobs, key, state[key]}}});
  }
  void erase(const std::string& key) {
    state.erase(key);
    ledger->persist({Ticket{++last_ticket}, {{Table::kJobs, key, nullptr}}});
  }
  // Runs the loop until it is so. A test that hangs here is stopped by its time limit.
  void until(const std::function<bool()>& so) {
    while (!so()) loop.io().run_one_for(milliseconds(10));
  }
  void until_loaded() {
    until([this] { return loaded.has_value(); });
  }
  void until_written() {
    until([this] { return ledger->idle(); });
  }
};

// What a head that starts after this would find.
std::map<std::string, std::string> found_by_next(Loop& loop, const Redis& redis) {
  Keeper next(loop, redis);
  next.until_loaded();
  std::map<std::string, std::string> found;
  for (const StoredRecord& record : next.loaded->records) found[record.key] = *record.value;
  return found;
}

TEST_CASE("what was written is found by the next life, which has the next epoch") {
  Loop loop;
  Redis redis;
  redis.start();
  std::string binary("k\0ey\r\n", 6);
  {
    Keeper keeper(loop, redis);
    keeper.until_loaded();
    REQUIRE(keeper.loaded->epoch == 1);
    REQUIRE(keeper.loaded->records.empty());
    keeper.put(binary, std::string(100'000, '\0'));
    keeper.put("gone", "value");
    keeper.erase("gone");
    keeper.until_written();
    REQUIRE(keeper.ledger->report().commits_total <= 3);
  }
  Keeper next(loop, redis);
  next.until_loaded();
  REQUIRE(next.loaded->epoch == 2);
  REQUIRE(next.loaded->records.size() == 1);
  REQUIRE(next.loaded->records[0].key == binary);
  REQUIRE(*next.loaded->records[0].value == std::string(100'000, '\0'));
}

TEST_CASE("what waits while a commit is under way goes together in the next") {
  Loop loop;
  Redis redis;
  redis.start();
  Keeper keeper(loop, redis);
  keeper.until_loaded();
  for (int i = 0; i < 1'000; ++i) keeper.put("key" + std::to_string(i), "value");
  keeper.until_written();
  REQUIRE(keeper.ledger->report().commits_total == 2);
  REQUIRE(keeper.persisted.back() == 1'000);
  REQUIRE(found_by_next(loop, redis).size() == 1'000);
}

TEST_CASE("a ledger that is opened before Redis is there is loaded when it comes") {
  Loop loop;
  Redis redis;
  Keeper keeper(loop, redis);
  keeper.until([&] { return keeper.ledger->report().errors_total >= 2; });
  REQUIRE_FALSE(keeper.ledger->report().connected);
  REQUIRE_FALSE(keeper.ledger->report().last_error.empty());
  redis.start();
  keeper.until_loaded();
  REQUIRE(keeper.ledger->report().last_error.empty());
}

TEST_CASE("Redis dies again and again under writes, and each is acknowledged once, in order, and is there") {
  Loop loop;
  Redis redis;
  redis.start();
  Keeper keeper(loop, redis);
  keeper.until_loaded();
  for (int death = 0; death < 15; ++death) {
    for (int i = 0; i < 20; ++i) keeper.put("key" + std::to_string(i + death), "value" + std::to_string(death));
    keeper.erase("key" + std::to_string(death));
    // Somewhere in the middle of it: after so many turns of the loop.
    for (int turn = 0; turn < death; ++turn) loop.io().run_one_for(milliseconds(1));
    redis.die();
    keeper.put("while away", std::to_string(death));
    keeper.until([&] { return !keeper.ledger->report().connected; });
    redis.start();
    keeper.until_written();
  }
  REQUIRE(std::is_sorted(keeper.persisted.begin(), keeper.persisted.end()));
  REQUIRE(std::adjacent_find(keeper.persisted.begin(), keeper.persisted.end()) == keeper.persisted.end());
  REQUIRE(keeper.persisted.back() == keeper.last_ticket);
  std::map<std::string, std::string> expected;
  for (const auto& [key, value] : keeper.state) expected[key] = *value;
  REQUIRE(found_by_next(loop, redis) == expected);
}

TEST_CASE("a Redis that came back empty is given the whole state, more than one transaction of it") {
  Loop loop;
  Redis redis;
  redis.start();
  Keeper keeper(loop, redis);
  keeper.until_loaded();
  for (int i = 0; i < 5; ++i)
    keeper.put("big" + std::to_string(i), std::string(5 << 20, static_cast<char>('a' + i)));
  keeper.until_written();
  redis.die();
  std::filesystem::remove_all(std::filesystem::path(redis.socket()).parent_path() / "appendonlydir");
  redis.start();
  keeper.put("after", "value");
  keeper.until_written();
  REQUIRE(keeper.ledger->report().rewrites_total == 1);
  std::map<std::string, std::string> found = found_by_next(loop, redis);
  REQUIRE(found.size() == 6);
  REQUIRE(found["big4"] == std::string(5 << 20, 'e'));
}

TEST_CASE("a later life stops the earlier one, which writes nothing any more") {
  Loop loop;
  Redis redis;
  redis.start();
  Keeper first(loop, redis);
  first.until_loaded();
  Keeper second(loop, redis);
  second.until_loaded();
  first.put("key", "of the first");
  second.put("key", "of the second");
  second.until_written();
  first.until([&] { return !first.fenced.empty(); });
  REQUIRE(first.persisted.empty());
  REQUIRE(found_by_next(loop, redis)["key"] == "of the second");
}

TEST_CASE("a ledger that is destroyed with a commit under way leaves nothing behind") {
  Loop loop;
  Redis redis;
  redis.start();
  auto keeper = std::make_unique<Keeper>(loop, redis);
  keeper->until_loaded();
  keeper->put("key", std::string(3 << 20, 'x'));
  keeper.reset();
  for (int turn = 0; turn < 10; ++turn) loop.io().run_one_for(milliseconds(5));
  std::map<std::string, std::string> found = found_by_next(loop, redis);
  REQUIRE((found.empty() || found["key"] == std::string(3 << 20, 'x')));
}

TEST_CASE("an address that makes no sense is refused with what was expected") {
  Loop loop;
  for (const char* address : {"", "nonsense", "host:", "host:70000", ":6379", "host:12x", "unix:"}) {
    auto opened = Ledger::open(loop, address, {});
    REQUIRE_FALSE(opened.ok());
    REQUIRE(opened.error().code == Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace raylet
