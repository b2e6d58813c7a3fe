"""A driver's or a worker's session: a conversation that knows values, graphs, calls and actors."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Any, Callable, Deque, Dict, Optional, Sequence, Union

from ray import _shield
from ray._calls_buffer import Calls
from ray._conversation import PROTOCOL_VERSION, REQUEST_S
from ray._failures import to_exception
from ray._functions import FunctionTable
from ray._objects import Objects
from ray._ref import ObjectRef
from ray._waiting import Waiter
from ray._wire import common_pb2 as wire_common
from ray._wire import session_pb2 as wire

__all__ = ["GraphEvent", "PROTOCOL_VERSION", "Session"]

# Room that must be left before another call is buffered; more than a chunk of calls can take.
_CALL_CREDIT_BYTES = 8 << 20

GraphEvent = Union[wire.GraphProgress, wire.GraphEnded]


class Session(Objects):
    """All of what this process says to its raylet. Thread-safe."""

    def __init__(self, carrier: Any, hello: wire.Hello) -> None:
        self.functions = FunctionTable()
        self.actor_id: Optional[bytes] = None  # workers: of the actor that lives here
        self._watchers: Dict[bytes, Callable[[GraphEvent], None]] = {}
        self._credit_lock = threading.Lock()
        self._credit_max = 64 << 20
        self._credit = 0
        self._credit_waiters: Deque[Waiter] = deque()
        super().__init__(carrier, hello)
        self._handlers["credit"] = self._take_credit
        self._handlers["graph_progress"] = self._take_progress
        self._handlers["graph_ended"] = self._take_ended
        self._credit_max = int(self.info.graph_credit_bytes) or self._credit_max
        self._change_credit(self._credit_max)

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
        if self.references.has_held():
            self.flush()  # it may name what this process holds since a moment ago
        else:
            self.flush_calls()
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

    def _send_chunk(self, chunk: wire.GraphChunk) -> None:
        """With the functions that the raylet has not had yet."""
        chunk.functions.extend(self.functions.take_unsent(chunk.function_numbers))
        self._change_credit(-self.send(wire.ClientFrame(graph_chunk=chunk)))

    def cancel_graph(self, graph: bytes, wait_s: Optional[float] = None) -> None:
        """Cancel everything of a graph that has not run; with `wait_s`, until the raylet did."""
        self._cancel(wire.Cancel(graph=graph, recursive=True), wait_s)

    def cancel_object(self, id: bytes, force: bool, recursive: bool) -> None:
        """Cancel the task that makes this object."""
        self._cancel(wire.Cancel(object=id, force=force, recursive=recursive), REQUEST_S)

    def _cancel(self, cancel: wire.Cancel, wait_s: Optional[float]) -> None:
        self.flush()
        if wait_s is None:
            self.send(wire.ClientFrame(cancel=cancel))
            return
        cancel.request = next(self._numbers)
        self._ask(cancel.request, wire.ClientFrame(cancel=cancel), wait_s, "cancel")

    def _take_progress(self, progress: wire.GraphProgress) -> None:
        watcher = self._watchers.get(progress.graph)
        if watcher is not None:
            watcher(progress)

    def _take_ended(self, ended: wire.GraphEnded) -> None:
        watcher = self._watchers.pop(ended.graph, None)
        if watcher is not None:
            watcher(ended)

    def _take_refusal(self, refusal: wire.Refusal) -> None:
        calls = self.pending_calls
        if calls is not None and refusal.graph == calls.graph:
            calls.closed = True  # the raylet takes no more of it; the next call opens another
        watcher = self._watchers.pop(refusal.graph, None) if refusal.graph else None
        if watcher is not None:
            watcher(wire.GraphEnded(graph=refusal.graph, failure=refusal.failure))
            return
        super()._take_refusal(refusal)

    def _fail_all(self, error: BaseException) -> None:
        while self._credit_waiters:
            self._credit_waiters.popleft().fail(error)
        for graph in list(self._watchers):
            watcher = self._watchers.pop(graph, None)
            if watcher is not None:
                failure = wire_common.Failure(code=wire_common.NODE_DIED, message=str(error))
                watcher(wire.GraphEnded(graph=graph, failure=failure))
        super()._fail_all(error)

    # ------------------------------------------------------------ credit

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

    def _change_credit(self, size_bytes: int) -> None:
        with self._credit_lock:
            self._credit += size_bytes

    def _take_credit(self, credit: wire.Credit) -> None:
        self._change_credit(credit.bytes)
        while self._credit_waiters:
            self._credit_waiters.popleft().complete()

    # ------------------------------------------------------------ calls

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

    # ------------------------------------------------------------ actors

    def find_actor(self, name: str, namespace: str) -> wire.ActorFound:
        """Who has this name. Raises ActorHandleNotFoundError (a ValueError)."""
        self.flush()
        number = next(self._numbers)
        find = wire.FindActor(request=number, name=name, namespace=namespace)
        found = self._ask(number, wire.ClientFrame(find_actor=find), REQUEST_S, "find_actor")
        if found.HasField("failure") and found.failure.code:
            raise to_exception(found.failure)
        return found

    def kill_actor(self, actor: bytes, no_restart: bool) -> None:
        self.flush()
        self.send(
            wire.ClientFrame(kill_actor=wire.KillActor(actor=actor, no_restart=no_restart))
        )
