// The node's events from a client's frames, and frames to clients and workers from the node's effects.
//
// Decoding takes what anyone may have sent: an error is a refusal for the session that sent it, and nothing
// of the frame was done. Frames that are about the connection rather than the node (Hello, OutputLines,
// PutPiece, Goodbye) decode to nothing and are the shell's.
//
// Pure functions; any thread.
#pragma once

#include <optional>
#include <vector>

#include "daemons/raylet/core/effects.h"
#include "daemons/raylet/core/events.h"
#include "protocol/wire/session.pb.h"
#include "protocol/words/result.h"

namespace raylet {

// `wire_bytes`: the size of the frame on the wire. The frame is worth nothing afterwards.
Result<std::optional<Event>> decode_client_frame(SessionId session, v1::ClientFrame&& frame, size_t wire_bytes);

// What a Refusal of a frame says: the name of its body ("graph_chunk", "get", ...), its graph and its request,
// as far as they can be read. REQUIRES: taken before decode_client_frame, which empties the frame.
struct FrameSubject {
  const char* about = "";
  GraphId graph;
  RequestId request;
};
FrameSubject subject_of(const v1::ClientFrame& frame);
v1::ServerFrame encode_refusal(const FrameSubject& subject, const Error& error);

// Everything of a batch but the job's setup, which only the shell keeps.
void encode_batch(const SendBatch& batch, v1::RunBatch* message);

// As many frames as it takes, so that each carries at most kAnswerBytesMax of inline values (or a single
// larger one) and kAnswersPerFrameMax answers.
std::vector<v1::ServerFrame> encode_answers(const AnswerGet& effect);

// The only effects without their frame here are those that take more than a message.
v1::ServerFrame encode(const GrantSlab& effect);
v1::ServerFrame encode(const Refuse& effect);
v1::ServerFrame encode(const GiveCredit& effect);
v1::ServerFrame encode(const ReportProgress& effect);
v1::ServerFrame encode(const ReportGraphEnd& effect);
v1::ServerFrame encode(const TellDriver& effect);
v1::ServerFrame encode(const AnswerFindActor& effect);
v1::ServerFrame encode(const Acknowledge& effect);
v1::ServerFrame encode(const InterruptTask& effect);

void encode_location(const StoredAt& at, v1::Location* message);

}  // namespace raylet
