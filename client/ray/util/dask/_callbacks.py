"""Dask's own callbacks (ProgressBar, profilers), driven by what really runs, as it runs.

Without an active callback nothing of this exists. With one, the raylet reports progress, and the thread
that computes calls the hooks: start, start_state, then pretask and posttask of each task, and finish.
`posttask` gets an ObjectRef instead of the value, which would have to be fetched otherwise.
"""

from __future__ import annotations

import queue
from contextlib import contextmanager
from typing import Any, Dict, Hashable, Iterator, List, Optional, Sequence, Set, Tuple

from dask.callbacks import Callback, local_callbacks, normalize_callback

from ray._graph_runner import GraphEvent, GraphRun
from ray._wire import session_pb2 as wire
from ray.util.dask._convert import External, Literal

_WORKER = "raylet"  # posttask's worker_id: which process ran a task is the raylet's business


class CallbackRun:
    """The hooks of one computation. For one thread, but for on_event."""

    def __init__(self, hooks: Sequence[Tuple], graph: Dict) -> None:
        self._hooks = hooks
        self._graph = graph
        self._started: List[Tuple] = []
        self._events: "queue.SimpleQueue[GraphEvent]" = queue.SimpleQueue()
        self.tasks: List[Hashable] = []  # keys by number
        self.wants_results = any(hook[3] for hook in hooks)
        self._done: Set[int] = set()
        self._begun: Set[int] = set()
        self.state: Dict[str, Any] = {
            "dependencies": {}, "dependents": {}, "waiting": set(), "waiting_data": {}, "cache": {},
            "ready": [], "running": set(), "finished": set(), "released": set(),
        }

    def start(self) -> None:
        for hook in self._hooks:
            if hook[0]:
                hook[0](self._graph)
            self._started.append(hook)

    def start_state(self, known: Dict[Hashable, Any], tasks: List[Hashable]) -> None:
        """Every task has been added; `known` is what each key has become, `tasks` are keys by number."""
        self.tasks = tasks
        cache = self.state["cache"]
        for key, what in known.items():
            if type(what) is Literal:
                cache[key] = what.value
            elif type(what) is External:
                cache[key] = what.ref
        self.state["waiting"] = set(self.tasks)
        for hook in self._started:
            if hook[1]:
                hook[1](self._graph, self.state)

    def on_event(self, event: GraphEvent) -> None:
        self._events.put(event)

    def drive(self, run: GraphRun) -> None:
        """Call hooks until the graph has ended."""
        while True:
            event = self._events.get()
            if isinstance(event, wire.GraphEnded):
                break
            for task in event.started:
                self._begin(task)
            for task in event.finished:
                self._end(task, run)
        if run.failure is None:
            for task in range(len(self.tasks)):
                self._end(task, run)

    def _begin(self, task: int) -> None:
        if task in self._begun:
            return
        self._begun.add(task)
        key = self.tasks[task]
        self.state["waiting"].discard(key)
        self.state["running"].add(key)
        for hook in self._started:
            if hook[2]:
                hook[2](key, self._graph, self.state)

    def _end(self, task: int, run: GraphRun) -> None:
        if task in self._done:
            return
        self._begin(task)
        self._done.add(task)
        key = self.tasks[task]
        state = self.state
        state["running"].discard(key)
        state["finished"].add(key)
        result = None
        if self.wants_results:
            result = run.adopt([task])[0]
            state["cache"][key] = result
        for hook in self._started:
            if hook[3]:
                hook[3](key, result, self._graph, state, _WORKER)

    def finish(self, failed: bool) -> None:
        for hook in self._started:
            if hook[4]:
                hook[4](self._graph, self.state, failed)


@contextmanager
def active_hooks(callbacks: Optional[Sequence[Any]]) -> Iterator[List[Tuple]]:
    """The hooks that are to be called: of `callbacks`, or those in force. Nested runs see none."""
    if callbacks is None and not Callback.active:
        yield []
        return
    chosen = None if callbacks is None else [normalize_callback(c) for c in _as_list(callbacks)]
    with local_callbacks(chosen) as hooks:
        yield [hook for hook in hooks if any(hook)]


def _as_list(callbacks: Any) -> List[Any]:
    return list(callbacks) if isinstance(callbacks, (list, tuple, set)) else [callbacks]
