// The store's events from its raylet's commands, and frames to the raylet from the store's effects.
//
// An error is a frame that is no command at all: a field that is not what the protocol says. Commands that are
// well formed and make no sense are the core's to complain about.
#pragma once

#include <optional>
#include <vector>

#include "plasma/core/effects.h"
#include "plasma/core/events.h"
#include "protocol/wire/store.pb.h"
#include "protocol/words/result.h"

namespace raylet {

constexpr uint32_t kStoreProtocolVersion = 1;

// Appends what the command says, in order; nothing of it after an error.
Status decode_store_command(const v1::StoreCommand& command, std::vector<plasma::Event>* events);

v1::StoreEvent encode_store_event(const plasma::Ready& effect);
v1::StoreEvent encode_store_event(const plasma::Leased& effect);
v1::StoreEvent encode_store_event(const plasma::Refused& effect);
v1::StoreEvent encode_store_event(const plasma::Evict& effect);
v1::StoreEvent encode_store_event(const plasma::Usage& effect);
v1::StoreEvent encode_store_event(const plasma::Complain& effect);

void encode_usage(const plasma::Usage& usage, v1::StoreUsage* message);
void encode_extent(const plasma::Extent& at, v1::Location* message);

}  // namespace raylet
