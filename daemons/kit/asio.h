// Boost.Asio for the daemons. Include this and never <boost/asio.hpp>: that takes each file twice as long to
// compile, and version 1.74 does not compile with GCC 12 unless <utility> comes first. Asio's own code is compiled
// once, in asio.cc.
#pragma once

#include <utility>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

namespace raylet {
namespace asio = boost::asio;
}
