#include "daemons/cli/session_directory.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "protocol/words/ids.h"

namespace raylet {
namespace {

namespace fs = std::filesystem;

Error can_not(const std::string& what, const std::string& path, int error) {
  std::string advice;
  if (error == EACCES || error == EPERM || error == EROFS)
    advice = "; choose a directory you may write to with --session-dir";
  if (error == ENOSPC || error == EDQUOT) advice = "; free some space or choose another disk with --session-dir";
  return {Code::kFailedPrecondition, fmt::format("can't {} {}: {}{}", what, path, std::strerror(error), advice)};
}

// True if the directory was made, false if it was there and is fit for use.
Result<bool> make_private_directory(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0) return true;
  if (errno != EEXIST) return can_not("make the directory", path, errno);
  struct stat info{};
  if (lstat(path.c_str(), &info) != 0) return can_not("look at", path, errno);
  if (!S_ISDIR(info.st_mode))
    return Error{Code::kFailedPrecondition, fmt::format("expected a directory at {}, found something else", path)};
  if (info.st_uid != geteuid()) {
    return Error{
        Code::kPermissionDenied,
        fmt::format("{} belongs to another user (uid {}); choose a directory of your own with --session-dir", path,
                    info.st_uid)};
  }
  if ((info.st_mode & 0077) != 0 && chmod(path.c_str(), 0700) != 0) return can_not("make private", path, errno);
  if (access(path.c_str(), W_OK | X_OK) != 0) return can_not("write to", path, errno);
  return false;
}

// Writes beside the file and renames, so that readers see the old text or the new one.
Status write_atomically(const std::string& path, const std::string& text) {
  const std::string part = path + ".part";
  const int file = open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) return can_not("write", part, errno);
  const ssize_t written = write(file, text.data(), text.size());
  const int error = written == static_cast<ssize_t>(text.size()) ? 0 : written < 0 ? errno : ENOSPC;
  close(file);
  if (error != 0) return can_not("write", part, error);
  if (rename(part.c_str(), path.c_str()) != 0) return can_not("write", path, errno);
  return Done{};
}

}  // namespace

SessionDirectory::SessionDirectory(SessionPaths paths, int lock, bool made_directory)
    : paths_(std::move(paths)), lock_(lock), made_directory_(made_directory) {}

SessionDirectory::SessionDirectory(SessionDirectory&& other) noexcept
    : paths_(other.paths_), lock_(std::exchange(other.lock_, -1)), made_directory_(other.made_directory_) {}

SessionDirectory::~SessionDirectory() {
  if (lock_ >= 0) close(lock_);
}

Result<SessionDirectory> SessionDirectory::create(const std::string& directory) {
  SessionPaths paths(directory);
  if (fs::path(directory).parent_path() == sessions_root()) {
    if (auto made = make_private_directory(sessions_root()); !made.ok()) return made.error();
  }
  auto made = make_private_directory(directory);
  if (!made.ok()) return made.error();
  const int lock = open(paths.supervisor_pid.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock < 0) return can_not("write", paths.supervisor_pid, errno);
  SessionDirectory session(paths, lock, *made);
  if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
    return Error{
        Code::kAlreadyExists,
        fmt::format(
            "a node is running in {} (its supervisor is pid {}); stop it first: raylet stop --session-dir {}",
            directory, live_supervisor(directory).value_or(0), directory)};
  }
  // What a node that was killed may have left.
  for (const std::string& stale : {paths.node_json, paths.raylet_socket, paths.raylet_grpc, paths.gcs_grpc,
                                   paths.store_grpc, paths.redis_socket, paths.token}) {
    unlink(stale.c_str());
  }
  for (const std::string& inside : {paths.logs, paths.redis_directory}) {
    if (auto status = make_private_directory(inside); !status.ok()) return status.error();
  }
  return session;
}

Status SessionDirectory::write_pid() const {
  const std::string line = std::to_string(getpid()) + "\n";
  if (ftruncate(lock_, 0) != 0 ||
      pwrite(lock_, line.data(), line.size(), 0) != static_cast<ssize_t>(line.size())) {
    return can_not("write", paths_.supervisor_pid, errno);
  }
  return Done{};
}

Status SessionDirectory::write_token() const {
  char random[32];
  if (getrandom(random, sizeof(random), 0) != sizeof(random))
    return can_not("draw random bits for", paths_.token, errno);
  const std::string token = to_hex(std::string_view(random, sizeof(random))) + "\n";
  const int file = open(paths_.token.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) return can_not("write", paths_.token, errno);
  const ssize_t written = write(file, token.data(), token.size());
  close(file);
  if (written != static_cast<ssize_t>(token.size())) return can_not("write", paths_.token, ENOSPC);
  return Done{};
}

Status SessionDirectory::write_node_json(const nlohmann::ordered_json& node) const {
  return write_atomically(paths_.node_json, node.dump(2) + "\n");
}

Status SessionDirectory::make_current() const {
  const std::string root = sessions_root();
  if (auto made = make_private_directory(root); !made.ok()) return made.error();
  const std::string part = fmt::format("{}/current.{}", root, getpid());
  unlink(part.c_str());
  if (symlink(paths_.directory.c_str(), part.c_str()) != 0) return can_not("make", part, errno);
  if (rename(part.c_str(), (root + "/current").c_str()) != 0) return can_not("make", root + "/current", errno);
  return Done{};
}

void SessionDirectory::forget_current() const {
  std::error_code ignored;
  const fs::path current = sessions_root() + "/current";
  if (fs::read_symlink(current, ignored) == paths_.directory) fs::remove(current, ignored);
}

void SessionDirectory::remove_all_but_logs() {
  forget_current();
  std::error_code ignored;
  for (const std::string& path : {paths_.raylet_socket, paths_.raylet_grpc, paths_.gcs_grpc, paths_.store_grpc,
                                  paths_.redis_socket, paths_.token, paths_.supervisor_pid}) {
    fs::remove(path, ignored);
  }
  fs::remove_all(paths_.redis_directory, ignored);
}

void SessionDirectory::remove_all() {
  remove_all_but_logs();
  std::error_code ignored;
  fs::remove(paths_.node_json, ignored);
  fs::remove_all(paths_.logs, ignored);
  if (made_directory_) fs::remove_all(paths_.directory, ignored);
  fs::remove(sessions_root(), ignored);  // does nothing while another session is in it
}

std::string sessions_root() { return fmt::format("/tmp/raylet-{}", geteuid()); }

std::string new_session_name() {
  return fmt::format("{}/session-{:%Y%m%d-%H%M%S}-{}", sessions_root(), fmt::localtime(std::time(nullptr)),
                     getpid());
}

std::optional<pid_t> live_supervisor(const std::string& directory) {
  const int file = open(SessionPaths(directory).supervisor_pid.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (file < 0) return std::nullopt;
  char text[32] = {};
  const bool locked_by_another = flock(file, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  const ssize_t size = read(file, text, sizeof(text) - 1);
  close(file);
  if (!locked_by_another || size <= 0) return std::nullopt;
  const long pid = std::strtol(text, nullptr, 10);
  if (pid <= 1) return std::nullopt;
  return static_cast<pid_t>(pid);
}

Result<std::string> find_session(const std::string& directory) {
  std::string chosen = directory;
  if (chosen.empty()) {
    if (const char* named = std::getenv("RAYLET_SESSION_DIR"); named != nullptr) chosen = named;
  }
  if (chosen.empty()) {
    std::error_code error;
    chosen = fs::read_symlink(sessions_root() + "/current", error).string();
    if (error) {
      return Error{Code::kNotFound,
                   "no node was started here; start one with: raylet start --head (or name its directory with "
                   "--session-dir)"};
    }
  }
  std::error_code error;
  const fs::path absolute = fs::absolute(chosen, error).lexically_normal();
  chosen = absolute.has_filename() ? absolute.string() : absolute.parent_path().string();
  if (!fs::is_directory(chosen, error)) {
    return Error{Code::kNotFound, fmt::format("no node in {}: there is no such directory", chosen)};
  }
  return chosen;
}

Result<nlohmann::json> read_node_json(const std::string& directory) {
  const std::string path = SessionPaths(directory).node_json;
  std::ifstream file(path);
  if (!file) return Error{Code::kNotFound, fmt::format("no node in {}: there is no {}", directory, path)};
  auto node = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!node.is_object())
    return Error{Code::kDataLoss, fmt::format("expected a JSON object in {}; the file is damaged", path)};
  return node;
}

}  // namespace raylet
