#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <thread>

#include "daemons/kit/grpc_server.h"
#include "daemons/kit/log_tail.h"
#include "daemons/kit/loop.h"
#include "daemons/kit/metrics.h"
#include "daemons/kit/packet_link.h"
#include "daemons/kit/spawn.h"

namespace raylet {

TEST_CASE("all packets of a turn are seen before its end") {
  Loop loop;
  SocketPair pair = *make_socket_pair();
  std::vector<std::string> seen;
  int turns = 0;
  PacketLink ours(loop, std::move(pair.ours), {[](Packet) {}, [](std::string) {}});
  PacketLink theirs(loop, std::move(pair.theirs),
                    {[&](Packet packet) {
                       seen.push_back(std::move(packet.frame));
                       loop.request_turn_end();
                     },
                     [](std::string) {}});
  loop.set_turn_end([&] {
    ++turns;
    if (seen.size() == 3) loop.stop();
  });
  for (const char* frame : {"one", "two", "three"}) REQUIRE(ours.send(frame).ok());
  loop.run();
  REQUIRE(seen == std::vector<std::string>{"one", "two", "three"});
  REQUIRE(turns == 1);
}

TEST_CASE("what does not fit the socket is sent when there is room, in order") {
  Loop loop;
  SocketPair pair = *make_socket_pair();
  size_t received = 0;
  constexpr size_t kCount = 2'000;
  PacketLink ours(loop, std::move(pair.ours), {[](Packet) {}, [](std::string) {}});
  for (size_t i = 0; i < kCount; ++i) REQUIRE(ours.send(std::to_string(i) + std::string(1'000, ' ')).ok());
  REQUIRE(ours.queued_packets() > 0);
  PacketLink theirs(loop, std::move(pair.theirs), {[&](Packet packet) {
                                                     REQUIRE(std::stoul(packet.frame) == received);
                                                     if (++received == kCount) loop.stop();
                                                   },
                                                   [](std::string) {}});
  loop.run();
  REQUIRE(ours.queued_bytes() == 0);
}

TEST_CASE("a closed peer is told once") {
  Loop loop;
  SocketPair pair = *make_socket_pair();
  int closed = 0;
  PacketLink link(loop, std::move(pair.ours), {[](Packet) {}, [&](std::string) {
                                                 ++closed;
                                                 loop.stop();
                                               }});
  pair.theirs = FileDescriptor();
  loop.run();
  REQUIRE(closed == 1);
}

TEST_CASE("an alarm that is moved rings once, at the new instant") {
  Loop loop;
  int rings = 0;
  Alarm alarm(loop, [&] {
    ++rings;
    loop.stop();
  });
  alarm.set_after(std::chrono::hours(1));
  alarm.set_after(std::chrono::milliseconds(1));
  loop.run();
  REQUIRE(rings == 1);
}

TEST_CASE("metrics are Prometheus text") {
  MetricsText text;
  text.gauge("raylet_tasks", "Tasks by state.", 3, {{"state", "run\"ning"}});
  text.gauge("raylet_tasks", "Tasks by state.", 0.5, {{"state", "ready"}});
  REQUIRE(text.take() ==
          "# HELP raylet_tasks Tasks by state.\n# TYPE raylet_tasks gauge\n"
          "raylet_tasks{state=\"run\\\"ning\"} 3\nraylet_tasks{state=\"ready\"} 0.5\n");
}

TEST_CASE("a gRPC server answers on its unix socket, and a second one is refused") {
  Loop loop;
  std::string address = "unix:/tmp/raylet-kit-test-" + std::to_string(getpid());
  auto server = GrpcServer::start(loop, {{address}, "", "", {}});
  REQUIRE(server.ok());
  REQUIRE(GrpcServer::start(loop, {{address}, "", "", {}}).error().code == Code::kAlreadyExists);
  std::thread thread([&] { loop.run(); });
  auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  bool connected = channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(10));
  loop.post([&] {
    (*server)->stop_listening();
    (*server)->shutdown(Duration::zero());
    loop.stop();
  });
  thread.join();
  REQUIRE(connected);
}

TEST_CASE("a child has its channel, its log and none of our other descriptors, and leads a session of its own") {
  SocketPair pair = *make_socket_pair();
  FileDescriptor leaked(open("/dev/null", O_RDONLY));  // on purpose not close-on-exec
  REQUIRE(leaked.number() > kChannelDescriptor);
  std::string log = "/tmp/raylet-kit-test-" + std::to_string(getpid());
  ChildSpec spec;
  spec.arguments = {"sh", "-c", "ls /proc/$$/fd; cut -d' ' -f1,6 /proc/$$/stat; echo $WORD"};
  spec.environment = environment_with({"WORD=given"});
  spec.log_path = log;
  spec.channel = std::move(pair.theirs);
  Result<pid_t> pid = spawn(std::move(spec));
  REQUIRE(pid.ok());
  int status = 0;
  REQUIRE(waitpid(*pid, &status, 0) == *pid);
  std::string itself = std::to_string(*pid);
  CHECK(read_tail(log, 1000) == "0\n1\n2\n3\n" + itself + " " + itself + "\ngiven");
  unlink(log.c_str());
}

TEST_CASE("a program that can't be executed is an error that names it, and no child is left") {
  ChildSpec spec;
  spec.arguments = {"/nowhere/program"};
  spec.log_path = "/dev/null";
  Result<pid_t> pid = spawn(std::move(spec));
  REQUIRE(!pid.ok());
  CHECK(pid.error().message.find("/nowhere/program") != std::string::npos);
  CHECK(waitpid(-1, nullptr, WNOHANG) == -1);
}

TEST_CASE("the tail of a log begins at a line's start") {
  std::string log = "/tmp/raylet-kit-test-" + std::to_string(getpid());
  std::ofstream(log) << "first line\nsecond line\nthird line\n";
  CHECK(read_tail(log, 16) == "third line");
  CHECK(read_tail(log, 1000) == "first line\nsecond line\nthird line");
  unlink(log.c_str());
  CHECK(read_tail(log, 16).empty());
}

}  // namespace raylet
