"""Actor: the object of a class that lives in this worker, and the calls of its methods."""

from __future__ import annotations

import inspect
from typing import Any, Callable, List

from ray._calls import run
from ray._session import Session
from ray._worker.code import Function
from ray._worker.running import Running

_NOT_MADE = object()


class Actor:
    """The one actor of a worker, if it is an actor's worker. For the main thread."""

    def __init__(self, session: Session, running: Running) -> None:
        self._session = session
        self._running = running
        self._object: Any = None
        self._loop: Any = None

    @property
    def lives_here(self) -> bool:
        """Whether this worker is an actor's, made already or not."""
        return self._object is not None

    def make(self, cls: Callable, entry: Any, values: List[Any]) -> None:
        running = self._running
        batch, position = running.batch, running.position
        assert batch is not None
        graph = batch.graphs[batch.graph_numbers[position] if batch.graph_numbers else 0]
        self._session.actor_id = graph + batch.tasks[position].to_bytes(8, "big") + bytes(4)
        self._object = _NOT_MADE
        self._object = run(cls, entry, values)

    def call(self, method: Function, entry: Any, values: List[Any]) -> Any:
        """Raises what the method raises; RuntimeError if the actor was never made."""
        if self._object is None or self._object is _NOT_MADE:
            raise RuntimeError(f"the actor was not made here, so {method.name} can't be called")
        value = run(getattr(self._object, method.name), entry, values)
        if inspect.iscoroutine(value):
            import asyncio

            if self._loop is None:
                self._loop = asyncio.new_event_loop()
            value = self._loop.run_until_complete(value)
        return value
