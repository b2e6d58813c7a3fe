#include "daemons/raylet/hello_policy.h"

#include <catch2/catch.hpp>

namespace raylet {
namespace {

const WorkerVersions kWorkers{"3.11.2", "3.0.0"};

v1::Hello good_hello() {
  v1::Hello hello;
  hello.set_protocol_version(1);
  hello.set_role(v1::Hello::DRIVER);
  hello.set_python_version("3.11.9");
  hello.set_cloudpickle_version("3.0.0");
  hello.set_job("0123456789abcdef");
  return hello;
}

}  // namespace

TEST_CASE("a driver with the same versions is welcome, whatever its last Python number") {
  REQUIRE(check_hello(good_hello(), kWorkers).code == FailureCode::kNone);
}

TEST_CASE("each version that does not agree is refused by name") {
  v1::Hello hello = good_hello();
  hello.set_protocol_version(2);
  REQUIRE(check_hello(hello, kWorkers).message.find("protocol version 1") != std::string::npos);
  hello = good_hello();
  hello.set_python_version("3.1.1");
  REQUIRE(check_hello(hello, kWorkers).code == FailureCode::kVersionMismatch);
  REQUIRE(check_hello(hello, kWorkers).message.find("3.11.2") != std::string::npos);
  hello = good_hello();
  hello.set_cloudpickle_version("2.2.1");
  REQUIRE(check_hello(hello, kWorkers).message.find("cloudpickle 3.0.0") != std::string::npos);
}

TEST_CASE("a hello without a role or a usable job is refused") {
  v1::Hello hello = good_hello();
  hello.set_job("short");
  REQUIRE(check_hello(hello, kWorkers).code == FailureCode::kRequestInvalid);
  hello.set_job(std::string(16, '\0'));
  REQUIRE(check_hello(hello, kWorkers).code == FailureCode::kRequestInvalid);
  hello = good_hello();
  hello.set_role(v1::Hello::ROLE_UNSPECIFIED);
  REQUIRE(check_hello(hello, kWorkers).code == FailureCode::kRequestInvalid);
}

TEST_CASE("versions that nobody knows are not compared") {
  v1::Hello hello = good_hello();
  hello.set_python_version("2.7");
  REQUIRE(check_hello(hello, {}).code == FailureCode::kNone);
}

}  // namespace raylet
