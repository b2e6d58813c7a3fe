"""Packets over a socket pair."""

import os
import socket

import pytest

from ray._packets import (
    FRAME_BYTES_MAX, PACKET_BYTES_MAX, PacketError, PeerGone, receive_packet, send_packet,
    wait_for_packet,
)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize("size", [0, 1, 1000, PACKET_BYTES_MAX, PACKET_BYTES_MAX + 1, 5 << 20])
def test_a_frame_of_any_size_arrives_whole(pair, size):
    frame = os.urandom(size)
    send_packet(pair[0], frame)
    assert wait_for_packet(pair[1]) == (frame, -1)
    assert receive_packet(pair[1]) is None


def test_a_descriptor_comes_along(pair):
    memfd = os.memfd_create("test")
    os.write(memfd, b"content")
    send_packet(pair[0], b"frame", memfd)
    os.close(memfd)
    frame, descriptor = receive_packet(pair[1])
    assert frame == b"frame" and os.pread(descriptor, 10, 0) == b"content"
    os.close(descriptor)


def test_no_descriptor_is_left_open_by_a_large_frame(pair):
    before = len(os.listdir("/proc/self/fd"))
    send_packet(pair[0], bytes(1 << 20))
    wait_for_packet(pair[1])
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_end_of_the_other_side_is_told_apart_from_nothing_there(pair):
    assert receive_packet(pair[1]) is None
    pair[0].close()
    with pytest.raises(PeerGone):
        receive_packet(pair[1])
    with pytest.raises(PeerGone):
        send_packet(pair[1], b"x")


@pytest.mark.parametrize(
    "packet", [b"\2x", b"\1" + bytes(8), b"\1short", bytes(PACKET_BYTES_MAX + 2)]
)
def test_a_broken_rule_is_an_error(pair, packet):
    pair[0].send(packet)
    with pytest.raises(PacketError):
        receive_packet(pair[1])


def test_a_frame_that_is_said_to_be_larger_than_its_memfd_is_an_error(pair):
    memfd = os.memfd_create("test")
    os.write(memfd, b"few")
    socket.send_fds(pair[0], [b"\1" + (1000).to_bytes(8, "little")], [memfd])
    os.close(memfd)
    with pytest.raises(PacketError, match="expected a memfd of 1000 bytes"):
        receive_packet(pair[1])


def test_two_descriptors_are_an_error_and_are_closed(pair):
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(pair[0], [b"\0x"], [0, 1])
    with pytest.raises(PacketError, match="at most one descriptor"):
        receive_packet(pair[1])
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_frame_over_the_limit_is_not_sent(pair):
    with pytest.raises(ValueError, match="over the limit"):
        send_packet(pair[0], bytes(FRAME_BYTES_MAX + 1))
    assert receive_packet(pair[1]) is None
