// Names of actors.
#include <utility>

#include "gcs/cluster_state.h"

namespace raylet {

namespace {

std::string quoted(const NameRecord& record) {
  return "'" + record.name + "' of namespace '" + record.name_space + "'";
}

}  // namespace

void Cluster::State::on(NameRegistered& event) {
  NameRecord& record = event.name;
  if (record.name.empty()) return reply(event.call, refuse_invalid("a name can't be empty"));
  if (record.actor.is_nil()) return reply(event.call, refuse_invalid("a name needs an actor"));
  if (record.name.size() > options.name_bytes_max || record.name_space.size() > options.name_bytes_max ||
      record.handle.size() > options.handle_bytes_max) {
    return reply(event.call, refuse_over_limit("a name and a namespace may have " +
                                               std::to_string(options.name_bytes_max) +
                                               " bytes each and a handle " +
                                               std::to_string(options.handle_bytes_max)));
  }
  if (const NameRecord* known = names.find(record.name_space, record.name)) {
    if (*known == record) return reply_about(Table::kNames, event.call, Acknowledged{});
    Refused refused = refuse(Code::kAlreadyExists, FailureCode::kActorNameTaken,
                             "the name " + quoted(record) + " is taken by actor " + known->actor.hex());
    if (known->actor == record.actor) {
      refused.failure = FailureCode::kRequestInvalid;
      refused.message = "actor " + record.actor.hex() + " has the name " + quoted(record) +
                        " already, with other properties";
    }
    refused.holder = known->actor;
    return reply_about(Table::kNames, event.call, std::move(refused));
  }
  if (nodes.find(record.node) == nullptr) return reply(event.call, refuse_unknown_node(record.node));
  if (jobs.find(record.job) == nullptr) return reply(event.call, refuse_unknown_job(record.job));
  if (names.size() >= options.name_count_max ||
      names.handle_bytes() + record.handle.size() > options.handles_bytes_max) {
    return reply(event.call, refuse_over_limit("there are " + std::to_string(names.size()) + " names with " +
                                               std::to_string(names.handle_bytes()) +
                                               " bytes of handles, which leaves no room for this one"));
  }
  if (backlog_full()) return reply(event.call, refuse_for_backlog());
  put(Table::kNames, name_key(record.name_space, record.name), make_bytes(encode(record)));
  names.add(std::move(record));
  reply_about(Table::kNames, event.call, Acknowledged{});
}

void Cluster::State::on(NameAsked& event) {
  NameAnswer answer;
  if (const NameRecord* known = names.find(event.name_space, event.name)) {
    answer = {true, known->actor, known->node, known->handle};
  }
  reply_about(Table::kNames, event.call, std::move(answer));
}

void Cluster::State::on(NameForgotten& event) {
  const NameRecord* known = names.find(event.name_space, event.name);
  if (known != nullptr && known->actor == event.actor) {
    size_t before = writes.size();
    names.remove(event.name_space, event.name, writes);
    touch_if_grown(Table::kNames, before);
  }
  reply_about(Table::kNames, event.call, Acknowledged{});
}

}  // namespace raylet
