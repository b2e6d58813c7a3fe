"""Poll asks the raylet how far a graph is; View draws it with tqdm. For the thread of _progress.py."""

from __future__ import annotations

import threading
import time
import warnings
from collections import Counter
from contextlib import contextmanager
from typing import Any, Dict, Hashable, Iterator, List, Mapping, NamedTuple, Optional

from dask.utils import format_bytes, key_split

from ray._cluster import RayletDoor

_ANSWER_S = 5.0
# Of one answer: more tasks than these ended in half a second only if they are very short.
_ENDED_MAX = 20_000
_NAMES_SHOWN_MAX = 5
_NAME_WIDTH = 24
_NAME_LAYOUT = "  {desc} {n_fmt}/{total_fmt} |{bar}|{postfix}"


class Name(NamedTuple):
    """The tasks whose keys begin alike."""

    name: str
    total: int
    finished: int
    running: int


class Found(NamedTuple):
    """How far a graph is."""

    total: int
    finished: int
    running: int
    waiting: int
    stored_bytes: int  # of all graphs: what the node's store holds
    names: List[Name]  # those under way


class Poll:
    """Questions about one graph, over the raylet's gRPC."""

    def __init__(self, session: Any, graph: bytes, keys: List[Hashable]) -> None:
        self.graph = graph
        self._raylet = RayletDoor(session)
        self._totals: Dict[str, int] = Counter(key_split(str(key)) for key in keys)
        self._finished: Dict[str, int] = Counter()
        self._counted: set = set()  # tasks that are in _finished
        self._last_finished = 0

    def ask(self) -> Optional[Found]:
        """None if the raylet does not know the graph (any more)."""
        status = self._raylet.status(_ANSWER_S)
        name = self.graph.hex()
        for graph in status.graphs:
            if graph.graph == name:
                break
        else:
            return None
        finished = int(graph.finished + graph.failed)
        if self._totals:
            self._count(finished)
        return Found(
            total=int(graph.task_total), finished=finished, running=int(graph.running),
            waiting=int(graph.waiting + graph.ready),
            stored_bytes=int(status.store.sealed_bytes + status.inline_value_bytes),
            names=self._under_way(Counter(key_split(worker.running) for worker in status.workers)),
        )

    def _count(self, finished: int) -> None:
        """Learn the names of the tasks that ended since the last time."""
        from ray._wire import raylet_pb2 as wire

        fresh = finished - self._last_finished
        self._last_finished = finished
        if fresh <= 0:
            return
        # Batches are listed when they end, so some that were counted before are only listed now.
        limit = min(_ENDED_MAX, 2 * fresh + 256)
        reply = self._raylet.stub.GetTimeline(
            wire.GetTimelineRequest(graph=self.graph.hex(), limit=limit), metadata=self._raylet.metadata,
            timeout=_ANSWER_S,
        )
        for entry in reply.entries:
            if entry.task not in self._counted:
                self._counted.add(entry.task)
                self._finished[key_split(entry.name)] += 1

    def _under_way(self, running: Mapping[str, int]) -> List[Name]:
        """Those that have begun and are not through, and then those that have not begun."""
        open_ones = [
            Name(name, total, self._finished.get(name, 0), running.get(name, 0))
            for name, total in self._totals.items() if self._finished.get(name, 0) < total
        ]
        open_ones.sort(key=lambda one: (one.finished + one.running == 0, -one.total))
        return open_ones[:_NAMES_SHOWN_MAX]

    def close(self) -> None:
        self._raylet.close()


class View:
    """The lines on the screen: one for the whole graph, and below it one for each name that is under way.

    With `several_lines` only, and never as widgets: where the cursor can't go up there is but the first line.
    """

    def __init__(self, started: float, several_lines: bool) -> None:
        self._make = _bar_class()
        self._several = several_lines and not _is_widget(self._make)
        self._started = started
        self._whole: Optional[Any] = None
        self._lines: List[Any] = []

    def show(self, found: Found) -> None:
        whole = self._whole
        if whole is None:
            whole = self._whole = self._bar("computing", found.total)
            # The rate and the estimate count from the beginning, not from when the bar appeared.
            whole.start_t = whole._time() - max(0.0, time.monotonic() - self._started)
        whole.total = found.total
        whole.n = found.finished
        whole.set_postfix_str(
            f"{found.running} running, {found.waiting} waiting, {format_bytes(found.stored_bytes)} stored",
            refresh=False,
        )
        whole.refresh()
        if self._several:
            self._show_names(found.names)

    def _show_names(self, names: List[Name]) -> None:
        while len(self._lines) > len(names):
            self._lines.pop().close()
        for number, one in enumerate(names):
            text = one.name[:_NAME_WIDTH].ljust(_NAME_WIDTH)
            if number == len(self._lines):
                self._lines.append(self._bar(text, one.total, _NAME_LAYOUT))
            line = self._lines[number]
            line.total = one.total
            line.n = one.finished
            line.desc = text
            line.set_postfix_str(f" {one.running} running" if one.running else "", refresh=False)
            line.refresh()

    def _bar(self, name: str, total: int, layout: Optional[str] = None) -> Any:
        return self._make(
            total=total, desc=name, unit=" tasks", leave=False, dynamic_ncols=True, miniters=0,
            mininterval=0, smoothing=0.1, **({"bar_format": layout} if layout else {}),
        )

    @contextmanager
    def aside(self, stream: Any) -> Iterator[None]:
        """The lines are off the screen while somebody else writes to it."""
        with self._make.external_write_mode(file=stream):
            yield

    def close(self) -> None:
        for line in reversed(self._lines):
            line.close()
        self._lines = []
        whole, self._whole = self._whole, None
        if whole is not None:
            whole.close()
            widget = getattr(whole, "container", None)
            if widget is not None:  # which tqdm leaves there, in red, if the last look was before the end
                widget.close()


def _bar_class() -> Any:
    """tqdm's class for this process, with a lock and without a thread of its own. Raises ImportError."""
    from ray.util.dask._progress import is_notebook

    if is_notebook():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are no widgets, and a line of text will do
            from tqdm.auto import tqdm
    else:
        from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0

        def __del__(self) -> None:
            try:
                super().__del__()
            except Exception:  # it could not even be made
                pass

    Bar.set_lock(threading.RLock())
    return Bar


def _is_widget(kind: Any) -> bool:
    return any(base.__module__.startswith("tqdm.notebook") for base in kind.__mro__)
