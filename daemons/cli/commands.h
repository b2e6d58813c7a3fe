// The commands of `raylet`. Each returns the exit code and has said everything: results on stdout, errors on
// stderr with what to do.
#pragma once

#include <string>

#include "daemons/cli/start_options.h"

namespace raylet {

// `program` is how the user called us, for the advice that is printed.
int start_command(const StartOptions& options, const std::string& program);

struct StopOptions {
  std::string session_directory;
  bool force = false;
};
int stop_command(const StopOptions& options);

struct StatusOptions {
  std::string session_directory;
  bool json = false;
  bool watch = false;
};
int status_command(const StatusOptions& options);

struct ExplainOptions {
  std::string session_directory;
  std::string id;
  bool json = false;
};
int explain_command(const ExplainOptions& options);

struct LogsOptions {
  std::string session_directory;
  std::string component;  // empty: all
  bool follow = false;
};
int logs_command(const LogsOptions& options);

}  // namespace raylet
