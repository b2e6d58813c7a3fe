#include "protocol/words/ids.h"

#include <catch2/catch.hpp>

namespace raylet {

TEST_CASE("an object id survives its 56 hex digits") {
  ObjectId id{{0x0102030405060708, 0x1112131415161718}, 0x2122232425262728, 0x31323334};
  REQUIRE(id.hex() == "01020304050607081112131415161718212223242526272831323334");
  REQUIRE(ObjectId::from_hex(id.hex()) == id);
  REQUIRE(ObjectId::from_binary(id.binary()) == id);
}

TEST_CASE("an id of another length or with a foreign digit is no id") {
  REQUIRE_FALSE(ObjectId::from_binary(std::string(27, 'a')));
  REQUIRE_FALSE(ObjectId::from_hex(std::string(56, 'g')));
  REQUIRE_FALSE(ObjectId::from_hex(std::string(55, 'a')));
  REQUIRE_FALSE(GraphId::from_binary(std::string(17, 'a')));
}

TEST_CASE("the nil ids are all zeros") {
  REQUIRE(ObjectId{}.is_nil());
  REQUIRE(ObjectId::from_hex(std::string(56, '0'))->is_nil());
  REQUIRE(GraphId{}.is_nil());
}

}  // namespace raylet
