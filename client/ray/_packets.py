"""Packets: whole frames, with at most one descriptor each, over a SEQPACKET unix socket.

The rules are those of plasma/ipc/packet.h. A packet is one byte of kind, then the frame itself
(kind 0, at most 64 KiB) or the size of a frame that lies in a memfd passed along (kind 1).
"""

from __future__ import annotations

import array
import os
import select
import socket
import struct
from typing import Optional, Tuple

PACKET_BYTES_MAX = 64 << 10
FRAME_BYTES_MAX = 512 << 20

_SIZE = struct.Struct("<Q")
_ANCILLARY_BYTES = socket.CMSG_SPACE(4 * 4)
_WHOLE = b"\0"
_IN_MEMFD = b"\1"
# Plain numbers: arithmetic on the socket module's enums takes longer than the call.
_SEND_FLAGS = int(socket.MSG_NOSIGNAL)
_WAIT_FLAGS = int(socket.MSG_CMSG_CLOEXEC)
_RECEIVE_FLAGS = int(socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
_CUT_FLAGS = int(socket.MSG_CTRUNC | socket.MSG_TRUNC)


class PacketError(Exception):
    """The peer broke the rules of packets; the connection must be closed."""


class PeerGone(Exception):
    """The other end of the socket is closed."""


def send_packet(sock: socket.socket, frame: bytes, descriptor: int = -1) -> None:
    """Send one frame, waiting for room if need be. Raises PeerGone, or ValueError over the limit."""
    size = len(frame)
    if size > FRAME_BYTES_MAX:
        raise ValueError(f"a frame of {size} bytes is over the limit of {FRAME_BYTES_MAX}")
    memfd = -1
    try:
        if size <= PACKET_BYTES_MAX:
            if descriptor < 0:
                packet = _WHOLE + frame
                while True:
                    try:
                        sock.send(packet, _SEND_FLAGS)
                        return
                    except BlockingIOError:
                        _wait_for_room(sock)
            packet = _WHOLE + frame
        else:
            if descriptor >= 0:
                raise ValueError("a frame over 64 KiB can't carry a descriptor")
            memfd = _memfd_with(frame)
            descriptor = memfd
            packet = _IN_MEMFD + _SIZE.pack(size)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        while True:
            try:
                sock.sendmsg([packet], ancillary, _SEND_FLAGS)
                return
            except BlockingIOError:
                _wait_for_room(sock)
    except (BrokenPipeError, ConnectionResetError, ConnectionAbortedError) as error:
        raise PeerGone(str(error)) from None
    finally:
        if memfd >= 0:
            os.close(memfd)


def receive_packet(sock: socket.socket) -> Optional[Tuple[bytes, int]]:
    """The next (frame, descriptor or -1), or None if none is there. The descriptor is the caller's.

    Never blocks. Raises PeerGone at the end of the stream, PacketError on a broken rule.
    """
    try:
        packet, ancillary, flags, _ = sock.recvmsg(
            PACKET_BYTES_MAX + 1, _ANCILLARY_BYTES, _RECEIVE_FLAGS
        )
    except BlockingIOError:
        return None
    except (ConnectionResetError, ConnectionAbortedError) as error:
        raise PeerGone(str(error)) from None
    if not ancillary and not flags & _CUT_FLAGS and packet[:1] == _WHOLE:
        return packet[1:], -1
    return _receive_rare(packet, ancillary, flags)


def wait_for_packet(sock: socket.socket) -> Tuple[bytes, int]:
    """As receive_packet, on a blocking socket: waits until a packet is there."""
    while True:
        try:
            packet, ancillary, flags, _ = sock.recvmsg(
                PACKET_BYTES_MAX + 1, _ANCILLARY_BYTES, _WAIT_FLAGS
            )
        except BlockingIOError:  # another holder of this end made it non-blocking
            poller = select.poll()
            poller.register(sock, select.POLLIN)
            poller.poll()
            continue
        except (ConnectionResetError, ConnectionAbortedError) as error:
            raise PeerGone(str(error)) from None
        if not ancillary and not flags & _CUT_FLAGS and packet[:1] == _WHOLE:
            return packet[1:], -1
        return _receive_rare(packet, ancillary, flags)


def _receive_rare(packet: bytes, ancillary: list, flags: int) -> Tuple[bytes, int]:
    descriptors = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            descriptors.extend(numbers)
    try:
        if not packet and not descriptors:
            raise PeerGone("closed by the other end")
        if flags & socket.MSG_TRUNC:
            raise PacketError("expected packets of at most 64 KiB, a longer one came")
        if flags & socket.MSG_CTRUNC:
            raise PacketError("a control message was cut off: out of file descriptors?")
        if len(descriptors) > 1:
            raise PacketError(f"expected at most one descriptor a packet, {len(descriptors)} came")
        if packet[:1] == _WHOLE:
            return packet[1:], (descriptors.pop() if descriptors else -1)
        if packet[:1] != _IN_MEMFD or len(packet) != 9 or not descriptors:
            raise PacketError(f"expected a packet of kind 0 or 1, {packet[:9]!r} came")
        return _frame_in_memfd(descriptors[0], _SIZE.unpack_from(packet, 1)[0]), -1
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _memfd_with(frame: bytes) -> int:
    memfd = os.memfd_create("raylet-frame", os.MFD_CLOEXEC)
    try:
        view = memoryview(frame)
        while view:
            view = view[os.write(memfd, view) :]
    except BaseException:
        os.close(memfd)
        raise
    return memfd


def _frame_in_memfd(memfd: int, size: int) -> bytes:
    if size > FRAME_BYTES_MAX:
        raise PacketError(f"a frame of {size} bytes is over the limit of {FRAME_BYTES_MAX}")
    if os.fstat(memfd).st_size < size:
        raise PacketError(f"expected a memfd of {size} bytes, it has {os.fstat(memfd).st_size}")
    parts = []
    offset = 0
    while offset < size:
        part = os.pread(memfd, size - offset, offset)
        if not part:
            raise PacketError(f"a memfd ended at {offset} of {size} bytes")
        parts.append(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _wait_for_room(sock: socket.socket) -> None:
    poller = select.poll()
    poller.register(sock, select.POLLOUT)
    poller.poll()
