// The node on one screen, as text. Pure: what it shows is in its arguments.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "protocol/wire/head.pb.h"
#include "protocol/wire/raylet.pb.h"

namespace raylet {

inline constexpr int kScreenWidthDefault = 100;

// `head` may be null: it does not answer.
std::string status_screen(const v1::NodeStatus& node, const v1::HeadStatus* head, int width);

// The same for programs: names as in raylet.proto, ids as hex.
nlohmann::ordered_json status_json(const v1::NodeStatus& node, const v1::HeadStatus* head);

// "[######....]  60%" in exactly `width` characters; 0 of 0 is empty.
std::string progress_bar(uint64_t finished, uint64_t total, int width);

// What the tasks of one function have in common of a Dask key: "slow_square" of "slow_square-e87b...", "x" of
// "('x-2', 1)". Other names stay as they are.
std::string short_name(const std::string& name);

// Ellipsis in the middle when longer than `width`. Control characters become '?': names come from users.
std::string fit(const std::string& text, size_t width);

}  // namespace raylet
