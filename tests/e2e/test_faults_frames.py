"""What no correct client sends: refused with a reason, and the node and other sessions don't notice."""

from __future__ import annotations

import os
import platform
import random
import socket
import struct
import sys
from typing import Iterator, Optional

import cloudpickle
import pytest
from conftest import ROOT, Node, wait_until

sys.path.insert(0, str(ROOT / "client"))
from ray._packets import PeerGone, PacketError, send_packet, wait_for_packet  # noqa: E402
from ray._wire import raylet_pb2, raylet_pb2_grpc  # noqa: E402
from ray._wire import common_pb2 as common  # noqa: E402
from ray._wire import session_pb2 as wire  # noqa: E402

ANSWER_S = 10


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """One node for all of these tests: what is refused must not have changed it."""
    started = Node()
    try:
        started.start()
        yield started
    finally:
        started.clean_up()


class Peer:
    """A session on the raylet's socket that says whatever the test wants."""

    def __init__(self, node: Node) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(ANSWER_S)
        self.sock.connect(str(node.session / "raylet.sock"))
        self.sock.setblocking(True)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", ANSWER_S, 0))

    def send(self, **body) -> None:
        send_packet(self.sock, wire.ClientFrame(**body).SerializeToString())

    def read(self, body: Optional[str] = None) -> wire.ServerFrame:
        """The next frame (of that body)."""
        while True:
            frame = wire.ServerFrame.FromString(wait_for_packet(self.sock)[0])
            if body is None or frame.WhichOneof("body") == body:
                return frame

    def is_closed(self) -> bool:
        """Reads to the end; False if the raylet keeps the session for ANSWER_S."""
        try:
            while True:
                packet = self.sock.recv(1 << 17)
                if not packet:
                    return True
        except ConnectionError:
            return True
        except OSError:
            return False

    def greet(self) -> "Peer":
        self.send(hello=hello())
        reply = self.read().hello_reply
        assert reply.failure.code == common.ERROR_NONE, reply.failure.message
        return self


def wishing(resource: str, amount: float) -> wire.TaskOptions:
    return wire.TaskOptions(resources=[common.ResourceAmount(name=resource, amount=amount)])


def hello(**changes) -> wire.Hello:
    return wire.Hello(**{
        "protocol_version": 1, "role": wire.Hello.DRIVER, "python_version": platform.python_version(),
        "cloudpickle_version": cloudpickle.__version__, "job": os.urandom(16), "pid": os.getpid(), **changes,
    })


@pytest.fixture
def witness(node: Node) -> Iterator[Peer]:
    """Another session, which must still be served when the test is over, by the same raylet."""
    raylet = node.pid("rayletd")
    peer = Peer(node).greet()
    yield peer
    peer.send(put=wire.Put(id=b"w" * 16 + bytes(12), inline_value=b"witness"))
    peer.send(get=wire.Get(request=7, ids=b"w" * 16 + bytes(12), values=True))
    assert peer.read("object_answers").object_answers.inline_values[0] == b"witness"
    assert node.pid("rayletd") == raylet
    os.kill(raylet, 0)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("changes, said", [
    ({"protocol_version": 99}, "protocol version"),
    ({"python_version": "2.7.18"}, "Python"),
    ({"cloudpickle_version": "0.0.1"}, "cloudpickle"),
    ({"job": b"short"}, "job"),
    ({"role": wire.Hello.WORKER, "worker": 1}, "worker"),
    ({"role": wire.Hello.ROLE_UNSPECIFIED}, "DRIVER"),
])
def test_a_hello_that_does_not_fit_is_refused_by_name(node: Node, witness: Peer, changes: dict, said: str) -> None:
    peer = Peer(node)
    peer.send(hello=hello(**changes))
    failure = peer.read().hello_reply.failure
    assert failure.code in (common.VERSION_MISMATCH, common.REQUEST_INVALID)
    assert said in failure.message
    assert peer.is_closed()


@pytest.mark.timeout(60)
def test_a_session_that_does_not_begin_with_a_hello_is_closed(node: Node, witness: Peer) -> None:
    peer = Peer(node)
    peer.send(get=wire.Get(request=1))
    assert "hello" in peer.read().hello_reply.failure.message
    assert peer.is_closed()


@pytest.mark.timeout(60)
def test_a_connection_that_says_nothing_is_closed_after_a_while(node: Node, witness: Peer) -> None:
    peer = Peer(node)
    assert "hello" in peer.read().hello_reply.failure.message
    assert peer.is_closed()


@pytest.mark.timeout(60)
def test_text_that_is_not_utf8_is_refused_and_fills_no_log(node: Node, witness: Peer) -> None:
    """Protobuf would write a line of its own for each such field to the daemon's standard error."""
    words = wire.ClientFrame(hello=hello(python_version="PYTHON-VERSION")).SerializeToString()
    for _ in range(3):
        peer = Peer(node)
        peer.sock.send(b"\x00" + words.replace(b"PYTHON-VERSION", b"\xff" * 14))
        assert peer.is_closed() or peer.read().hello_reply.failure.code != common.ERROR_NONE
    assert "libprotobuf" not in node.logs()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("packet", [
    b"", b"\x00", b"\x02nonsense", b"\xff" * 100, b"\x00" + b"GET / HTTP/1.1\r\n\r\n", b"\x01" + b"\x00" * 8,
    b"\x00" + wire.ClientFrame(hello=hello()).SerializeToString()[:-5], b"\x00" + b"\xff" * 60_000,
], ids=["empty", "kind_only", "unknown_kind", "noise", "http", "memfd_without_memory", "truncated", "long_noise"])
@pytest.mark.parametrize("greeted", [False, True], ids=["before_hello", "after_hello"])
def test_a_foreign_packet_ends_its_session_only(node: Node, witness: Peer, packet: bytes, greeted: bool) -> None:
    peer = Peer(node)
    if greeted:
        peer.greet()
    if packet:
        peer.sock.send(packet)
    else:
        peer.sock.shutdown(socket.SHUT_WR)
    if packet == b"\x00" and greeted:
        # An empty frame is a frame without a body: refused, not closed.
        assert peer.read("refusal").refusal.failure.code != common.ERROR_NONE
        return
    assert peer.is_closed()


@pytest.mark.timeout(60)
def test_a_frame_over_the_limit_is_refused_before_it_is_read(node: Node, witness: Peer) -> None:
    import array

    for claimed, real in ((1 << 40, 4096), (100 << 20, 100 << 20), (4096, 10)):
        peer = Peer(node).greet()
        memfd = os.memfd_create("frame")
        os.ftruncate(memfd, real)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memfd]))]
        peer.sock.sendmsg([b"\x01" + struct.pack("<Q", claimed)], ancillary)
        os.close(memfd)
        assert peer.is_closed()


@pytest.mark.timeout(60)
def test_more_descriptors_than_one_end_the_session_and_leak_nothing(node: Node, witness: Peer) -> None:
    import array

    directory = f"/proc/{node.pid('rayletd')}/fd"
    before = len(os.listdir(directory))
    for _ in range(20):
        peer = Peer(node).greet()
        numbers = array.array("i", [peer.sock.fileno()] * 3)
        peer.sock.sendmsg([b"\x00x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
        assert peer.is_closed()
        peer.sock.close()
    wait_until(lambda: len(os.listdir(directory)) <= before, "the descriptors to be closed", 10)


def chunk(**changes) -> wire.GraphChunk:
    return wire.GraphChunk(**{
        "graph": os.urandom(16), "task_count": 1, "last": True, "fail_fast": True,
        "functions": [wire.FunctionDef(number=1, name="f", pickled=b"x")], "function_numbers": [1],
        "group_sizes": [1], "group_blobs": [b"blob"], **changes,
    })


@pytest.mark.timeout(60)
@pytest.mark.parametrize("bad", [
    {"graph": b"short"},
    {"task_count": 5},
    {"group_sizes": [2]},
    {"group_blobs": []},
    {"function_numbers": [9]},
    {"dep_counts": [1], "deps": [2 * 77]},
    {"dep_counts": [1], "deps": [0]},
    {"dep_counts": [1], "deps": [1]},
    {"dep_counts": [3], "deps": [0]},
    {"task_count": 2, "function_numbers": [1, 1], "group_sizes": [2], "dep_counts": [1, 1], "deps": [2, 0]},
    {"option_numbers": [4]},
    {"options": [wishing("CPU", -1)], "option_numbers": [1]},
    {"options": [wishing("CPU", 1e-9)], "option_numbers": [1]},
    {"wanted": [5]},
    {"task_count": 4_000_000_000},
], ids=lambda bad: "+".join(bad))
def test_a_chunk_that_makes_no_sense_is_refused(node: Node, witness: Peer, bad: dict) -> None:
    peer = Peer(node).greet()
    message = chunk(**bad)
    peer.send(graph_chunk=message)
    while True:
        frame = peer.read()
        body = frame.WhichOneof("body")
        if body == "credit":
            continue
        break
    failure = frame.refusal.failure if body == "refusal" else frame.graph_ended.failure
    assert failure.code != common.ERROR_NONE and failure.message, frame
    wait_until(lambda: all(graph["state"] != "running" for graph in node.status()["graphs"]), "no graph to run")


@pytest.mark.timeout(60)
def test_the_same_graph_twice_is_once(node: Node, witness: Peer) -> None:
    peer = Peer(node).greet()
    message = chunk(options=[wishing("GPU", 9)], option_numbers=[1])
    peer.send(graph_chunk=message)
    peer.send(graph_chunk=message)
    name = message.graph.hex()

    def arrived() -> list:
        return [graph for graph in node.status().get("graphs", []) if graph["graph"] == name]

    wait_until(arrived, "the graph to arrive")
    (graph,) = arrived()
    assert int(graph["task_total"]) == 1


@pytest.mark.timeout(60)
def test_only_workers_may_say_what_workers_say(node: Node, witness: Peer) -> None:
    peer = Peer(node).greet()
    for body in ({"results": wire.Results(batch=1, positions=[0], inline_values=[b"v"])},
                 {"blocked": wire.Blocked(blocked=True)}, {"output": wire.OutputLines(lines=["x"])},
                 {"hello": hello()},
                 {"put_piece": wire.PutPiece(id=b"i" * 28, size_bytes=1, piece=b"x", last=True)}):
        peer.send(**body)
        assert peer.read("refusal").refusal.failure.code != common.ERROR_NONE


@pytest.mark.timeout(60)
def test_ids_and_slabs_that_are_not_ones_own_are_refused(node: Node, witness: Peer) -> None:
    bad = [
        {"get": wire.Get(request=1, ids=b"x" * 27)},
        {"get": wire.Get(request=0, ids=b"x" * 28)},
        {"put": wire.Put(id=b"x" * 28)},
        {"slab_request": wire.SlabRequest(request=1, size_bytes=0)},
        {"cancel": wire.Cancel(request=3)},
        {"references": wire.References(unpinned=b"u" * 28, unpin_counts=[1, 2])},
    ]
    peer = Peer(node).greet()
    for body in bad:
        peer.send(**body)
        assert peer.read("refusal").refusal.failure.message
    # A slab that was never granted: refused or closed, but answered.
    for body in ({"put": wire.Put(id=b"y" * 28, sealed=wire.Sealed(slab=99, offset=0, size_bytes=10))},
                 {"slab_return": wire.SlabReturn(slab=99)}):
        peer = Peer(node).greet()
        peer.send(**body)
        assert peer.read("refusal").refusal.failure.message
    # An object nobody has heard of.
    peer = Peer(node).greet()
    peer.send(get=wire.Get(request=5, ids=b"n" * 28, values=True))
    assert peer.read("object_answers").object_answers.failures[0].code == common.OBJECT_UNKNOWN


@pytest.mark.timeout(120)
def test_frames_of_random_bytes_and_random_bodies(node: Node, witness: Peer) -> None:
    """Seeded: the same every time."""
    draw = random.Random(20_26)
    bodies = [field.name for field in wire.ClientFrame.DESCRIPTOR.fields]
    numbers = {field.name: field.number for field in wire.ClientFrame.DESCRIPTOR.fields}
    for _ in range(150):
        peer = Peer(node).greet()
        for _ in range(20):
            name = draw.choice(bodies)
            if name == "goodbye":
                continue
            content = draw.randbytes(draw.randrange(64))
            tag = numbers[name] << 3 | 2
            head = bytes([tag]) if tag < 128 else bytes([tag & 127 | 128, tag >> 7])
            try:
                peer.sock.send(b"\0" + head + bytes([len(content)]) + content)
            except OSError:
                break
        peer.sock.close()


@pytest.mark.timeout(60)
def test_more_connections_than_the_limit_are_turned_away(node: Node, witness: Peer) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2_048:
        pytest.skip("this machine allows too few descriptors to open 1,100 connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2_048), hard))
    crowd = []
    try:
        for _ in range(1_100):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            sock.connect(str(node.session / "raylet.sock"))
            crowd.append(sock)
        wait_until(lambda: any(_is_shut(sock) for sock in crowd[-50:]), "the last ones to be turned away", 10)
    finally:
        for sock in crowd:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: _welcome(node), "room for a new session", 10)


def _is_shut(sock: socket.socket) -> bool:
    try:
        return sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def _welcome(node: Node) -> bool:
    try:
        Peer(node).greet()
        return True
    except (AssertionError, OSError, PeerGone, PacketError):
        return False


@pytest.mark.timeout(60)
def test_bad_messages_over_grpc_end_their_stream_only(node: Node, witness: Peer) -> None:
    import grpc

    channel = grpc.insecure_channel(f"unix:{node.session}/raylet.grpc")
    method = channel.stream_stream(
        "/raylet.v1.Raylet/SubmitGraph", request_serializer=lambda raw: raw,
        response_deserializer=wire.ServerFrame.FromString,
    )
    for first in (b"\xff" * 50, wire.ClientFrame(get=wire.Get(request=1)).SerializeToString(),
                  wire.ClientFrame(hello=hello(protocol_version=7)).SerializeToString(), b""):
        answers = list(method(iter([first]), timeout=ANSWER_S))
        assert answers, first
        said = answers[0].hello_reply.failure.message + answers[0].refusal.failure.message
        assert said
    stub = raylet_pb2_grpc.RayletStub(channel)
    assert stub.GetStatus(raylet_pb2.GetStatusRequest(), timeout=ANSWER_S).pid == node.pid("rayletd")
    assert not stub.Explain(raylet_pb2.ExplainRequest(id="\udcff".encode("utf-8", "ignore").decode() or "?"),
                            timeout=ANSWER_S).found
    assert not stub.GetTimeline(raylet_pb2.GetTimelineRequest(graph="zz"), timeout=ANSWER_S).entries
    channel.close()


@pytest.mark.timeout(60)
def test_a_put_in_pieces_that_do_not_add_up_is_refused(node: Node, witness: Peer) -> None:
    import grpc
    import queue

    channel = grpc.insecure_channel(f"unix:{node.session}/raylet.grpc")
    stub = raylet_pb2_grpc.RayletStub(channel)
    frames: "queue.Queue" = queue.Queue()
    stream = stub.SubmitGraph(iter(frames.get, None), timeout=40)

    def ask(**body) -> None:
        frames.put(wire.ClientFrame(**body))

    ask(hello=hello())
    assert next(stream).hello_reply.failure.code == common.ERROR_NONE

    def piece(name: bytes, size: int, data: bytes, last: bool) -> None:
        ask(put_piece=wire.PutPiece(id=name * 28, size_bytes=size, piece=data, last=last))

    def refused() -> str:
        while True:
            frame = next(stream)
            if frame.WhichOneof("body") == "refusal":
                return frame.refusal.failure.message

    piece(b"a", 10, b"x" * 20, True)
    assert "add up" in refused()
    piece(b"b", 1 << 40, b"x" * 20, False)
    assert "store" in refused()
    piece(b"b", 1 << 40, b"x" * 20, True)
    piece(b"c", 200_000, b"x" * 100_000, True)
    assert "add up" in refused()
    # And one that does, larger than a piece.
    value = os.urandom(2_500_000)
    for at in range(0, len(value), 1 << 20):
        piece(b"d", len(value), value[at : at + (1 << 20)], at + (1 << 20) >= len(value))
    ask(get=wire.Get(request=1, ids=b"d" * 28, values=True))
    got = bytearray()
    while len(got) < len(value):
        frame = next(stream)
        if frame.WhichOneof("body") == "object_piece":
            assert frame.object_piece.offset == len(got)
            got += frame.object_piece.piece
    assert bytes(got) == value
    frames.put(wire.ClientFrame(goodbye=wire.Goodbye()))
    frames.put(None)
    assert [frame for frame in stream] == []
    channel.close()
    wait_until(lambda: int(node.status().get("store", {}).get("sealed_bytes", 0)) == 0
               and int(node.status().get("store", {}).get("slab_bytes", 0)) == 0, "the store to be empty", 10)
