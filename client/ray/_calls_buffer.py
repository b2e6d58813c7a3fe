"""Calls: f.remote() calls on their way into an open graph, gathered into chunks.

A process has one open graph (a task that submits has one of its own, named after the task and its attempt,
so that running it again gives the same names). A call gets its task number and its references at once; the
session sends what was gathered at the next get, wait or put, at 64 calls, or within about a millisecond.
"""

from __future__ import annotations

import hashlib
import pickle
import threading
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ray._calls import Call, dep
from ray._ref import ObjectRef, adopt
from ray._references import References
from ray._serialize import SIMPLE_TYPES, UnpicklableError, dump_with, serialize
from ray._wire import session_pb2 as wire

CALLS_MAX = 64
_GATHER_S = 0.001
# A graph that grew to this many tasks is closed and another one opened, so that no table grows for ever.
_TASKS_MAX = 1_000_000
_BIG_BYTES = 64 << 10
_SHORT_BYTES = 1024
_FIRST_RETURN = bytes(4)
_NO_DEPS: Tuple = ()


class _TooBig(BaseException):
    pass


def _refuse_big(buffer: pickle.PickleBuffer) -> bool:
    try:
        if buffer.raw().nbytes > _BIG_BYTES:
            raise _TooBig
    except BufferError:
        pass
    return True


class Parent:
    """The task that submits: where it is in the worker's batches."""

    __slots__ = ("graph", "task", "attempt", "batch", "position", "name")

    def __init__(
        self, graph: bytes, task: int, attempt: int, batch: int, position: int, name: str
    ) -> None:
        self.graph = graph
        self.task = task
        self.attempt = attempt
        self.batch = batch
        self.position = position
        self.name = name

    def derive(self, purpose: bytes) -> bytes:
        """16 bytes that the same attempt of the same task always gets."""
        digest = hashlib.blake2b(self.graph, digest_size=16, person=purpose)
        digest.update(self.task.to_bytes(8, "big") + self.attempt.to_bytes(4, "big"))
        return digest.digest()


class _Gathered:
    """One call: its function, its arguments (`blob` if they were pickled alone) and what it depends on."""

    __slots__ = ("function", "entry", "blob", "deps", "borrows", "options", "returns", "name", "kept")

    def __init__(self) -> None:
        self.entry: Any = None
        self.blob: Optional[bytes] = None
        self.deps: Sequence[bytes] = _NO_DEPS
        self.borrows: Sequence[bytes] = _NO_DEPS
        self.kept: Sequence[ObjectRef] = _NO_DEPS


class Calls:
    """The calls of one open graph. `count` is how many are gathered and not taken. Thread-safe."""

    def __init__(self, graph: bytes, references: References, parent: Optional[Parent] = None) -> None:
        self.graph = graph
        self.parent = parent
        self.count = 0
        self._references = references
        self._lock = threading.Lock()
        self._first_task = 0
        self._gathered: List[_Gathered] = []
        self._since = 0.0
        self.is_full = False
        self.closed = False

    def add(self, call: _Gathered) -> Optional[List[ObjectRef]]:
        """Gather a call; the references to its results. None: closed meanwhile, there is another one."""
        references = self._references
        returns = call.returns
        with self._lock:
            if self.closed:
                return None
            task = self._first_task + len(self._gathered)
            id = self.graph + task.to_bytes(8, "big") + _FIRST_RETURN
            references.own(id)
            self._gathered.append(call)
            self.count = len(self._gathered)
        if returns == 1:
            refs = [adopt(id, references)]
        else:
            refs = []
            for index in range(returns):
                other = id[:24] + index.to_bytes(4, "big")
                references.own(other)
                refs.append(adopt(other, references))
            if not returns:
                references.dropped.append(id)
        now = time.monotonic()
        if self.count == 1:
            self._since = now
        self.is_full = self.count >= CALLS_MAX or now - self._since > _GATHER_S
        return refs

    @property
    def is_used_up(self) -> bool:
        return self._first_task > _TASKS_MAX

    def take(self, last: bool = False) -> wire.GraphChunk:
        """The chunk of what was gathered. To be sent before any chunk that is taken later."""
        with self._lock:
            calls = self._gathered
            first = self._first_task
            self._gathered = []
            self._first_task = first + len(calls)
            self.count = 0
            self.closed = self.closed or last
        return self._chunk(calls, first, last)

    def _chunk(self, calls: List[_Gathered], first: int, last: bool) -> wire.GraphChunk:
        chunk = wire.GraphChunk(
            graph=self.graph, first_task=first, task_count=len(calls), last=last,
            function_numbers=[call.function for call in calls],
        )
        if not first:
            chunk.hold_all = True
            chunk.graph_name = "calls" if self.parent is None else f"calls of {self.parent.name}"
        if self.parent is not None:
            chunk.submitted_by_batch = self.parent.batch
            chunk.submitted_by_position = self.parent.position
        self._add_groups(chunk, calls)
        if any(call.deps or call.borrows for call in calls):
            self._add_deps(chunk, calls)
        if any(call.returns > 1 for call in calls):
            # A task has at least one result; of a call that wants none it is dropped at once.
            chunk.return_counts.extend([call.returns or 1 for call in calls])
        if any(call.options is not None for call in calls):
            _add_options(chunk, calls)
        if any(call.name for call in calls):
            numbers: Dict[str, int] = {}
            chunk.name_numbers.extend(
                [numbers.setdefault(call.name, len(numbers)) for call in calls]
            )
            chunk.names.extend(numbers)
        return chunk

    @staticmethod
    def _add_groups(chunk: wire.GraphChunk, calls: List[_Gathered]) -> None:
        together: List[Any] = []

        def close() -> None:
            if together:
                chunk.group_sizes.append(len(together))
                chunk.group_blobs.append(pickle.dumps(together, 5))
                together.clear()

        for call in calls:
            if call.blob is None:
                together.append(call.entry)
                if len(together) == CALLS_MAX:
                    close()
            else:
                close()
                chunk.group_sizes.append(1)
                chunk.group_blobs.append(call.blob)
        close()

    def _add_deps(self, chunk: wire.GraphChunk, calls: List[_Gathered]) -> None:
        externals: Dict[bytes, int] = {}
        returns: List[int] = []
        graph = self.graph
        for call in calls:
            chunk.dep_counts.append(len(call.deps))
            for id in call.deps:
                if id[:16] == graph:
                    chunk.deps.append(2 * int.from_bytes(id[16:24], "big"))
                    returns.append(int.from_bytes(id[24:], "big"))
                else:
                    chunk.deps.append(2 * externals.setdefault(id, len(externals)) + 1)
                    returns.append(0)
        if any(returns):
            chunk.dep_returns.extend(returns)
        if any(call.borrows for call in calls):
            for call in calls:
                chunk.borrow_counts.append(len(call.borrows))
                for id in call.borrows:
                    chunk.borrows.append(externals.setdefault(id, len(externals)))
        chunk.externals.extend(externals)


def _add_options(chunk: wire.GraphChunk, calls: List[_Gathered]) -> None:
    numbers: Dict[int, int] = {}
    for call in calls:
        options = call.options
        if options is None:
            chunk.option_numbers.append(0)
            continue
        number = numbers.get(id(options))
        if number is None:
            chunk.options.append(options)
            number = numbers[id(options)] = len(chunk.options)
        chunk.option_numbers.append(number)


def gather(
    session: Any, function: int, args: Tuple, kwargs: Dict[str, Any],
    options: Optional[wire.TaskOptions], returns: int, name: str, what: str,
) -> List[ObjectRef]:
    """Submit one call of a function that the session knows by number; the references to its results.

    A reference among the arguments is a dependency; one deeper inside stays a reference. Arguments over
    64 KiB are put as objects first. Raises UnpicklableError (a TypeError) naming the call `what`.
    """
    call = _Gathered()
    call.function = function
    call.options = options
    call.returns = returns
    call.name = name
    if not kwargs:
        for value in args:
            kind = type(value)
            if kind not in SIMPLE_TYPES or (
                (kind is str or kind is bytes) and len(value) > _SHORT_BYTES
            ):
                _pack(session, call, args, kwargs, what)
                break
        else:
            call.entry = args
    else:
        _pack(session, call, args, kwargs, what)
    refs = None
    while refs is None:
        calls = session.open_calls()
        refs = calls.add(call)
    if calls.is_full:
        session.flush_calls()
        session.wait_for_call_credit()
    elif calls.count == 1:
        session.touch()
    return refs


def _pack(session: Any, call: _Gathered, args: Tuple, kwargs: Dict[str, Any], what: str) -> None:
    """Arguments that are not all small and simple."""
    deps: List[bytes] = []
    simple = True

    def place(value: Any) -> Any:
        nonlocal simple
        if type(value) is ObjectRef:
            deps.append(value._id)
            return dep(len(deps) - 1)
        if type(value) not in SIMPLE_TYPES:
            simple = False
        return value

    new_args = tuple([place(value) for value in args])
    entry: Any = new_args
    if kwargs:
        entry = Call(new_args, {key: place(value) for key, value in kwargs.items()})
    if simple and not any(
        type(value) in (str, bytes) and len(value) > _SHORT_BYTES
        for value in (*args, *kwargs.values())
    ):
        call.entry = entry
        call.deps = deps
        return
    contained: List[bytes] = []
    blob: Optional[bytes] = None
    try:
        blob = dump_with([entry], contained, _refuse_big)
    except _TooBig:
        pass
    except UnpicklableError as error:
        raise UnpicklableCallError(f"the arguments of {what} can't be sent: {error}") from error
    if blob is None or len(blob) > _BIG_BYTES:
        kept: List[ObjectRef] = []
        contained = []

        def lift(value: Any) -> Any:
            kind = type(value)
            if kind in _SMALL_TYPES:
                return value
            serialized = serialize(value)
            if serialized.size_bytes <= _BIG_BYTES // 4:
                return value
            ref = adopt(session.put(serialized), session.references)
            kept.append(ref)
            deps.append(ref._id)
            return dep(len(deps) - 1)

        new_args = tuple([lift(value) for value in new_args])
        entry = new_args
        if kwargs:
            entry = Call(new_args, {key: lift(value) for key, value in _placed(kwargs, deps, args)})
        blob = dump_with([entry], contained)
        call.kept = kept
    call.blob = blob
    call.deps = deps
    call.borrows = contained


_SMALL_TYPES = frozenset({int, float, complex, bool, type(None), type(dep(0))})


def _placed(kwargs: Dict[str, Any], deps: List[bytes], args: Tuple) -> List[Tuple[str, Any]]:
    """Keyword arguments with places for the references among them, as they were numbered first."""
    index = sum(type(value) is ObjectRef for value in args)
    out = []
    for key, value in kwargs.items():
        if type(value) is ObjectRef:
            out.append((key, dep(index)))
            index += 1
        else:
            out.append((key, value))
    return out


class UnpicklableCallError(UnpicklableError, TypeError):
    """A call whose arguments can't be sent."""
