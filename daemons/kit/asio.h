// The only include of Boost.Asio. Version 1.74 forgets <utility> in its coroutine headers and does not
// compile with GCC 12 without it.
#pragma once

#include <utility>

#include <boost/asio.hpp>

namespace raylet {
namespace asio = boost::asio;
}
