// `raylet status` and `raylet explain`: what a node is doing, and why.
#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "daemons/cli/commands.h"
#include "daemons/cli/raylet_link.h"
#include "daemons/cli/session_directory.h"
#include "daemons/cli/sizes.h"
#include "daemons/cli/status_screen.h"

namespace raylet {
namespace {

constexpr useconds_t kWatchWaitUs = 500'000;

int screen_width() {
  winsize size{};
  return ioctl(1, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kScreenWidthDefault;
}

int fail(const char* command, const Error& error) {
  std::cerr << "raylet " << command << ": " << error.message << std::endl;
  return 1;
}

}  // namespace

int status_command(const StatusOptions& options) {
  auto session = find_session(options.session_directory);
  if (!session.ok()) return fail("status", session.error());
  RayletLink link(*session);
  for (bool first = true;; first = false) {
    auto node = link.status();
    if (!node.ok()) return fail("status", node.error());
    const auto head = link.head_status();
    const v1::HeadStatus* head_pointer = head ? &*head : nullptr;
    if (options.watch && isatty(1)) std::cout << "\x1b[H\x1b[2J";
    if (options.watch && !isatty(1) && !first) std::cout << "\n";
    if (options.json) {
      std::cout << status_json(*node, head_pointer).dump(options.watch ? -1 : 2) << "\n";
    } else {
      std::cout << status_screen(*node, head_pointer, screen_width());
    }
    std::cout.flush();
    if (!options.watch || !std::cout) return 0;
    usleep(kWatchWaitUs);
  }
}

int explain_command(const ExplainOptions& options) {
  auto session = find_session(options.session_directory);
  if (!session.ok()) return fail("explain", session.error());
  auto reply = RayletLink(*session).explain(options.id);
  if (!reply.ok()) return fail("explain", reply.error());
  if (!reply->found()) {
    return fail("explain",
                {Code::kNotFound, fmt::format("nothing here has the id {}: {}", options.id,
                                              reply->reason().empty() ? "it was freed, or belongs to another node"
                                                                      : reply->reason())});
  }
  if (options.json) {
    nlohmann::ordered_json json = {{"kind", reply->kind()},
                                   {"state", reply->state()},
                                   {"reason", reply->reason()},
                                   {"since_ms", reply->since_ms()}};
    json["details"] = nlohmann::ordered_json::array();
    for (const auto& detail : reply->details()) json["details"].push_back(detail);
    std::cout << json.dump(2) << std::endl;
    return 0;
  }
  const std::string id = options.id.substr(options.id.find(':') + 1);  // "worker:3" says its kind itself
  std::cout << fmt::format("{} {}: {}, for {}\n{}\n", reply->kind(), id, reply->state(),
                           format_duration(reply->since_ms()), reply->reason());
  for (const auto& detail : reply->details()) std::cout << "  " << detail << "\n";
  std::cout.flush();
  return 0;
}

}  // namespace raylet
