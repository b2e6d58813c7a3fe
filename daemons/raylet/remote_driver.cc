#include "daemons/raylet/remote_driver.h"

#include <grpcpp/grpcpp.h>

#include <cstring>

#include "daemons/raylet/frame_codec.h"
#include "protocol/codec/id_codec.h"

namespace raylet {
namespace {

// Values up to this size are told to be inline by the hello; one that comes in pieces may still be small.
constexpr uint64_t kInlineWhenPut = 64 << 10;

grpc::ByteBuffer to_buffer(const v1::ServerFrame& frame) {
  grpc::Slice slice(frame.ByteSizeLong());
  frame.SerializeWithCachedSizesToArray(const_cast<uint8_t*>(slice.begin()));
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace

RemoteDriver::RemoteDriver(Loop& loop, SessionHost& host, RemoteStream& stream)
    : DriverSession(loop, host, false), stream_(&stream) {}

void RemoteDriver::frame_came(v1::ClientFrame frame, size_t wire_bytes) {
  take(std::move(frame), wire_bytes);
  // A piece that waits for its slab holds the next ones back.
  if (incoming_ && !incoming_->early.empty()) {
    wants_read_ = false;
    return;
  }
  auto* self = this;
  host_.after_step([self, weak = alive()] {
    if (!weak.expired() && self->stream_ != nullptr && !self->closing_) self->stream_->read_next();
  });
}

void RemoteDriver::bad_frame(const std::string& reason) { close(reason); }

void RemoteDriver::answer(const AnswerGet& effect) {
  AnswerGet rest;
  rest.session = effect.session;
  rest.request = effect.request;
  v1::ServerFrame heads;
  std::vector<Pieces> pieces;
  for (const ObjectAnswer& answer : effect.answers) {
    if (answer.kind != ObjectAnswer::Kind::kLocated) {
      rest.answers.push_back(answer);
      continue;
    }
    v1::ObjectAnswers* message = heads.mutable_object_answers();
    message->set_request(effect.request.number);
    append_object_id(answer.id, message->mutable_ids());
    message->add_kinds(v1::ANSWER_PIECES);
    pieces.push_back({effect.request, answer.id, answer.at});
  }
  for (const v1::ServerFrame& frame : encode_answers(rest)) send(frame);
  if (pieces.empty() || !is_welcome()) return;
  send(heads);
  for (Pieces& value : pieces) outgoing_.emplace_back(std::move(value));
  pump();
}

Status RemoteDriver::write(const v1::ServerFrame& frame) {
  size_t size_bytes = frame.ByteSizeLong();
  if (size_bytes > kFrameBytesMax) {
    return Error{Code::kResourceExhausted, "a frame of " + std::to_string(size_bytes) + " bytes"};
  }
  queued_bytes_ += size_bytes + kPacketCostBytes;
  outgoing_.emplace_back(to_buffer(frame));
  pump();
  return Done{};
}

void RemoteDriver::pump() {
  if (writing_ || stream_ == nullptr || outgoing_.empty()) return;
  writing_ = true;
  if (auto* frame = std::get_if<grpc::ByteBuffer>(&outgoing_.front())) {
    queued_bytes_ -= frame->Length() + kPacketCostBytes;
    grpc::ByteBuffer buffer = std::move(*frame);
    outgoing_.pop_front();
    return stream_->write(std::move(buffer));
  }
  auto& pieces = std::get<Pieces>(outgoing_.front());
  Result<char*> bytes = host_.segments().bytes_at(pieces.at);
  if (!bytes.ok()) {
    writing_ = false;
    outgoing_.pop_front();
    return close("a value could not be read from the store: " + bytes.error().message);
  }
  v1::ServerFrame frame;
  v1::ObjectPiece* piece = frame.mutable_object_piece();
  size_t count = std::min<uint64_t>(kPieceBytesMax, pieces.at.size_bytes - pieces.sent_bytes);
  piece->set_request(pieces.request.number);
  piece->set_id(pieces.id.binary());
  piece->set_size_bytes(pieces.at.size_bytes);
  piece->set_offset(pieces.sent_bytes);
  piece->set_piece(*bytes + pieces.sent_bytes, count);
  pieces.sent_bytes += count;
  if (pieces.sent_bytes == pieces.at.size_bytes) {
    ReferencesChanged event;
    event.session = id();
    event.unpinned = {{pieces.id, 1}};
    outgoing_.pop_front();
    host_.tell(std::move(event));
  }
  stream_->write(to_buffer(frame));
}

void RemoteDriver::written(bool ok) {
  writing_ = false;
  if (!ok) return peer_gone();
  pump();
  if (closing_ && outgoing_.empty() && !writing_ && stream_ != nullptr) stream_->finish(grpc::Status::OK);
}

void RemoteDriver::peer_gone() {
  outgoing_.clear();
  lost("the stream ended");
}

void RemoteDriver::close_carrier() {
  closing_ = true;
  // Pieces of values have no reader who waits for them any more.
  std::erase_if(outgoing_, [](const auto& item) { return std::holds_alternative<Pieces>(item); });
  if (!writing_ && outgoing_.empty() && stream_ != nullptr) stream_->finish(grpc::Status::OK);
}

bool RemoteDriver::take_own(v1::ClientFrame& frame) {
  switch (frame.body_case()) {
    case v1::ClientFrame::kPutPiece:
      take_piece(*frame.mutable_put_piece());
      return true;
    case v1::ClientFrame::kSlabRequest:
    case v1::ClientFrame::kSlabReturn:
      refuse(frame, "there are no slabs over gRPC; send large values as put_piece");
      return true;
    case v1::ClientFrame::kPut:
      if (!frame.put().has_sealed()) return false;
      refuse(frame, "there are no slabs over gRPC; send large values as put_piece");
      return true;
    default:
      return false;
  }
}

void RemoteDriver::take_piece(v1::PutPiece& piece) {
  Result<ObjectId> id = decode_object_id(piece.id(), "put_piece.id");
  Result<std::vector<ObjectId>> contained = decode_object_ids(piece.contained(), "put_piece.contained");
  std::string wrong;
  if (!id.ok()) wrong = id.error().message;
  if (!contained.ok()) wrong = contained.error().message;
  if (wrong.empty() && incoming_ && incoming_->id != *id) wrong = "the value before it is not complete";
  if (wrong.empty() && incoming_ && incoming_->size_bytes != piece.size_bytes()) wrong = "its size has changed";
  if (wrong.empty() && piece.piece().size() > kPieceBytesMax) wrong = "a piece has at most 1 MiB";
  if (!wrong.empty()) {
    incoming_.reset();
    v1::ClientFrame frame;
    *frame.mutable_put_piece() = std::move(piece);
    return refuse(frame, "put_piece: " + wrong);
  }
  if (!incoming_) {
    incoming_.emplace();
    incoming_->id = *id;
    incoming_->size_bytes = piece.size_bytes();
    if (piece.size_bytes() > kInlineWhenPut) {
      host_.tell(SlabAsked{this->id(), RequestId{next_request_++}, piece.size_bytes()});
    }
  }
  incoming_->contained.insert(incoming_->contained.end(), contained->begin(), contained->end());
  incoming_->complete = piece.last();
  if (incoming_->failed) {
    if (piece.last()) incoming_.reset();
    return;
  }
  if (piece.piece().size() > incoming_->size_bytes - incoming_->got_bytes ||
      (piece.last() && piece.piece().size() < incoming_->size_bytes - incoming_->got_bytes)) {
    return fail_put("its pieces do not add up to " + std::to_string(incoming_->size_bytes) + " bytes",
                    v1::REQUEST_INVALID);
  }
  store_piece(piece.piece());
}

void RemoteDriver::store_piece(const std::string& piece) {
  Incoming& put = *incoming_;
  if (put.size_bytes <= kInlineWhenPut) {
    put.small += piece;
  } else if (!put.slab) {
    put.early = piece;  // the next piece is not read before the slab is there
    return;
  } else if (!piece.empty()) {
    Result<char*> bytes = host_.segments().bytes_at(put.slab->at);
    if (!bytes.ok()) return fail_put(bytes.error().message, v1::OBJECT_STORE_FULL);
    std::memcpy(*bytes + put.got_bytes, piece.data(), piece.size());
  }
  put.got_bytes += piece.size();
  if (put.complete) finish_put();
}

void RemoteDriver::finish_put() {
  Incoming put = std::move(*incoming_);
  incoming_.reset();
  PutArrived event;
  event.session = id();
  event.id = put.id;
  event.contained = std::move(put.contained);
  if (put.slab) {
    event.payload = SealedBytes{put.slab->slab, 0, put.size_bytes};
    SlabId slab = put.slab->slab;
    host_.tell(std::move(event));
    host_.tell(SlabReturned{id(), slab});
    return;
  }
  event.payload = make_bytes(std::move(put.small));
  host_.tell(std::move(event));
}

void RemoteDriver::fail_put(const std::string& message, v1::ErrorCode code) {
  v1::ServerFrame frame;
  v1::Refusal* refusal = frame.mutable_refusal();
  refusal->set_about("put_piece");
  refusal->set_graph(incoming_->id.graph.binary());
  fill_failure(refusal->mutable_failure(), code,
               "the value " + incoming_->id.hex() + " was not stored: " + message);
  if (incoming_->slab) host_.tell(SlabReturned{id(), incoming_->slab->slab});
  bool complete = incoming_->complete;
  incoming_->failed = true;
  incoming_->early.clear();
  if (complete) incoming_.reset();
  send(frame);
}

void RemoteDriver::grant(const GrantSlab& effect) {
  bool good = effect.failure.code == FailureCode::kNone;
  if (!incoming_ || incoming_->slab || incoming_->failed) {
    if (good) host_.tell(SlabReturned{id(), effect.slab});
    return;
  }
  if (good) {
    incoming_->slab = effect;
    std::string early = std::move(incoming_->early);
    incoming_->early.clear();
    if (!early.empty()) store_piece(early);
  } else {
    fail_put(effect.failure.message, static_cast<v1::ErrorCode>(effect.failure.code));
  }
  if (!std::exchange(wants_read_, true) && stream_ != nullptr && !closing_) stream_->read_next();
}

}  // namespace raylet
