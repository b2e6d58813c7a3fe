// RemoteDriver: a driver over gRPC. It has no shared memory: what lies in the store goes out in pieces copied
// from there, one at a time as the stream takes them, and what comes in pieces is written to a slab that is
// leased for it. So neither direction holds more than a piece of a large value outside of the store.
//
// One incoming frame is under way until it was stepped; the next is read then.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "daemons/raylet/driver_session.h"

namespace grpc {
class Status;
}

namespace raylet {

// The gRPC side of a stream, as the loop sees it. The functions may be called until `gone` was reported.
class RemoteStream {
 public:
  virtual ~RemoteStream() = default;
  virtual void read_next() = 0;
  virtual void write(grpc::ByteBuffer frame) = 0;  // one at a time; the answer is RemoteDriver::written
  virtual void finish(grpc::Status status) = 0;    // after what is being written
};

class RemoteDriver : public DriverSession {
 public:
  static constexpr size_t kPieceBytesMax = 1 << 20;
  // One piece, or anything else a client sends.
  static constexpr size_t kFrameBytesRemoteMax = 16 << 20;

  RemoteDriver(Loop& loop, SessionHost& host, RemoteStream& stream);

  void answer(const AnswerGet& effect) override;
  void grant(const GrantSlab& effect) override;
  size_t queued_bytes() const override { return queued_bytes_; }

  // From the stream, on the loop.
  void frame_came(v1::ClientFrame frame, size_t wire_bytes);
  void bad_frame(const std::string& reason);
  void written(bool ok);
  void peer_gone();
  // No call on the stream any more.
  void stream_gone() { stream_ = nullptr; }

 private:
  // A stored value on its way out.
  struct Pieces {
    RequestId request;
    ObjectId id;
    StoredAt at;
    uint64_t sent_bytes = 0;
  };
  // A value on its way in.
  struct Incoming {
    ObjectId id;
    uint64_t size_bytes = 0;
    uint64_t got_bytes = 0;
    std::string small;               // of a value that will be inline
    std::optional<GrantSlab> slab;   // where a large one goes, once granted
    std::string early;               // the first piece, which came before the slab
    std::vector<ObjectId> contained;
    bool complete = false;
    bool failed = false;             // the rest of its pieces is thrown away
  };

  Status write(const v1::ServerFrame& frame) override;
  bool take_own(v1::ClientFrame& frame) override;
  void close_carrier() override;

  void take_piece(v1::PutPiece& piece);
  void store_piece(const std::string& piece);
  void finish_put();
  void fail_put(const std::string& message, v1::ErrorCode code);
  void pump();

  RemoteStream* stream_;
  std::deque<std::variant<grpc::ByteBuffer, Pieces>> outgoing_;
  size_t queued_bytes_ = 0;
  bool writing_ = false;
  bool closing_ = false;
  bool wants_read_ = true;   // the frame under way has been stepped
  std::optional<Incoming> incoming_;
  uint64_t next_request_ = 1;  // of slabs leased for incoming values
};

}  // namespace raylet
