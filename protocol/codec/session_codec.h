// The words of the session conversation, from protobuf and back: graph chunks, options, resources, failures.
//
// Decoders take what anyone may have sent. They check everything that protocol/words promises of a decoded
// word, bound what they allocate (limits.h), and say what was expected, what came and what to do. They move
// strings out of the message, which is worth nothing afterwards. Encoders take words that hold and can't fail.
// Whatever one makes, the other reads back as the same word.
#pragma once

#include <cstdint>

#include "protocol/wire/common.pb.h"
#include "protocol/wire/session.pb.h"
#include "protocol/words/failure.h"
#include "protocol/words/graph_chunk.h"
#include "protocol/words/resources.h"
#include "protocol/words/result.h"

namespace raylet {

// `wire_bytes`: the size of the frame it came in.
Result<GraphChunk> decode_graph_chunk(v1::GraphChunk&& message, uint64_t wire_bytes);
// Everything but wire_bytes. The chunk's bytes are copied.
void encode_graph_chunk(const GraphChunk& chunk, v1::GraphChunk* message);

Result<TaskOptions> decode_task_options(v1::TaskOptions&& message);
void encode_task_options(const TaskOptions& options, v1::TaskOptions* message);

using WireResources = google::protobuf::RepeatedPtrField<v1::ResourceAmount>;
Result<Resources> decode_resources(const WireResources& message);
void encode_resources(const Resources& resources, WireResources* message);

void encode_function(const FunctionDef& function, v1::FunctionDef* message);

// Texts longer than kFailureTextBytesMax are cut. A code that is not a failure is an error.
Result<Failure> decode_failure(v1::Failure&& message);
void encode_failure(const Failure& failure, v1::Failure* message);

// The longest start of `text` of at most `size_bytes_max` that does not end within a UTF-8 character.
std::string cut_text(std::string text, size_t size_bytes_max);

}  // namespace raylet
