// Boost.Asio's own code, for every file that includes daemons/kit/asio.h.
#include <utility>

#include <boost/asio/impl/src.hpp>
