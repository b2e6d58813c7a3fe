"""Warnings of tasks on their way to the driver, where they are warnings again.

They travel among the lines that tasks print, as lines of a form that nobody prints. While the driver computes
a Dask graph they are gathered and, when that is over, issued where `compute` was called, under the driver's own
filters: each once, however many tasks and workers said it. At other times they are printed like any line.
"""

from __future__ import annotations

import base64
import pickle
import threading
import warnings
from collections import deque
from contextlib import contextmanager
from typing import Any, Callable, Deque, Dict, Iterator, NamedTuple, Optional

from ray._wire import session_pb2 as wire

MARK = "\x1eraylet warning "
_GATHERED_MAX = 1000
_registries: Dict[str, dict] = {}  # by file: what the "default" filter has shown there


class TaskWarning(NamedTuple):
    """What warnings.warn_explicit takes. `pickled` is the warning itself; empty if it can't be pickled."""

    text: str
    category: str
    filename: str
    line: int
    pickled: bytes

    def to_line(self) -> str:
        return MARK + base64.b85encode(pickle.dumps(tuple(self), 5)).decode()

    @classmethod
    def from_line(cls, line: str) -> "TaskWarning":
        return cls(*pickle.loads(base64.b85decode(line[len(MARK):])))

    def show(self) -> str:
        return f"{self.filename}:{self.line}: {self.category}: {self.text}"

    def issue(self) -> None:
        """Raises the warning if the filters say so."""
        message: Any = self.text
        try:
            message = pickle.loads(self.pickled)
        except Exception:  # its class is not known here
            pass
        category = type(message) if isinstance(message, Warning) else UserWarning
        registry = _registries.setdefault(self.filename, {})
        warnings.warn_explicit(message, category, self.filename, self.line, registry=registry)


class Warned:
    """Takes a driver's output frames before they are printed. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._computing = 0
        self._gathered: Deque[TaskWarning] = deque(maxlen=_GATHERED_MAX)

    def take(self, lines: wire.OutputLines, on_output: Callable[[wire.OutputLines], None]) -> None:
        """Keep the warnings among the lines, or make them fit to be read; pass the rest on."""
        if not any(line.startswith(MARK) for line in lines.lines):
            on_output(lines)
            return
        rest = []
        for line in lines.lines:
            if line.startswith(MARK):
                warning = TaskWarning.from_line(line)
                if self._computing:
                    self._gathered.append(warning)
                    continue
                line = warning.show()
            rest.append(line)
        if rest:
            shown = wire.OutputLines()
            shown.CopyFrom(lines)
            shown.lines[:] = rest
            on_output(shown)

    @contextmanager
    def delivered(self) -> Iterator[None]:
        """Issues what was gathered when it is left, in this thread."""
        with self._lock:
            self._computing += 1
        try:
            yield
        finally:
            with self._lock:
                self._computing -= 1
            if self._gathered:
                self._issue()

    def _issue(self) -> None:
        distinct: Dict[TaskWarning, None] = {}
        while self._gathered:
            try:
                distinct[self._gathered.popleft()] = None
            except IndexError:
                break
        for warning in distinct:
            warning.issue()


class TaskWarnings:
    """Has the warnings of this worker's tasks sent by `send(lines)`, each once a graph."""

    def __init__(self, send: Callable[[wire.OutputLines], None], graph: Callable[[], Optional[bytes]]) -> None:
        self._send = send
        self._graph = graph
        self._of: Optional[bytes] = None
        self._seen: Dict[TaskWarning, None] = {}

    def install(self) -> None:
        """In the place of what prints warnings. The driver's filters decide; here none holds any back."""
        warnings.showwarning = self._show
        warnings.simplefilter("always")

    def _show(
        self, message: Any, category: type, filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        graph = self._graph()
        if graph != self._of:
            self._of = graph
            self._seen.clear()
        try:
            pickled = pickle.dumps(message, 5)
        except Exception:
            pickled = b""
        warning = TaskWarning(str(message), category.__name__, filename, lineno, pickled)
        if warning in self._seen or len(self._seen) >= _GATHERED_MAX:
            return
        self._seen[warning] = None
        self._send(wire.OutputLines(lines=[warning.to_line()], is_error=True))
