"""Frames over the raylet's unix socket: for processes of the same node."""

from __future__ import annotations

import os
import socket
from typing import List, Tuple

from ray._packets import FRAME_BYTES_MAX, PacketError, PeerGone, receive_packet, send_packet, wait_for_packet
from ray._wire import session_pb2 as wire

_FRAMES_AT_ONCE_MAX = 64


class LocalCarrier:
    """Carries frames, and with them descriptors, so there is shared memory.

    `send` may be called by one thread at a time, `read_ready` by one thread at a time.
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

    def read_ready(self) -> Tuple[List[Tuple[wire.ServerFrame, int]], bool]:
        """The frames that are there, each with its descriptor or -1, and whether the peer is gone."""
        frames = []
        try:
            while len(frames) < _FRAMES_AT_ONCE_MAX:
                received = receive_packet(self._sock)
                if received is None:
                    break
                data, descriptor = received
                try:
                    frames.append((wire.ServerFrame.FromString(data), descriptor))
                except Exception:
                    if descriptor >= 0:
                        os.close(descriptor)
                    return frames, True
        except (PeerGone, PacketError, OSError):
            return frames, True
        return frames, False

    def close(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._sock.close()

    def close_after_fork(self) -> None:
        """In a forked child: forget the parent's socket without disturbing it."""
        self._sock.close()
