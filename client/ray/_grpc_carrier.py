"""Frames over gRPC, as Raylet.SubmitGraph: for drivers without a raylet of their own. No shared memory."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from typing import Any, Deque, Iterator, List, Optional, Tuple

from ray import exceptions
from ray._packets import PeerGone
from ray._wire import session_pb2 as wire

_CONNECT_S = 10.0
FRAME_BYTES_MAX = 64 << 20  # what daemons take as one gRPC message
_SEND_AHEAD_MAX = 64
_MESSAGE_BYTES_MAX = FRAME_BYTES_MAX + (1 << 20)
CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", _MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),
]


def open_channel(address: str, token: str) -> Tuple[Any, List[Tuple[str, str]]]:
    """A channel to a daemon and the metadata that every call needs."""
    import grpc

    metadata = [("authorization", f"Bearer {token}")] if token else []
    return grpc.insecure_channel(address, options=CHANNEL_OPTIONS), metadata


class GrpcCarrier:
    """Carries frames over one stream. A thread of its own reads it and rings `fileno()` for each batch."""

    shares_memory = False
    frame_bytes_max = FRAME_BYTES_MAX

    def __init__(self, address: str, token: str) -> None:
        """Raises ConnectionError, or AuthenticationError, with what to do."""
        import grpc

        from ray._wire import raylet_pb2_grpc

        self.name = address
        self._channel, metadata = open_channel(address, token)
        try:
            grpc.channel_ready_future(self._channel).result(_CONNECT_S)
        except grpc.FutureTimeoutError:
            self._channel.close()
            raise ConnectionError(
                f"no raylet answers at {address} (waited {_CONNECT_S:.0f} s); is the node running and the "
                "address right? `raylet status` on that node tells"
            ) from None
        if not address.startswith("unix:"):
            self._show_token(metadata)
        self._outgoing: "queue.Queue[Optional[wire.ClientFrame]]" = queue.Queue(_SEND_AHEAD_MAX)
        self._frames: Deque[wire.ServerFrame] = deque()
        self._gone: Optional[str] = None
        self._ring_read, self._ring_write = os.pipe()
        os.set_blocking(self._ring_read, False)
        os.set_blocking(self._ring_write, False)
        self._stream = raylet_pb2_grpc.RayletStub(self._channel).SubmitGraph(
            self._requests(), metadata=metadata
        )
        self._reader = threading.Thread(target=self._read, name="ray-grpc-reader", daemon=True)
        self._reader.start()

    def _show_token(self, metadata: List[Tuple[str, str]]) -> None:
        """A stream that is turned away does not say why; a single call does."""
        import grpc

        from ray._wire import raylet_pb2, raylet_pb2_grpc

        try:
            raylet_pb2_grpc.RayletStub(self._channel).GetStatus(
                raylet_pb2.GetStatusRequest(), metadata=metadata, timeout=_CONNECT_S
            )
        except grpc.RpcError as error:
            self._channel.close()
            # The door cancels a call without its token; whether its reason comes first is a race.
            if error.code() in (
                grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED,
                grpc.StatusCode.CANCELLED,
            ):
                raise exceptions.AuthenticationError(
                    f"the raylet at {self.name} did not accept the token ({error.details()}); set "
                    "RAYLET_TOKEN, or RAYLET_TOKEN_PATH to a copy of the node's token file"
                ) from None
            raise ConnectionError(
                f"what answers at {self.name} is no raylet that works: {error.code().name}: "
                f"{error.details()}"
            ) from None

    def fileno(self) -> int:
        """Readable when frames are there or the stream ended."""
        return self._ring_read

    def send(self, frame: bytes) -> None:
        """Raises PeerGone, or ValueError over the limit."""
        if len(frame) > FRAME_BYTES_MAX:
            raise ValueError(f"a frame of {len(frame)} bytes is over the limit of {FRAME_BYTES_MAX}")
        message = wire.ClientFrame.FromString(frame)
        while self._gone is None:
            try:
                self._outgoing.put(message, timeout=0.5)
                return
            except queue.Full:
                pass
        raise PeerGone(self._gone)

    def read_next(self) -> Optional[Tuple[wire.ServerFrame, int]]:
        """The next frame that is there, and -1; None if none is. Raises PeerGone."""
        gone = self._gone
        if self._frames:
            return self._frames.popleft(), -1
        if gone is not None:
            raise PeerGone(gone)
        try:
            os.read(self._ring_read, 4096)
        except BlockingIOError:
            pass
        # One may have come between the look and the silencing of the bell.
        return (self._frames.popleft(), -1) if self._frames else None

    def close(self) -> None:
        self._outgoing_end()
        self._reader.join(1)
        self._stream.cancel()
        self._channel.close()
        if self._gone is None:
            self._gone = "closed"

    def close_after_fork(self) -> None:
        """In a forked child gRPC's own threads are gone; nothing may be touched."""

    def _outgoing_end(self) -> None:
        try:
            self._outgoing.put(None, timeout=1)
        except queue.Full:
            pass

    def _requests(self) -> Iterator[wire.ClientFrame]:
        while True:
            frame = self._outgoing.get()
            if frame is None:
                return
            yield frame

    def _read(self) -> None:
        import grpc

        reason = "the stream ended"
        try:
            for frame in self._stream:
                self._frames.append(frame)
                self._ring()
        except grpc.RpcError as error:
            reason = f"{error.code().name}: {error.details()}"
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        self._gone = reason
        self._ring()

    def _ring(self) -> None:
        try:
            os.write(self._ring_write, b"\0")
        except (BlockingIOError, OSError):
            pass
