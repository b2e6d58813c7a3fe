"""AsWithThreads: what has to happen around a computation so that its caller sees what threads would show."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from ray.exceptions import RayTaskError
from ray.util.dask._locks import locks_travel
from ray.util.dask._tracebacks import show_as_with_threads


class AsWithThreads:
    """A context: locks travel with the graph, the warnings of its tasks are issued at its end, and a task's
    error has the worker's frames behind the caller's, and its cause's text."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._stack = ExitStack()

    def __enter__(self) -> None:
        self._stack.enter_context(self._session.warned.delivered())
        self._stack.enter_context(locks_travel())

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, RayTaskError):
            show_as_with_threads(error)
        self._stack.close()
