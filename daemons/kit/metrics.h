// Prometheus text, built from scratch at each reading: whoever is asked passes its numbers in.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemons/kit/loop.h"
#include "protocol/words/result.h"

namespace raylet {

class MetricsText {
 public:
  using Labels = std::vector<std::pair<std::string_view, std::string_view>>;

  // One number without labels.
  struct Reading {
    template <typename Number>
    Reading(const char* given_name, const char* given_help, Number given_value)
        : name(given_name), help(given_help), value(static_cast<double>(given_value)) {}
    const char* name;
    const char* help;
    double value;
  };
  void gauges(std::initializer_list<Reading> readings);
  void counters(std::initializer_list<Reading> readings);

  // HELP and TYPE are written when a name is seen for the first time in a row. Counters end in _total.
  void gauge(std::string_view name, std::string_view help, double value, const Labels& labels = {});
  void counter(std::string_view name, std::string_view help, double value, const Labels& labels = {});
  std::string take() { return std::move(text_); }

 private:
  void add(std::string_view type, std::string_view name, std::string_view help, double value,
           const Labels& labels);
  std::string text_;
  std::string last_name_;
};

// GET /metrics over HTTP on `host:port`, answered with what `read` returns. Everything else is 404. An Error
// names the address and the reason.
class MetricsHttp {
 public:
  static Result<std::unique_ptr<MetricsHttp>> listen(Loop& loop, const std::string& host_port,
                                                     std::function<std::string()> read);
  ~MetricsHttp();
  uint16_t port() const;

 private:
  struct Server;
  explicit MetricsHttp(std::shared_ptr<Server> server);
  std::shared_ptr<Server> server_;
};

}  // namespace raylet
