// SessionDirectory: a node's place on disk, owned by its supervisor for as long as the node lives.
//
// The lock on supervisor.pid is held by the supervisor alone, so "is that node alive?" has an answer that no
// stale file can falsify. The directory is 0700 and ours; one that anybody else could write to is refused.
#pragma once

#include <sys/types.h>

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "daemons/cli/node_plan.h"
#include "protocol/words/result.h"

namespace raylet {

class SessionDirectory {
 public:
  // Makes the directory (and /tmp/raylet-<uid>) or takes one without a live node in it, and locks it.
  static Result<SessionDirectory> create(const std::string& directory);
  SessionDirectory(SessionDirectory&& other) noexcept;
  SessionDirectory& operator=(SessionDirectory&&) = delete;
  ~SessionDirectory();

  const SessionPaths& paths() const { return paths_; }

  // The lock's pid line; once, by the process that stays.
  Status write_pid() const;
  // 256 random bits as hex, 0600, in a file that did not exist before.
  Status write_token() const;
  Status write_node_json(const nlohmann::ordered_json& node) const;
  // /tmp/raylet-<uid>/current leads here.
  Status make_current() const;

  // What no process needs any more: everything, or all but logs and node.json. Never touches what others put
  // into a directory that was there before us.
  void remove_all();
  void remove_all_but_logs();

 private:
  SessionDirectory(SessionPaths paths, int lock, bool made_directory);
  void forget_current() const;

  SessionPaths paths_;
  int lock_ = -1;
  bool made_directory_ = false;
};

// /tmp/raylet-<uid>
std::string sessions_root();
// A fresh name below it.
std::string new_session_name();

// The supervisor of the node in `directory`; nothing when no node lives there.
std::optional<pid_t> live_supervisor(const std::string& directory);

// The directory that a command means: `directory` if given, else RAYLET_SESSION_DIR's, else the newest node
// started by `raylet start`. An error says that there is none and how to get one.
Result<std::string> find_session(const std::string& directory);

Result<nlohmann::json> read_node_json(const std::string& directory);

}  // namespace raylet
