"""One conversation with a raylet: hello, requests and answers, credit, references, and its end.

Every frame goes out through send(), in the order of the calls, and flush() sends first what other modules
buffered: calls, then what was released. Reading is done by whoever waits (ray._waiting). When the
connection breaks, everything that waits fails with `lost`, and so does every later use.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional, Sequence, Tuple, Union

from ray import _shield, exceptions
from ray._background import Background
from ray._calls_buffer import Calls, Parent
from ray._failures import to_exception
from ray._functions import FunctionTable
from ray._packets import PacketError, PeerGone
from ray._ref import ID_BYTES, ObjectRef, adopt
from ray._references import References
from ray._serialize import SerializedValue, serialize
from ray._store import Slabs, Store
from ray._values import Answer, get_values
from ray._waiting import Waiter, Waiting
from ray._wire import common_pb2 as wire_common
from ray._wire import session_pb2 as wire

PROTOCOL_VERSION = 1
_HELLO_S = 20.0
_SLAB_S = 60.0
_REQUEST_S = 30.0
_BLOCK_AFTER_S = 0.001
_PIECE_BYTES = 1 << 20
_RELEASES_MAX = 256
# Room that must be left before another call is buffered; more than a chunk of calls can take.
_CALL_CREDIT_BYTES = 8 << 20

GraphEvent = Union[wire.GraphProgress, wire.GraphEnded]


class _Get(Waiter):
    """Values or readiness of some objects."""

    __slots__ = ("answers", "wanted", "pieces", "on_done", "fails_early")

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self.answers: Dict[bytes, Any] = {}
        self.wanted = wanted
        self.pieces: Dict[bytes, bytearray] = {}
        self.on_done: Optional[Callable[["_Get"], None]] = None
        self.fails_early = False

    def complete(self) -> None:
        super().complete()
        if self.on_done is not None:
            self.on_done(self)


class _Request(Waiter):
    """A question with one frame as its answer."""

    __slots__ = ("reply",)

    def __init__(self) -> None:
        super().__init__()
        self.reply: Any = None


class Session:
    """A driver's or a worker's session. Thread-safe."""

    def __init__(self, carrier: Any, hello: wire.Hello) -> None:
        self.carrier = carrier
        self.is_driver = hello.role == wire.Hello.DRIVER
        self.job: bytes = hello.job
        self.references = References()
        self.store = Store(self.references)
        self.lost: Optional[BaseException] = None
        self.closed = False
        self._sending = threading.RLock()
        self._numbers = itertools.count(1)
        self._requests: Dict[int, Any] = {}
        self._watchers: Dict[bytes, Callable[[GraphEvent], None]] = {}
        self._credit = 0
        self._credit_max = 0
        self._credit_waiters: Deque[Waiter] = deque()
        self.functions = FunctionTable()
        self._put_tasks = itertools.count()
        self._put_graph = os.urandom(16)
        self._put_parent: Optional[Parent] = None
        self.waiting = Waiting(carrier.fileno(), self._read_ready)
        self.background: Optional[Background] = None
        self._background_lock = threading.Lock()
        # The open graph that calls are buffered in; None until the first one, or the first of a task.
        self.pending_calls: Optional[Calls] = None
        # Workers: the task that runs, as the parent of what it submits.
        self.current_task: Optional[Callable[[], Optional[Parent]]] = None
        # Workers: entered while a thread really waits inside a task.
        self.blocking: Optional[Any] = None
        # Workers: results that are not reported yet; has `count` and `send()`.
        self.reports: Optional[Any] = None
        # Workers: takes frames that are for them. Those that came right behind the hello wait here.
        self.early_frames: List[Tuple[str, Any]] = []
        self.on_worker_frame: Optional[Callable[[str, Any], None]] = None
        self.actor_id: Optional[bytes] = None  # workers: of the actor that lives here
        self.target: Any = None  # drivers: the address, for calls that go over gRPC
        self.on_output: Callable[[wire.OutputLines], None] = lambda lines: None
        self.on_notice: Callable[[wire.Notice], None] = lambda notice: None
        self._handlers: Dict[str, Callable] = {
            "object_answers": self._take_answers,
            "object_piece": self._take_piece,
            "slab_grant": self._take_reply,
            "actor_found": self._take_reply,
            "ack": self._take_reply,
            "hello_reply": self._take_hello,
            "refusal": self._take_refusal,
            "credit": self._take_credit,
            "graph_progress": self._take_progress,
            "graph_ended": self._take_ended,
            "output": lambda lines: self.on_output(lines),
            "notice": lambda notice: self.on_notice(notice),
        }
        self._hello = _Request()
        self.info: wire.HelloReply = self._say_hello(hello)
        self.inline_bytes_max: int = int(self.info.inline_bytes_max) or (64 << 10)
        self._credit = self._credit_max = int(self.info.graph_credit_bytes) or (64 << 20)
        self.slabs: Optional[Slabs] = None
        if carrier.shares_memory:
            self.slabs = Slabs(
                self.store, self._lease_slab, int(self.info.slab_bytes) or (1 << 20),
                int(self.info.store_capacity_bytes),
            )

    def _say_hello(self, hello: wire.Hello) -> wire.HelloReply:
        self.send(wire.ClientFrame(hello=hello))
        if not self.waiting.wait(self._hello, _HELLO_S):
            self.carrier.close()
            raise ConnectionError(
                f"the raylet at {self.carrier.name} accepted the connection and did not answer the "
                f"hello within {_HELLO_S:.0f} s; its log is logs/rayletd.log in the session directory"
            )
        if self._hello.error is not None:
            raise self._hello.error
        reply = self._hello.reply
        if reply.HasField("failure") and reply.failure.code:
            self.carrier.close()
            raise ConnectionError(
                f"the raylet at {self.carrier.name} refused this process: {reply.failure.message}"
            )
        return reply

    # ------------------------------------------------------------ background

    def start_background(self) -> None:
        """Have buffered calls sent soon and, in drivers, frames read although nobody waits."""
        with self._background_lock:
            if self.background is None and not self.closed:
                self.background = Background(
                    self.carrier.fileno(), self.waiting if self.is_driver else None,
                    self.flush_calls, self.flush, self.references.active, self.store.warm_up, "ray-session",
                )

    def touch(self) -> None:
        """Something was buffered that the background should send soon."""
        background = self.background
        if background is None:
            self.start_background()
            background = self.background
        if background is not None:
            background.touch()

    # ------------------------------------------------------------ sending

    def send(self, frame: wire.ClientFrame) -> int:
        """Send one frame after everything sent before; its size in bytes. Raises `lost`."""
        data = frame.SerializeToString()
        entered = _shield.enter()
        try:
            with self._sending:
                self._check()
                self.carrier.send(data)
        except ConnectionError:
            raise
        except exceptions.RayError:
            raise
        except ValueError as error:
            raise ValueError(f"{error}; pass large values by ray.put") from None
        except Exception as error:
            self._lose(str(error))
            raise self.lost from None  # type: ignore[misc]
        finally:
            _shield.leave(entered)
        return len(data)

    def flush_calls(self) -> None:
        """Send buffered calls; what was released may wait for the background, unless it is much."""
        calls = self.pending_calls
        references = self.references
        if len(references.dropped) + len(references.unpinned) > _RELEASES_MAX:
            self.flush()
        elif calls is not None and calls.count:
            entered = _shield.enter()
            try:
                with self._sending:
                    if calls.count:
                        self._send_chunk(calls.take())
            finally:
                _shield.leave(entered)

    def flush(self) -> None:
        """Send buffered calls and then what was released since."""
        calls = self.pending_calls
        references = self.references
        if not (
            (calls is not None and calls.count)
            or references.waiting()
            or (self.reports is not None and self.reports.count)
            or (self.slabs is not None and self.slabs._returns)
        ):
            return
        entered = _shield.enter()
        try:
            with self._sending:
                changed = references.drain()
                reports = self.reports
                if reports is not None and reports.count:
                    # What a task kept of its arguments is held before its report lets go of them; what
                    # its result contains is released after the report said so.
                    if changed is not None and changed.held:
                        self.send(wire.ClientFrame(references=wire.References(held=changed.held)))
                        changed.held = b""
                    if calls is not None and calls.count:
                        self._send_chunk(calls.take())
                    reports.send()
                elif calls is not None and calls.count:
                    self._send_chunk(calls.take())
                if changed is not None:
                    self.send(wire.ClientFrame(references=changed))
                self._return_slabs()
        finally:
            _shield.leave(entered)

    def _return_slabs(self) -> None:
        if self.slabs is not None:
            for number in self.slabs.take_returns():
                self.send(wire.ClientFrame(slab_return=wire.SlabReturn(slab=number)))

    def _check(self) -> None:
        if self.lost is not None:
            raise self.lost
        if self.closed:
            raise exceptions.RaySystemError("this session was shut down; call ray.init()")

    # ------------------------------------------------------------ graphs

    def new_graph_id(self) -> bytes:
        """16 bytes that no other graph has."""
        return os.urandom(16)

    def watch_graph(self, graph: bytes, on_event: Callable[[GraphEvent], None]) -> None:
        """Have on_event called with each GraphProgress of a graph and its GraphEnded, by whichever thread
        reads: it must be quick and never wait. To be called before the graph's first chunk is sent."""
        self._watchers[graph] = on_event

    def unwatch_graph(self, graph: bytes) -> None:
        """No further events."""
        self._watchers.pop(graph, None)

    def send_chunk(self, chunk: wire.GraphChunk, references: Sequence[ObjectRef] = ()) -> None:
        """Send a chunk when there is credit for it (only drivers wait for that), with the functions that
        the raylet has not had; `references` are those it names, alive until it is sent."""
        self.flush()
        if self.is_driver:
            self.wait_for_credit(chunk.ByteSize())
        parent = None if self.current_task is None else self.current_task()
        if parent is not None:
            chunk.submitted_by_batch = parent.batch
            chunk.submitted_by_position = parent.position
        entered = _shield.enter()
        try:
            with self._sending:
                self._send_chunk(chunk)
        finally:
            _shield.leave(entered)
        del references

    def adopt_results(self, ids: Sequence[bytes]) -> List[ObjectRef]:
        """References to results that the raylet holds for this session because a chunk wanted them."""
        self.references.own_all(ids)
        return [adopt(id, self.references) for id in ids]

    def put_constant(self, value: Any) -> ObjectRef:
        """As ray.put."""
        return adopt(self.put(serialize(value)), self.references)

    def get_values(self, refs: Sequence[ObjectRef]) -> List[Any]:
        """The values of `refs`, in order, with buffers that may be written to. The first answer that turns
        out to be a failure is raised at once."""
        return get_values(self, refs, None, writable=True, fail_early=True)

    def _send_chunk(self, chunk: wire.GraphChunk) -> None:
        """With the functions that the raylet has not had yet."""
        chunk.functions.extend(self.functions.take_unsent(chunk.function_numbers))
        self._credit -= self.send(wire.ClientFrame(graph_chunk=chunk))

    def open_calls(self) -> Calls:
        """Where calls are gathered at the moment."""
        calls = self.pending_calls
        if calls is None or calls.closed or calls.is_used_up:
            calls = self._open_calls()
        return calls

    def _open_calls(self) -> Calls:
        entered = _shield.enter()
        try:
            with self._sending:
                self._check()
                calls = self.pending_calls
                if calls is None or calls.closed or calls.is_used_up:
                    self.close_calls()
                    parent = None if self.current_task is None else self.current_task()
                    graph = os.urandom(16) if parent is None else parent.derive(b"calls")
                    calls = self.pending_calls = Calls(graph, self.references, parent)
                return calls
        finally:
            _shield.leave(entered)

    def close_calls(self) -> None:
        """Send what was gathered and close the open graph: a task ends, or the graph is long."""
        if self.pending_calls is None:
            return
        entered = _shield.enter()
        try:
            with self._sending:
                calls, self.pending_calls = self.pending_calls, None
                if calls is not None and not calls.closed:
                    chunk = calls.take(last=True)
                    if chunk.first_task or chunk.task_count:
                        self._send_chunk(chunk)
        finally:
            _shield.leave(entered)

    def wait_for_call_credit(self) -> None:
        """Makes a driver wait that calls faster than the raylet takes in."""
        if self._credit < _CALL_CREDIT_BYTES and self.is_driver:
            self.wait_for_credit(_CALL_CREDIT_BYTES)

    def wait_for_credit(self, size_bytes: int) -> None:
        """Until this many bytes of chunks may be sent (or all there will ever be)."""
        wanted = min(size_bytes, self._credit_max // 2)
        while self._credit < wanted and self.is_driver:
            waiter = Waiter()
            self._credit_waiters.append(waiter)
            if self._credit >= wanted:
                return
            self.flush()
            self._check()
            self.waiting.wait(waiter)
            if waiter.error is not None:
                raise waiter.error

    def cancel_graph(self, graph: bytes, wait_s: Optional[float] = None) -> None:
        """Cancel everything of a graph that has not run; with `wait_s`, until the raylet did."""
        self._cancel(wire.Cancel(graph=graph, recursive=True), wait_s)

    def cancel_object(self, id: bytes, force: bool, recursive: bool) -> None:
        """Cancel the task that makes this object."""
        self._cancel(wire.Cancel(object=id, force=force, recursive=recursive), _REQUEST_S)

    def _cancel(self, cancel: wire.Cancel, wait_s: Optional[float]) -> None:
        self.flush()
        if wait_s is None:
            self.send(wire.ClientFrame(cancel=cancel))
            return
        cancel.request = next(self._numbers)
        self._ask(cancel.request, wire.ClientFrame(cancel=cancel), wait_s, "cancel")

    # ------------------------------------------------------------ objects

    def get(
        self, ids: Sequence[bytes], timeout_s: Optional[float] = None, fail_early: bool = False
    ) -> Dict[bytes, Answer]:
        """The answers for all of these objects. Raises GetTimeoutError, or `lost`.

        With fail_early, a failure is raised as soon as it is known.
        """
        waiter = _Get(0)
        waiter.fails_early = fail_early
        number = self._ask_get(waiter, ids, True, 0)
        self._await_get(waiter, number, timeout_s)
        if not waiter.done:
            raise exceptions.GetTimeoutError(
                f"{len(waiter.answers)} of {waiter.wanted} objects were ready after {timeout_s} s; "
                "`raylet explain <id>` tells what the others wait for"
            )
        return waiter.answers

    def get_later(
        self, ids: Sequence[bytes], on_done: Callable[[Dict[bytes, Answer], Optional[BaseException]], None]
    ) -> None:
        """As get, without waiting; `on_done` is called by whichever thread reads the last answer."""
        waiter = _Get(0)
        waiter.on_done = lambda done: on_done(done.answers, done.error)
        self._ask_get(waiter, ids, True, 0)
        self.touch()

    def ready(
        self, ids: Sequence[bytes], count: int, timeout_s: Optional[float]
    ) -> Dict[bytes, Any]:
        """Those that are ready, as keys; returns when there are `count` of them or time is up."""
        waiter = _Get(0)
        number = self._ask_get(waiter, ids, False, count)
        self._await_get(waiter, number, timeout_s)
        return waiter.answers

    def _ask_get(self, waiter: _Get, ids: Sequence[bytes], values: bool, count: int) -> int:
        self.flush_calls()
        distinct = ids if len(ids) == 1 else list(dict.fromkeys(ids))
        waiter.wanted = count if count else len(distinct)
        number = next(self._numbers)
        if not distinct:
            waiter.complete()
            return number
        self._requests[number] = waiter
        self.send(
            wire.ClientFrame(
                get=wire.Get(
                    request=number, ids=b"".join(distinct), values=values,
                    wanted_count=0 if values else waiter.wanted,
                )
            )
        )
        return number

    def _await_get(self, waiter: _Get, number: int, timeout_s: Optional[float]) -> None:
        try:
            if timeout_s is not None and timeout_s <= 0:
                # What is known already is answered at the end of the raylet's step, so perhaps right
                # behind the first barrier's answer, but before the second's.
                for _ in range(2):
                    if not waiter.done:
                        self._barrier()
            else:
                self._wait(waiter, timeout_s)
        finally:
            if self._requests.pop(number, None) is not None:
                if self.lost is None:
                    self.send(wire.ClientFrame(cancel_get=wire.CancelGet(request=number)))
        if waiter.error is not None:
            raise waiter.error

    def _barrier(self) -> None:
        """Until the raylet has taken in everything sent so far and its answers are here."""
        number = next(self._numbers)
        cancel = wire.Cancel(graph=os.urandom(16), request=number)
        self._ask(number, wire.ClientFrame(cancel=cancel), _REQUEST_S, "barrier", quiet=True)

    def _wait(self, waiter: Waiter, timeout_s: Optional[float]) -> bool:
        blocking = self.blocking
        if blocking is None:
            return self.waiting.wait(waiter, timeout_s)
        first = _BLOCK_AFTER_S if timeout_s is None else min(timeout_s, _BLOCK_AFTER_S)
        if self.waiting.wait(waiter, first):
            return True
        left = None if timeout_s is None else timeout_s - first
        with blocking:
            return self.waiting.wait(waiter, left)

    def put(self, value: SerializedValue, id: Optional[bytes] = None) -> bytes:
        """Make an object of a value; this process holds it from now on. Its id."""
        if id is None:
            id = self._new_put_id()
        self._check()
        contained = b"".join(value.contained)
        if value.size_bytes <= self.inline_bytes_max:
            self._send_put(wire.Put(id=id, inline_value=value.to_bytes(), contained=contained))
        elif self.slabs is not None:
            sealed = self.seal(value)
            self._send_put(wire.Put(id=id, sealed=sealed, contained=contained))
            self.slabs.reported([sealed.slab])
            entered = _shield.enter()
            try:
                with self._sending:
                    self._return_slabs()
            finally:
                _shield.leave(entered)
        else:
            self._put_in_pieces(id, value, contained)
        self.references.own(id)
        return id

    def _new_put_id(self) -> bytes:
        parent = None if self.current_task is None else self.current_task()
        if parent is not self._put_parent:
            self._put_parent = parent
            self._put_graph = os.urandom(16) if parent is None else parent.derive(b"puts")
            self._put_tasks = itertools.count()
        return self._put_graph + next(self._put_tasks).to_bytes(8, "big") + b"\0\0\0\0"

    def seal(self, value: SerializedValue) -> wire.Sealed:
        """Write a value into leased memory; whoever reports it calls slabs.reported() afterwards."""
        assert self.slabs is not None
        slab, offset = self.slabs.write(value)
        return wire.Sealed(slab=slab, offset=offset, size_bytes=value.size_bytes)

    def _send_put(self, put: wire.Put) -> None:
        # A value may contain references to calls that are still buffered.
        self.flush_calls()
        self.send(wire.ClientFrame(put=put))

    def _put_in_pieces(self, id: bytes, value: SerializedValue, contained: bytes) -> None:
        self.flush()
        data = memoryview(value.to_bytes())
        for start in range(0, len(data), _PIECE_BYTES):
            piece = data[start : start + _PIECE_BYTES]
            last = start + _PIECE_BYTES >= len(data)
            self.send(
                wire.ClientFrame(
                    put_piece=wire.PutPiece(
                        id=id, size_bytes=len(data), piece=bytes(piece), last=last,
                        contained=contained if last else b"",
                    )
                )
            )

    def _lease_slab(self, size_bytes: int) -> Tuple[int, int, int, int]:
        self.flush()  # what was dropped makes room
        number = next(self._numbers)
        request = wire.SlabRequest(request=number, size_bytes=size_bytes)
        grant = self._ask(number, wire.ClientFrame(slab_request=request), _SLAB_S, "slab_request")
        if grant.HasField("failure") and grant.failure.code:
            raise to_exception(grant.failure)
        at = grant.location
        return grant.slab, at.segment, at.offset, at.size_bytes

    # ------------------------------------------------------------ actors

    def find_actor(self, name: str, namespace: str) -> wire.ActorFound:
        """Who has this name. Raises ActorHandleNotFoundError (a ValueError)."""
        self.flush()
        number = next(self._numbers)
        find = wire.FindActor(request=number, name=name, namespace=namespace)
        found = self._ask(number, wire.ClientFrame(find_actor=find), _REQUEST_S, "find_actor")
        if found.HasField("failure") and found.failure.code:
            raise to_exception(found.failure)
        return found

    def kill_actor(self, actor: bytes, no_restart: bool) -> None:
        self.flush()
        self.send(
            wire.ClientFrame(kill_actor=wire.KillActor(actor=actor, no_restart=no_restart))
        )

    # ------------------------------------------------------------ requests

    def _ask(
        self, number: int, frame: wire.ClientFrame, timeout_s: float, what: str, quiet: bool = False
    ) -> Any:
        waiter = _Request()
        self._requests[number] = waiter
        self.send(frame)
        try:
            self._wait(waiter, timeout_s)
        finally:
            self._requests.pop(number, None)
        if waiter.error is not None:
            if quiet and not self.lost:
                return None
            raise waiter.error
        if not waiter.done:
            raise exceptions.RaySystemError(
                f"the raylet did not answer a {what} within {timeout_s:.0f} s; "
                "logs/rayletd.log in the session directory may tell why"
            )
        return waiter.reply

    # ------------------------------------------------------------ reading

    def _read_ready(self, until: Optional[Waiter]) -> None:
        """Take in what has come, but no more than it takes to complete `until`."""
        read_next = self.carrier.read_next
        try:
            while True:
                received = read_next()
                if received is None:
                    return
                self.take_frame(*received)
                if until is not None and until.done:
                    return
        except PeerGone as gone:
            self._lose(str(gone) or "the connection was closed by the other end")
        except (PacketError, OSError) as error:
            self._lose(str(error))

    def take_frame(self, frame: wire.ServerFrame, descriptor: int) -> None:
        """Act on one frame. Never raises for what came: a bad frame loses the session."""
        body = frame.WhichOneof("body")
        try:
            if body == "segment":
                self.store.add_segment(frame.segment.segment, frame.segment.size_bytes, descriptor)
                return
            if descriptor >= 0:
                os.close(descriptor)
            handler = self._handlers.get(body)
            if handler is not None:
                handler(getattr(frame, body))
            elif body is not None and self.on_worker_frame is not None:
                self.on_worker_frame(body, getattr(frame, body))
            elif body is not None:
                self.early_frames.append((body, getattr(frame, body)))
        except (KeyboardInterrupt, SystemExit):
            raise
        except Exception as error:
            self._lose(f"a {body} frame made no sense: {type(error).__name__}: {error}")

    def _take_answers(self, answers: wire.ObjectAnswers) -> None:
        waiter = self._requests.get(answers.request)
        ids = answers.ids
        if waiter is None:
            self._drop_answers(answers)
            return
        found = waiter.answers
        if not answers.kinds:
            if len(ids) == ID_BYTES:
                found[ids] = answers.inline_values[0]
            else:
                for number, value in enumerate(answers.inline_values):
                    found[ids[number * ID_BYTES : (number + 1) * ID_BYTES]] = value
        else:
            inline, located, failed = (
                iter(answers.inline_values), iter(answers.locations), iter(answers.failures),
            )
            for number, kind in enumerate(answers.kinds):
                id = ids[number * ID_BYTES : (number + 1) * ID_BYTES]
                if kind == wire.ANSWER_INLINE:
                    found[id] = next(inline)
                elif kind == wire.ANSWER_LOCATED:
                    at = next(located)
                    found[id] = self.store.locate(id, at.segment, at.offset, at.size_bytes)
                elif kind == wire.ANSWER_FAILED:
                    found[id] = failure = next(failed)
                    if waiter.fails_early and waiter.error is None:
                        waiter.fail(to_exception(failure))
                elif kind == wire.ANSWER_READY:
                    found[id] = True
                else:  # its pieces follow
                    waiter.pieces[id] = bytearray()
        self._complete_if_all(answers.request, waiter)

    def _drop_answers(self, answers: wire.ObjectAnswers) -> None:
        """Nobody waits any more; what was pinned for them is let go."""
        for number, kind in enumerate(answers.kinds):
            if kind == wire.ANSWER_LOCATED:
                self.references.pins += 1
                self.references.unpinned.append(
                    answers.ids[number * ID_BYTES : (number + 1) * ID_BYTES]
                )

    def _take_piece(self, piece: wire.ObjectPiece) -> None:
        waiter = self._requests.get(piece.request)
        if waiter is None:
            return
        data = waiter.pieces.setdefault(piece.id, bytearray())
        data += piece.piece
        if len(data) >= piece.size_bytes:
            waiter.answers[piece.id] = bytes(data)
            del waiter.pieces[piece.id]
            self._complete_if_all(piece.request, waiter)

    def _complete_if_all(self, number: int, waiter: _Get) -> None:
        if len(waiter.answers) >= waiter.wanted:
            self._requests.pop(number, None)
            if not waiter.done:
                waiter.complete()

    def _take_reply(self, reply: Any) -> None:
        waiter = self._requests.get(reply.request)
        if isinstance(waiter, _Request):
            waiter.reply = reply
            waiter.complete()
        elif reply.DESCRIPTOR.name == "SlabGrant" and not reply.failure.code:
            # Nobody waits for it any more.
            self.send(wire.ClientFrame(slab_return=wire.SlabReturn(slab=reply.slab)))

    def _take_hello(self, reply: wire.HelloReply) -> None:
        self._hello.reply = reply
        self._hello.complete()

    def _take_refusal(self, refusal: wire.Refusal) -> None:
        if not self._hello.done:
            self._hello.fail(
                ConnectionError(f"the raylet refused the hello: {refusal.failure.message}")
            )
            return
        waiter = self._requests.pop(refusal.request, None) if refusal.request else None
        if waiter is not None:
            waiter.fail(to_exception(refusal.failure))
            return
        calls = self.pending_calls
        if calls is not None and refusal.graph == calls.graph:
            calls.closed = True  # the raylet takes no more of it; the next call opens another
        watcher = self._watchers.pop(refusal.graph, None) if refusal.graph else None
        if watcher is not None:
            watcher(wire.GraphEnded(graph=refusal.graph, failure=refusal.failure))
            return
        self.on_notice(
            wire.Notice(
                severity=wire_common.ERROR,
                text=f"the raylet refused a {refusal.about or 'frame'}: {refusal.failure.message}",
            )
        )

    def _take_credit(self, credit: wire.Credit) -> None:
        self._credit += credit.bytes
        while self._credit_waiters:
            self._credit_waiters.popleft().complete()

    def _take_progress(self, progress: wire.GraphProgress) -> None:
        watcher = self._watchers.get(progress.graph)
        if watcher is not None:
            watcher(progress)

    def _take_ended(self, ended: wire.GraphEnded) -> None:
        watcher = self._watchers.pop(ended.graph, None)
        if watcher is not None:
            watcher(ended)

    # ------------------------------------------------------------ the end

    def _lose(self, reason: str) -> None:
        """The connection is gone: everything that waits fails."""
        if self.lost is not None or self.closed:
            return
        self.lost = exceptions.LocalRayletDiedError(
            f"the raylet at {self.carrier.name} is gone ({reason}). What was under way and the objects "
            "it held are lost. If the node is started again, the next call connects to it; after "
            "ray.init() without an address, call ray.shutdown() and ray.init()."
        )
        said = getattr(self.carrier, "error", None)
        if said is not None:
            self.lost = said
        self._fail_all(self.lost)

    def _fail_all(self, error: BaseException) -> None:
        if not self._hello.done:
            refused = isinstance(error, exceptions.AuthenticationError)
            self._hello.fail(error if refused else ConnectionError(str(error)))
        while self._requests:
            try:
                self._requests.popitem()[1].fail(error)
            except KeyError:
                break
        while self._credit_waiters:
            self._credit_waiters.popleft().fail(error)
        for graph in list(self._watchers):
            watcher = self._watchers.pop(graph, None)
            if watcher is not None:
                failure = wire_common.Failure(code=wire_common.NODE_DIED, message=str(error))
                watcher(wire.GraphEnded(graph=graph, failure=failure))
        if self.on_worker_frame is not None:
            self.on_worker_frame("lost", None)

    def close(self) -> None:
        """Leave on purpose."""
        if self.closed:
            return
        if self.lost is None:
            try:
                self.flush()
                self.send(wire.ClientFrame(goodbye=wire.Goodbye()))
            except Exception:
                pass
        self.closed = True
        if self.background is not None:
            self.background.close()
        self.carrier.close()
        self._fail_all(exceptions.RaySystemError("ray.shutdown() was called meanwhile"))
        self.store.close()

    def abandon_after_fork(self) -> None:
        """In a forked child: this session is the parent's."""
        self.closed = True
        self.carrier.close_after_fork()
