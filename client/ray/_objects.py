"""The values of a session: getting, waiting, putting, and what of them this process holds.

flush() is the one place where buffered things leave, in the order that keeps every object alive that is
still needed: what is held, calls, results, and at last what is released.
"""

from __future__ import annotations

import itertools
import os
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ray import _shield, exceptions
from ray._calls_buffer import Calls, Parent
from ray._conversation import Conversation
from ray._failures import to_exception
from ray._ref import ID_BYTES, ObjectRef, adopt
from ray._serialize import SerializedValue, serialize
from ray._store import Slabs
from ray._values import Answer, get_values
from ray._waiting import Waiter
from ray._wire import session_pb2 as wire

_SLAB_S = 60.0
_PIECE_BYTES = 1 << 20
_RELEASES_MAX = 256


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


class Objects(Conversation):
    """A conversation that knows values. Thread-safe."""

    def __init__(self, carrier: Any, hello: wire.Hello) -> None:
        self._put_tasks = itertools.count()
        self._put_graph = os.urandom(16)
        self._put_parent: Optional[Parent] = None
        # The open graph that calls are buffered in; None until the first one, or the first of a task.
        self.pending_calls: Optional[Calls] = None
        # Workers: the task that runs, as the parent of what it submits.
        self.current_task: Optional[Callable[[], Optional[Parent]]] = None
        # Workers: results that are not reported yet; has `count` and `send()`.
        self.reports: Optional[Any] = None
        self.slabs: Optional[Slabs] = None
        super().__init__(carrier, hello)
        self._handlers["object_answers"] = self._take_answers
        self._handlers["object_piece"] = self._take_piece
        self.inline_bytes_max: int = int(self.info.inline_bytes_max) or (64 << 10)
        if carrier.shares_memory:
            self.slabs = Slabs(
                self.store, self._lease_slab, int(self.info.slab_bytes) or (1 << 20),
                int(self.info.store_capacity_bytes),
            )

    # ------------------------------------------------------------ what is buffered

    def _send_chunk(self, chunk: wire.GraphChunk) -> None:
        raise NotImplementedError

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

    # ------------------------------------------------------------ getting

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

    def get_values(self, refs: Sequence[ObjectRef]) -> List[Any]:
        """The values of `refs`, in order, with buffers that may be written to. The first answer that turns
        out to be a failure is raised at once."""
        return get_values(self, refs, None, writable=True, fail_early=True)

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
                self.references.unpin(answers.ids[number * ID_BYTES : (number + 1) * ID_BYTES])

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

    # ------------------------------------------------------------ putting

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

    def put_constant(self, value: Any) -> ObjectRef:
        """As ray.put."""
        return adopt(self.put(serialize(value)), self.references)

    def adopt_results(self, ids: Sequence[bytes]) -> List[ObjectRef]:
        """References to results that the raylet holds for this session because a chunk wanted them."""
        self.references.own_all(ids)
        return [adopt(id, self.references) for id in ids]

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
