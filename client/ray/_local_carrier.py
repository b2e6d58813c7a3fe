"""Frames over the raylet's unix socket: for processes of the same node."""

from __future__ import annotations

import os
import socket
from typing import Optional, Tuple

from ray._packets import (
    FRAME_BYTES_MAX, PacketError, receive_packet, send_packet, wait_for_packet,
)
from ray._wire import session_pb2 as wire


class LocalCarrier:
    """Carries frames, and with them descriptors, so there is shared memory.

    `send` may be called by one thread at a time, the `read` functions by one thread at a time.
    """

    shares_memory = True
    frame_bytes_max = FRAME_BYTES_MAX

    def __init__(self, sock: socket.socket, name: str) -> None:
        self._sock = sock
        self.name = name

    @classmethod
    def connect(cls, path: str) -> "LocalCarrier":
        """Connect to a raylet's session socket. Raises ConnectionError with what to do."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(path)
        except OSError as error:
            sock.close()
            raise ConnectionError(
                f"no raylet answers at {path} ({error.strerror}); is the node running? "
                "`raylet status` tells, `raylet start --head` starts one"
            ) from None
        return cls(sock, path)

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, frame: bytes) -> None:
        """Raises PeerGone."""
        send_packet(self._sock, frame)

    def read_one(self) -> Tuple[wire.ServerFrame, int]:
        """Wait for the next frame. Raises PeerGone, PacketError."""
        data, descriptor = wait_for_packet(self._sock)
        return wire.ServerFrame.FromString(data), descriptor

    def read_next(self) -> Optional[Tuple[wire.ServerFrame, int]]:
        """The next frame that is there, with its descriptor or -1; None if none is.

        Raises PeerGone, PacketError.
        """
        received = receive_packet(self._sock)
        if received is None:
            return None
        data, descriptor = received
        try:
            return wire.ServerFrame.FromString(data), descriptor
        except Exception:
            if descriptor >= 0:
                os.close(descriptor)
            raise PacketError(f"{len(data)} bytes came that are no frame") from None

    def close(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._sock.close()

    def close_after_fork(self) -> None:
        """In a forked child: forget the parent's socket without disturbing it."""
        self._sock.close()
