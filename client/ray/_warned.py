"""Warnings of tasks on their way to the driver, where they are warnings again.

They travel among the lines that tasks print, as lines of a form that nobody prints. While the driver computes
a Dask graph they are gathered and, when that is over, issued where `compute` was called, under the driver's own
filters: each once, however many tasks and workers said it. What comes at other times, of persisted tasks say,
waits for the end of the next computation, or for a future's result; if the process is quiet before, it is printed
like any line.
"""

from __future__ import annotations

import base64
import pickle
import threading
import warnings
from collections import deque
from contextlib import contextmanager
from typing import Any, Callable, Deque, Dict, Iterator, List, NamedTuple, Optional

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


OnOutput = Callable[[wire.OutputLines], None]


class _Brought(NamedTuple):
    warning: TaskWarning
    frame: wire.OutputLines  # that brought it, without lines
    on_output: OnOutput


class Warned:
    """Takes a driver's output frames before they are printed. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._computing = 0
        self._gathered: Deque[_Brought] = deque(maxlen=_GATHERED_MAX)

    def take(self, lines: wire.OutputLines, on_output: OnOutput) -> None:
        """Keep the warnings among the lines; pass the rest on."""
        rest = [line for line in lines.lines if not line.startswith(MARK)]
        if len(rest) == len(lines.lines):
            on_output(lines)
            return
        frame = wire.OutputLines()
        frame.CopyFrom(lines)
        del frame.lines[:]
        for line in lines.lines:
            if line.startswith(MARK):
                self._gathered.append(_Brought(TaskWarning.from_line(line), frame, on_output))
        if rest:
            shown = wire.OutputLines()
            shown.CopyFrom(frame)
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
            for warning in dict.fromkeys(brought.warning for brought in self._take_gathered()):
                warning.issue()

    def print_unless_computing(self) -> None:
        """The process is quiet or about to end: what nobody asked for is printed."""
        if self._gathered and not self._computing:
            for brought in self._take_gathered():
                brought.frame.lines[:] = [brought.warning.show()]
                brought.on_output(brought.frame)

    def _take_gathered(self) -> List[_Brought]:
        taken = []
        while self._gathered:
            try:
                taken.append(self._gathered.popleft())
            except IndexError:  # another thread was faster
                break
        return taken


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
