// `raylet`: the command line.
#include <iostream>

#include "daemons/cli/commands.h"
#include "daemons/cli/sizes.h"
#include "daemons/kit/flags.h"
#include "daemons/kit/version.h"

namespace raylet {
namespace {

// A size flag: kept as bytes, refused by name.
void add_size(CLI::App* command, const std::string& name, std::optional<uint64_t>* size_bytes,
              const std::string& text) {
  command
      ->add_option_function<std::string>(
          name,
          [=](const std::string& value) {
            auto size = parse_size(value);
            if (!size.ok()) throw CLI::ValidationError(name, size.error().message);
            *size_bytes = *size;
          },
          text)
      ->type_name("SIZE");
}

void add_amount(CLI::App* command, const std::string& name, std::optional<double>* amount,
                const std::string& text) {
  command->add_option_function<double>(
             name, [=](double value) { *amount = value; }, text)
      ->type_name("N")
      ->check(CLI::Range(0.0, 1e6));
}

void add_start_flags(CLI::App* start, StartOptions* options) {
  start->add_flag("--head", options->head, "This node has the head (gcs and Redis) of the cluster");
  start->add_flag("--block", options->block, "Stay in the foreground until Ctrl-C");
  start->add_flag("--private", options->private_node,
                  "For one driver: foreground, silent, the session directory is removed at the end");
  start->add_option("--lifeline-fd", options->lifeline_fd, "Stop when this inherited pipe is closed")
      ->type_name("N");
  add_amount(start, "--num-cpus", &options->num_cpus,
             "CPUs that tasks may use; default: those this process may use");
  add_amount(start, "--num-gpus", &options->num_gpus, "GPUs that tasks may use; default: 0");
  start
      ->add_option_function<std::string>(
          "--resources",
          [=](const std::string& json) {
            auto amounts = parse_resources(json);
            if (!amounts.ok()) throw CLI::ValidationError("--resources", amounts.error().message);
            options->resources = *amounts;
          },
          "Other resources, such as '{\"ssd\": 2}'")
      ->type_name("JSON");
  add_size(start, "--memory", &options->memory_bytes,
           "Memory that tasks may ask for; default: what is available beside the store");
  add_size(start, "--object-store-memory", &options->object_store_memory_bytes,
           "Shared memory for objects, such as 2GB; default: 30 % of what is available");
  start
      ->add_option("--session-dir", options->session_directory,
                   "Where sockets and logs go; default: a new one below /tmp/raylet-UID")
      ->type_name("DIR");
  start
      ->add_option("--redis-address", options->redis_address,
                   "An existing Redis (host:port or unix:/path) instead of a private one")
      ->type_name("ADDR");
  start
      ->add_option("--listen", options->listen,
                   "Also take drivers over TCP, with a token; default: unix sockets only")
      ->type_name("HOST:PORT");
  start->add_option("--python", options->python, "The workers' Python")->type_name("PATH");
  start->add_option("--log-level", options->log_level, "Of all daemons")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error"}));
  start->add_flag("--null-workers", options->null_workers,
                  "Answer every task at once without running it (benchmarks)");
}

int run(int argc, char** argv) {
  CLI::App app("Runs Dask graphs, tasks and actors on this machine.", "raylet");
  app.require_subcommand(0, 1);  // with 1, a command that is mistyped counts as missing
  const std::string session_text = "The node's session directory; default: the newest node started here";

  StartOptions start_options;
  CLI::App* start = app.add_subcommand("start", "Start a node");
  add_start_flags(start, &start_options);

  StopOptions stop_options;
  CLI::App* stop = app.add_subcommand("stop", "Stop a node and everything that belongs to it");
  stop->add_option("--session-dir", stop_options.session_directory, session_text);
  stop->add_flag("--force", stop_options.force, "Kill what does not stop by itself");

  StatusOptions status_options;
  CLI::App* status =
      app.add_subcommand("status", "Show a node: resources, store, workers, graphs with progress, drivers");
  status->add_option("--session-dir", status_options.session_directory, session_text);
  status->add_flag("--json", status_options.json, "For programs");
  status->add_flag("--watch", status_options.watch, "Again and again, until Ctrl-C");

  ExplainOptions explain_options;
  CLI::App* explain =
      app.add_subcommand("explain", "Tell why a task, graph, object, actor, worker or job is where it is");
  explain->add_option("id", explain_options.id, "Hex id (object or task 56 digits, graph or job 32), or worker:N")
      ->required();
  explain->add_option("--session-dir", explain_options.session_directory, session_text);
  explain->add_flag("--json", explain_options.json, "For programs");

  LogsOptions logs_options;
  CLI::App* logs =
      app.add_subcommand("logs", "Show logs: supervisor, redis, gcs, rayletd, store, zygote, workers, worker-N");
  logs->add_option("component", logs_options.component, "Only this one's; default: all");
  logs->add_option("--session-dir", logs_options.session_directory, session_text);
  logs->add_flag("-f,--follow", logs_options.follow, "Go on as they grow");

  CLI::App* version = app.add_subcommand("version", "Print the version");

  if (const auto code = parse_flags(app, argc, argv)) return *code;
  if (app.get_subcommands().empty()) {
    std::cerr << "raylet: expected a command: start, stop, status, explain, logs or version\n"
                 "Try 'raylet --help'.\n";
    return 2;
  }
  if (start->parsed()) return start_command(start_options, argv[0]);
  if (stop->parsed()) return stop_command(stop_options);
  if (status->parsed()) return status_command(status_options);
  if (explain->parsed()) return explain_command(explain_options);
  if (logs->parsed()) return logs_command(logs_options);
  if (version->parsed()) std::cout << "raylet " << kVersion << std::endl;
  return 0;
}

}  // namespace
}  // namespace raylet

int main(int argc, char** argv) { return raylet::run(argc, argv); }
