// `raylet logs [component] [-f]`: the logs of a session, each line with the file it is from.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "daemons/cli/commands.h"
#include "daemons/cli/node_plan.h"
#include "daemons/cli/session_directory.h"

namespace raylet {
namespace {

constexpr useconds_t kFollowWaitUs = 200'000;

// One file and how far it was shown. Only whole lines are shown, so that lines of two files never mix.
class LogTail {
 public:
  explicit LogTail(std::string path) : path_(std::move(path)) {}

  void show_more(const std::string& prefix) {
    std::ifstream file(path_, std::ios::binary);
    file.seekg(shown_bytes_);
    std::string line;
    while (std::getline(file, line) && !file.eof()) {
      shown_bytes_ += static_cast<std::streamoff>(line.size()) + 1;
      std::cout << prefix << line << "\n";
    }
  }

 private:
  std::string path_;
  std::streamoff shown_bytes_ = 0;
};

std::vector<std::string> log_files(const std::string& directory, const std::string& component) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename();
    if (component.empty() || name == component || name.rfind(component + ".", 0) == 0 ||
        (component == "workers" && name.rfind("worker-", 0) == 0)) {
      names.push_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

int logs_command(const LogsOptions& options) {
  auto session = find_session(options.session_directory);
  if (!session.ok()) {
    std::cerr << "raylet logs: " << session.error().message << std::endl;
    return 1;
  }
  const std::string directory = SessionPaths(*session).logs;
  if (log_files(directory, options.component).empty()) {
    std::cerr << fmt::format("raylet logs: no log of {} in {}; there are: {}\n",
                             options.component.empty() ? "anything" : options.component, directory,
                             fmt::join(log_files(directory, ""), ", "));
    return 1;
  }
  std::map<std::string, LogTail> tails;
  while (true) {
    const auto names = log_files(directory, options.component);
    for (const std::string& name : names) {
      auto& tail = tails.try_emplace(name, directory + "/" + name).first->second;
      tail.show_more(names.size() > 1 ? fmt::format("{:<16} ", name) : "");
    }
    std::cout.flush();
    if (!options.follow || !std::cout) return 0;
    // The session is over and its logs may be gone.
    if (!live_supervisor(*session)) return 0;
    usleep(kFollowWaitUs);
  }
}

}  // namespace raylet
