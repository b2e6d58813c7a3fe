#include "daemons/cli/status_screen.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "daemons/cli/sizes.h"
#include "protocol/words/ids.h"

namespace raylet {
namespace {

constexpr int kRowsMax = 12;  // of each list; what is more is counted

double amount_of(const google::protobuf::RepeatedPtrField<v1::ResourceAmount>& amounts, const std::string& name) {
  for (const auto& amount : amounts) {
    if (amount.name() == name) return amount.amount();
  }
  return 0;
}

std::string resources_line(const v1::NodeStatus& node) {
  std::vector<std::string> parts;
  for (const auto& total : node.total()) {
    const double used = total.amount() - amount_of(node.available(), total.name());
    if (total.name() == "memory") {
      parts.push_back(fmt::format("memory {} of {}", format_size(static_cast<uint64_t>(std::max(0.0, used))),
                                  format_size(static_cast<uint64_t>(total.amount()))));
    } else {
      parts.push_back(fmt::format("{} {:g} of {:g}", total.name(), used, total.amount()));
    }
  }
  return parts.empty() ? "none" : fmt::format("{} in use", fmt::join(parts, ", "));
}

void add_more(std::string* screen, int count) {
  if (count > kRowsMax) *screen += fmt::format("  ... and {} more\n", count - kRowsMax);
}

std::string workers_part(const v1::NodeStatus& node, size_t width) {
  std::string part = fmt::format("Workers ({})\n", node.workers_size());
  for (int i = 0; i < std::min(kRowsMax, node.workers_size()); ++i) {
    const auto& worker = node.workers(i);
    std::string doing = short_name(worker.running());
    if (!doing.empty()) doing += fmt::format("  for {}", format_duration(worker.running_for_ms()));
    part += fmt::format("  {:>4}  pid {:<8} {:<9} {}\n", worker.worker(), worker.pid(), worker.state(),
                        fit(doing, width - 32));
  }
  add_more(&part, node.workers_size());
  return part;
}

std::string graphs_part(const v1::NodeStatus& node, size_t width) {
  std::string part = fmt::format("Graphs ({})\n", node.graphs_size());
  for (int i = 0; i < std::min(kRowsMax, node.graphs_size()); ++i) {
    const auto& graph = node.graphs(i);
    const std::string name = graph.name().empty() ? graph.graph().substr(0, 12) : short_name(graph.name());
    part += fmt::format("  {:<24} {:<9} {} {:>9}/{:<9} {}{}\n", fit(name, 24), graph.state(),
                        progress_bar(graph.finished(), graph.task_total(), static_cast<int>(width) - 76),
                        graph.finished(), graph.task_total(), format_duration(graph.age_ms()),
                        graph.durable() ? "  durable" : "");
  }
  add_more(&part, node.graphs_size());
  return part;
}

std::string actors_part(const v1::NodeStatus& node, size_t width) {
  if (node.actors_size() == 0) return "";
  std::string part = fmt::format("Actors ({})\n", node.actors_size());
  for (int i = 0; i < std::min(kRowsMax, node.actors_size()); ++i) {
    const auto& actor = node.actors(i);
    const std::string name =
        actor.name().empty() ? actor.class_name() : actor.name() + " (" + actor.class_name() + ")";
    part += fmt::format("  {}  pid {:<8} {:<9} {} calls waiting\n", fit(name, width - 50), actor.pid(),
                        actor.state(), actor.calls_waiting());
  }
  add_more(&part, node.actors_size());
  return part;
}

std::string drivers_part(const v1::NodeStatus& node, size_t width) {
  std::string part = fmt::format("Drivers ({})\n", node.drivers_size());
  for (int i = 0; i < std::min(kRowsMax, node.drivers_size()); ++i) {
    const auto& driver = node.drivers(i);
    part += fmt::format("  pid {:<8} {:<6} holds {} objects  {}\n", driver.pid(), driver.carrier(),
                        driver.held_objects(), fit(driver.script(), width - 44));
  }
  add_more(&part, node.drivers_size());
  return part;
}

nlohmann::ordered_json amounts_json(const google::protobuf::RepeatedPtrField<v1::ResourceAmount>& amounts) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& amount : amounts) json[amount.name()] = amount.amount();
  return json;
}

}  // namespace

std::string progress_bar(uint64_t finished, uint64_t total, int width) {
  const int inside = std::max(4, width - 7);
  const double share = total == 0 ? 0 : std::min(1.0, static_cast<double>(finished) / static_cast<double>(total));
  const int full = static_cast<int>(share * inside);
  return fmt::format("[{}{}] {:>3}%", std::string(static_cast<size_t>(full), '#'),
                     std::string(static_cast<size_t>(inside - full), '.'), static_cast<int>(share * 100));
}

std::string short_name(const std::string& name) {
  std::string_view rest = name;
  if (rest.starts_with("('")) {  // a tuple's text: its first member counts
    rest.remove_prefix(2);
    rest = rest.substr(0, rest.find_first_of("',"));
  }
  auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c & 0x80) != 0; };
  auto is_word = [&](std::string_view part) {
    bool letters = !part.empty() && std::all_of(part.begin(), part.end(), is_letter);
    return letters && (part.size() != 8 || part.find_first_not_of("abcdef") != std::string_view::npos);
  };
  size_t end = std::min(rest.find('-'), rest.size());
  while (end < rest.size()) {
    size_t next = std::min(rest.find('-', end + 1), rest.size());
    if (!is_word(rest.substr(end + 1, next - end - 1))) break;
    end = next;
  }
  return end == 0 ? name : std::string(rest.substr(0, end));
}

std::string fit(const std::string& text, size_t width) {
  std::string clean = text;
  for (char& c : clean) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  if (clean.size() <= width) return clean;
  if (width < 8) return clean.substr(0, width);
  const size_t head = (width - 3) / 2, tail = width - 3 - head;
  return clean.substr(0, head) + "..." + clean.substr(clean.size() - tail);
}

std::string status_screen(const v1::NodeStatus& node, const v1::HeadStatus* head, int width) {
  const size_t columns = static_cast<size_t>(std::max(80, width));
  std::string screen;
  screen += fmt::format("Raylet {}   node {}   pid {}   up {}\n", node.version(),
                        to_hex(node.node()).substr(0, 12), node.pid(), format_duration(node.uptime_ms()));
  screen += fmt::format("Session    {}\n", node.session_directory());
  if (head == nullptr) {
    screen += "Head       does not answer (running graphs go on meanwhile)\n";
  } else {
    screen += fmt::format("Head       {}, Redis {}, {} nodes, {} jobs, {} graphs recorded, {} names\n",
                          node.head_connected() ? "connected" : "NOT connected to this node",
                          head->redis_connected() ? "connected" : "AWAY", head->node_count(), head->job_count(),
                          head->graph_count(), head->name_count());
  }
  screen += fmt::format("Resources  {}\n", resources_line(node));
  const auto& store = node.store();
  screen += fmt::format(
      "Store      {} of {} in {} objects{}{}\n", format_size(store.sealed_bytes()),
      format_size(store.capacity_bytes()), store.object_count(),
      store.waiting_count() > 0 ? fmt::format(", {} requests wait for room", store.waiting_count()) : "",
      node.store_connected() ? "" : "  (NOT connected)");
  std::vector<std::string> states;
  for (const auto& [state, count] :
       std::map<std::string, uint64_t>(node.tasks_by_state().begin(), node.tasks_by_state().end())) {
    if (count > 0) states.push_back(fmt::format("{} {}", count, state));
  }
  screen += fmt::format("Tasks      {}\n", states.empty() ? "none" : fmt::format("{}", fmt::join(states, ", ")));
  screen += "\n" + workers_part(node, columns) + graphs_part(node, columns) + actors_part(node, columns) +
            drivers_part(node, columns);
  return screen;
}

nlohmann::ordered_json status_json(const v1::NodeStatus& node, const v1::HeadStatus* head) {
  nlohmann::ordered_json json;
  json["node"] = to_hex(node.node());
  json["cluster"] = to_hex(node.cluster());
  json["version"] = node.version();
  json["pid"] = node.pid();
  json["uptime_ms"] = node.uptime_ms();
  json["session_directory"] = node.session_directory();
  json["address"] = node.address();
  json["head_connected"] = node.head_connected();
  json["store_connected"] = node.store_connected();
  json["total"] = amounts_json(node.total());
  json["available"] = amounts_json(node.available());
  const auto& store = node.store();
  json["store"] = {{"capacity_bytes", store.capacity_bytes()}, {"sealed_bytes", store.sealed_bytes()},
                   {"slab_bytes", store.slab_bytes()},         {"segment_bytes", store.segment_bytes()},
                   {"object_count", store.object_count()},     {"waiting_count", store.waiting_count()}};
  json["tasks_by_state"] =
      std::map<std::string, uint64_t>(node.tasks_by_state().begin(), node.tasks_by_state().end());
  json["inline_value_bytes"] = node.inline_value_bytes();
  json["graph_bytes"] = node.graph_bytes();
  for (const char* list : {"workers", "graphs", "drivers", "actors"}) json[list] = nlohmann::ordered_json::array();
  for (const auto& w : node.workers()) {
    json["workers"].push_back({{"worker", w.worker()},
                               {"pid", w.pid()},
                               {"state", w.state()},
                               {"running", w.running()},
                               {"running_for_ms", w.running_for_ms()},
                               {"tasks_in_flight", w.tasks_in_flight()},
                               {"job", w.job()}});
  }
  for (const auto& g : node.graphs()) {
    json["graphs"].push_back({{"graph", g.graph()},
                              {"job", g.job()},
                              {"name", g.name()},
                              {"state", g.state()},
                              {"task_total", g.task_total()},
                              {"waiting", g.waiting()},
                              {"ready", g.ready()},
                              {"running", g.running()},
                              {"finished", g.finished()},
                              {"failed", g.failed()},
                              {"age_ms", g.age_ms()},
                              {"durable", g.durable()}});
  }
  for (const auto& d : node.drivers()) {
    json["drivers"].push_back({{"job", d.job()},
                               {"pid", d.pid()},
                               {"script", d.script()},
                               {"held_objects", d.held_objects()},
                               {"carrier", d.carrier()}});
  }
  for (const auto& a : node.actors()) {
    json["actors"].push_back({{"actor", a.actor()},
                              {"name", a.name()},
                              {"class_name", a.class_name()},
                              {"state", a.state()},
                              {"pid", a.pid()},
                              {"calls_waiting", a.calls_waiting()}});
  }
  if (head != nullptr) {
    json["head"] = {{"epoch", head->epoch()},
                    {"view_version", head->view_version()},
                    {"redis_connected", head->redis_connected()},
                    {"writes_waiting", head->writes_waiting()},
                    {"node_count", head->node_count()},
                    {"job_count", head->job_count()},
                    {"graph_count", head->graph_count()},
                    {"name_count", head->name_count()},
                    {"version", head->version()}};
  } else {
    json["head"] = nullptr;
  }
  return json;
}

}  // namespace raylet
