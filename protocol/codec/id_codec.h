// Lists of object ids as they travel: 28 bytes each, concatenated, without a count.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "protocol/words/ids.h"
#include "protocol/words/result.h"

namespace raylet {

// An error unless `bytes` is a whole number of ids, none of them nil, at most kIdsPerFrameMax. `what` names
// the field in the message.
Result<std::vector<ObjectId>> decode_object_ids(std::string_view bytes, const char* what);

// Exactly one id, not nil.
Result<ObjectId> decode_object_id(std::string_view bytes, const char* what);

// Exactly 16 bytes, not all zero.
Result<GraphId> decode_graph_id(std::string_view bytes, const char* what);
Result<JobId> decode_job_id(std::string_view bytes, const char* what);

void append_object_id(const ObjectId& id, std::string* out);
std::string encode_object_ids(const std::vector<ObjectId>& ids);

}  // namespace raylet
