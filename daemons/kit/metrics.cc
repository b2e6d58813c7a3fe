#include "daemons/kit/metrics.h"

#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include <cmath>
#include <cstdio>

#include "daemons/kit/asio.h"

namespace raylet {
namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;

constexpr auto kRequestTimeout = std::chrono::seconds(5);
constexpr size_t kRequestBytesMax = 8 << 10;

std::string escape(std::string_view value) {
  std::string out;
  for (char c : value) {
    if (c == '\\' || c == '"') out.push_back('\\');
    if (c == '\n') {
      out += "\\n";
    } else {
      out.push_back(c);
    }
  }
  return out;
}

}  // namespace

void MetricsText::gauges(std::initializer_list<Reading> readings) {
  for (const Reading& reading : readings) gauge(reading.name, reading.help, reading.value);
}

void MetricsText::counters(std::initializer_list<Reading> readings) {
  for (const Reading& reading : readings) counter(reading.name, reading.help, reading.value);
}

void MetricsText::gauge(std::string_view name, std::string_view help, double value, const Labels& labels) {
  add("gauge", name, help, value, labels);
}

void MetricsText::counter(std::string_view name, std::string_view help, double value, const Labels& labels) {
  add("counter", name, help, value, labels);
}

void MetricsText::add(std::string_view type, std::string_view name, std::string_view help, double value,
                      const Labels& labels) {
  if (name != last_name_) {
    last_name_ = name;
    text_.append("# HELP ").append(name).append(" ").append(help).append("\n# TYPE ").append(name).append(" ");
    text_.append(type).append("\n");
  }
  text_.append(name);
  for (size_t i = 0; i < labels.size(); ++i) {
    text_.append(i == 0 ? "{" : ",").append(labels[i].first);
    text_.append("=\"").append(escape(labels[i].second)).append("\"");
  }
  if (!labels.empty()) text_.append("}");
  char number[40];
  bool whole = value == std::floor(value) && std::abs(value) < 1e15;
  std::snprintf(number, sizeof number, whole ? " %.0f\n" : " %.9g\n", value);
  text_.append(number);
}

struct MetricsHttp::Server : std::enable_shared_from_this<MetricsHttp::Server> {
  struct Connection {
    explicit Connection(tcp::socket socket) : stream(std::move(socket)) {
      parser.body_limit(0), parser.header_limit(kRequestBytesMax);
    }
    beast::tcp_stream stream;
    beast::flat_buffer buffer{kRequestBytesMax};
    http::request_parser<http::empty_body> parser;
    http::response<http::string_body> response;
  };

  Server(Loop& loop, std::function<std::string()> read) : acceptor(loop.io()), read(std::move(read)) {}

  void accept() {
    acceptor.async_accept([self = shared_from_this()](boost::system::error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (!error) self->serve(std::make_shared<Connection>(std::move(socket)));
      self->accept();
    });
  }

  void serve(std::shared_ptr<Connection> connection) {
    connection->stream.expires_after(kRequestTimeout);
    http::async_read_header(connection->stream, connection->buffer, connection->parser,
                            [self = shared_from_this(), connection](beast::error_code error, size_t) {
                              if (!error) self->answer(connection);
                            });
  }

  void answer(std::shared_ptr<Connection> connection) {
    const auto& request = connection->parser.get();
    auto& response = connection->response;
    response.version(request.version());
    response.keep_alive(false);
    response.set(http::field::content_type, "text/plain; version=0.0.4");
    if (request.method() == http::verb::get && request.target() == "/metrics") {
      response.body() = read();
    } else {
      response.result(http::status::not_found);
      response.body() = "There is only GET /metrics here.\n";
    }
    response.prepare_payload();
    http::async_write(connection->stream, response, [connection](beast::error_code, size_t) {
      beast::error_code ignored;
      connection->stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
    });
  }

  tcp::acceptor acceptor;
  std::function<std::string()> read;
};

Result<std::unique_ptr<MetricsHttp>> MetricsHttp::listen(Loop& loop, const std::string& host_port,
                                                         std::function<std::string()> read) {
  size_t colon = host_port.rfind(':');
  if (colon == std::string::npos) return invalid("--metrics-http wants host:port, not '" + host_port + "'");
  auto server = std::make_shared<Server>(loop, std::move(read));
  boost::system::error_code error;
  tcp::resolver resolver(loop.io());
  auto found = resolver.resolve(host_port.substr(0, colon), host_port.substr(colon + 1), error);
  if (!error) {
    tcp::endpoint endpoint = *found.begin();
    server->acceptor.open(endpoint.protocol(), error);
    if (!error) server->acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) server->acceptor.bind(endpoint, error);
    if (!error) server->acceptor.listen(asio::socket_base::max_listen_connections, error);
  }
  if (error) {
    return Error{Code::kUnavailable, "can't serve metrics at " + host_port + ": " + error.message() +
                                         "; choose another address with --metrics-http"};
  }
  server->accept();
  return std::unique_ptr<MetricsHttp>(new MetricsHttp(std::move(server)));
}

MetricsHttp::MetricsHttp(std::shared_ptr<Server> server) : server_(std::move(server)) {}

MetricsHttp::~MetricsHttp() {
  boost::system::error_code ignored;
  server_->acceptor.close(ignored);
}

uint16_t MetricsHttp::port() const { return server_->acceptor.local_endpoint().port(); }

}  // namespace raylet
