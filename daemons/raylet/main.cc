#include <unistd.h>

#include <csignal>

#include "daemons/kit/log.h"
#include "daemons/raylet/raylet.h"

int main(int argc, char** argv) {
  using namespace raylet;
  ParsedOptions parsed = parse_raylet_options(argc, argv);
  if (parsed.exit_code) return *parsed.exit_code;
  if (Status log = set_up_log("rayletd", parsed.options.log_level); !log.ok()) {
    fprintf(stderr, "rayletd: %s\n", log.error().message.c_str());
    return 2;
  }
  Loop loop;
  Result<std::unique_ptr<Raylet>> raylet = Raylet::start(loop, std::move(parsed.options));
  if (!raylet.ok()) {
    log::error("{}", raylet.error().message);
    close_log();
    // Destructors of a node that never ran could wait for peers that never came.
    _exit(1);
  }
  log::info("ready pid={}", getpid());
  loop.on_stop_signal([&] {
    // Whatever hangs on the way out does not hang for ever.
    alarm(6);
    (*raylet)->stop([&] { loop.stop(); });
  });
  loop.run();
  log::info("stopped");
  return 0;
}
