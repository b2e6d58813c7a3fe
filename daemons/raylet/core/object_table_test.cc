#include "daemons/raylet/core/object_table.h"

#include <catch2/catch.hpp>

namespace raylet {
namespace {

TEST_CASE("shares are found by object and walked by session, and leave no trace when removed") {
  ObjectTable objects;
  uint32_t a = objects.add({GraphId{0, 1}, 0, 0});
  uint32_t b = objects.add({GraphId{0, 1}, 1, 0});
  uint32_t of_first = 0, of_second = 0;
  uint32_t first_a = objects.add_share(a, 1, of_first);
  uint32_t first_b = objects.add_share(b, 1, of_first);
  uint32_t second_a = objects.add_share(a, 2, of_second);
  CHECK(objects.find_share(a, 1) == first_a);
  CHECK(objects.find_share(a, 2) == second_a);
  CHECK(objects.find_share(b, 2) == 0);
  objects.remove_share(first_a, of_first);
  CHECK(objects.find_share(a, 1) == 0);
  CHECK(objects.find_share(a, 2) == second_a);
  CHECK(of_first == first_b);
  objects.remove_share(first_b, of_first);
  CHECK(of_first == 0);
  objects.remove_share(second_a, of_second);
  objects.remove(a);
  objects.remove(b);
  CHECK(objects.live() == 0);
}

TEST_CASE("gets that wait for an object are told in the order in which they asked") {
  ObjectTable objects;
  uint32_t a = objects.add({GraphId{0, 1}, 0, 0});
  for (uint32_t get : {5u, 6u, 7u, 8u}) objects.add_wait(a, get);
  CHECK(objects.remove_wait(a, 6));
  CHECK(!objects.remove_wait(a, 6));
  CHECK(objects.wait_count(a) == 3);
  std::vector<uint32_t> gets;
  objects.take_waits(a, gets);
  CHECK(gets == std::vector<uint32_t>{5, 7, 8});
  CHECK(objects.wait_count(a) == 0);
}

TEST_CASE("a loose object is found by its id until it is bound again") {
  ObjectTable objects;
  ObjectId id{GraphId{0, 9}, 3, 1};
  uint32_t number = objects.add(id);
  CHECK(objects.find_loose(id) == 0);
  objects.loosen(number);
  CHECK(objects.find_loose(id) == number);
  objects.unloosen(number);
  CHECK(objects.find_loose(id) == 0);
}

}  // namespace
}  // namespace raylet
