"""GraphRun: one graph on its way through a session, from the first chunk to its results or its cancellation.

`GraphSession` is what it needs of a session; ray._session.Session has it, and so has a stand-in in the tests.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Protocol, Sequence, Set, Union

from ray import _shield
from ray._failures import to_exception
from ray._functions import FunctionTable
from ray._graph import GraphBuilder
from ray._ref import ObjectRef
from ray._warned import Warned
from ray._wire import common_pb2 as wire_common
from ray._wire import session_pb2 as wire

GraphEvent = Union[wire.GraphProgress, wire.GraphEnded]

_FIRST_RETURN = bytes(4)


class GraphSession(Protocol):
    """A session, as far as graphs are concerned. Any thread may call."""

    functions: FunctionTable
    warned: Warned

    def new_graph_id(self) -> bytes:
        """16 bytes that no other graph has."""

    def send_chunk(self, chunk: wire.GraphChunk, references: Sequence[ObjectRef]) -> None:
        """Add the definitions of functions that the raylet has not had, wait for credit, and send.

        `references` stay alive until the frame is sent. Raises if the session is over.
        """

    def put_constant(self, value: Any) -> ObjectRef:
        """As ray.put."""

    def adopt_results(self, ids: Sequence[bytes]) -> List[ObjectRef]:
        """References to results that the raylet holds for this session because a chunk wanted them."""

    def get_values(self, refs: Sequence[ObjectRef]) -> List[Any]:
        """The values, with buffers that may be written to, in the order of `refs`.

        As soon as one of them turns out to be a failure, raises it.
        """

    def cancel_graph(self, graph: bytes) -> None:
        """Nothing more of the graph is started, what runs is interrupted. Does not wait."""

    def watch_graph(self, graph: bytes, on_event: Callable[[GraphEvent], None]) -> None:
        """Call `on_event` with each GraphProgress and the GraphEnded of a graph, from any thread.

        To be called before the graph's first chunk is sent; the watch ends with GraphEnded, or unwatch_graph.
        """

    def unwatch_graph(self, graph: bytes) -> None:
        """No further events."""


class GraphRun:
    """Use as a context: leaving it by an exception cancels the graph and lets go of its results.

    `on_event` hears of progress and of the end, from whichever thread reads; without it, nothing is reported.
    With `hold_all` the session holds every result until the context is left, else those the builder wanted.
    """

    def __init__(
        self,
        session: GraphSession,
        *,
        name: str = "",
        hold_all: bool = False,
        on_event: Optional[Callable[[GraphEvent], None]] = None,
    ) -> None:
        self.graph = session.new_graph_id()
        self.failure: Optional[wire_common.Failure] = None  # the graph's first
        self._session = session
        self._on_event = on_event
        self._ended = False
        self._sent = False
        self._hold_all = hold_all
        self._wanted: List[int] = []
        self._refs: Dict[int, ObjectRef] = {}
        self._gone: Set[int] = set()  # tasks whose results were let go while the graph ran
        self.builder = GraphBuilder(
            self.graph, session.functions, self._send, session.put_constant,
            report_progress=on_event is not None, hold_all=hold_all, name=name,
        )

    def __enter__(self) -> "GraphRun":
        self._session.watch_graph(self.graph, self._take_event)
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._session.unwatch_graph(self.graph)
        if not self._sent or (error is None and not self._hold_all):
            self._refs.clear()  # whoever was given one holds it
            return
        entered = _shield.enter()
        try:
            if error is not None and not self._ended:
                self._session.cancel_graph(self.graph)
            self.adopt(
                self._left() if self._hold_all else [t for t in self._wanted if t not in self._gone]
            )
        except Exception:  # the session is over, which frees everything; the first error matters
            pass
        finally:
            self._refs.clear()
            _shield.leave(entered)

    def _send(self, chunk: wire.GraphChunk, references: Sequence[ObjectRef]) -> None:
        if self.failure is not None:
            raise to_exception(self.failure)
        self._sent = True
        self._wanted.extend(chunk.wanted)
        self._session.send_chunk(chunk, references)

    def _take_event(self, event: GraphEvent) -> None:
        if isinstance(event, wire.GraphEnded):
            if event.failure.code:
                self.failure = event.failure
            self._ended = True
        if self._on_event is not None:
            self._on_event(event)

    def finish(self) -> None:
        """Every task has been added. A graph without any is not sent at all."""
        if self.builder.next_task():
            self.builder.flush(last=True)

    def adopt(self, tasks: Sequence[int]) -> List[ObjectRef]:
        """References to the results of these tasks, all of them held by the session."""
        refs = self._refs
        graph = self.graph
        fresh = [task for task in dict.fromkeys(tasks) if task not in refs]
        ids = [graph + task.to_bytes(8, "big") + _FIRST_RETURN for task in fresh]
        refs.update(zip(fresh, self._session.adopt_results(ids)))
        return [refs[task] for task in tasks]

    def _left(self) -> Sequence[int]:
        """The tasks whose results this object may have to let go."""
        tasks = range(self.builder.sent_count())
        return [task for task in tasks if task not in self._gone] if self._gone else tasks

    def let_go(self, tasks: Sequence[int]) -> None:
        """Let go of some results that the session holds, while the graph may still need them; for ever."""
        left = [task for task in dict.fromkeys(tasks) if task not in self._gone]
        self.adopt(left)
        self._gone.update(left)
        for task in left:
            del self._refs[task]

    def keep_only(self, tasks: Sequence[int]) -> None:
        """Let go of all other results, once everything was sent: who still refers to one holds it."""
        if self._hold_all:
            self.adopt(self._left())
            self._refs = {task: self._refs[task] for task in tasks}
            self._wanted = list(tasks)
            self._hold_all = False

    def get(self, refs: Sequence[ObjectRef]) -> List[Any]:
        """The values of results, of this graph and others. Raises the graph's first failure."""
        try:
            return self._session.get_values(refs)
        except Exception:
            if self.failure is not None:
                raise to_exception(self.failure) from None
            raise
