"""The progress bar: on a terminal and in Jupyter, for computations that take longer than two seconds.

One thread of this process looks twice a second at what is being computed. It asks the raylet how far a
computation is only once that is to be shown, so a shorter one costs two entries in a dict. What it draws goes
to standard error, by tqdm, and is gone when the computation ends, however it ends; whatever goes wrong with
it, the computation does not hear of it.

RAYLET_PROGRESS=0 in the environment, or dask.config.set({"ray.progress": False}), turns it off; 1 and True
have it shown wherever standard error goes.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import contextmanager
from typing import Any, Dict, Hashable, Iterator, List, Optional

import dask

from ray import _terminal
from ray.util.dask._progress_view import Poll, View

SHOWN_AFTER_S = 2.0
_EVERY_S = 0.5
_THREAD_ENDS_AFTER_S = 30.0
# Of longer graphs the tasks are not told apart by name.
NAMED_TASKS_MAX = 200_000
CONFIG_KEY = "ray.progress"
ENVIRONMENT = "RAYLET_PROGRESS"


class Watched:
    """One computation that may be shown."""

    __slots__ = ("session", "graph", "keys", "started", "due", "forced")

    def __init__(self, session: Any, graph: bytes, keys: List[Hashable], forced: bool) -> None:
        self.session = session
        self.graph = graph
        self.keys = keys
        self.started = time.monotonic()
        self.due = self.started + (0.0 if forced else SHOWN_AFTER_S)
        self.forced = forced


class Watcher:
    """All computations of this process that are under way; shows one of them at a time. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: Dict[int, Watched] = {}
        self._shown: Optional[Watched] = None
        self._view: Optional[View] = None
        self._thread: Optional[threading.Thread] = None
        self._wake = threading.Event()
        self._pid = os.getpid()
        self.broken = False  # it could not be drawn once, so nobody tries again

    def add(self, watched: Watched) -> None:
        with self._lock:
            if self._pid != os.getpid():  # forked: what the parent computes is its business
                self._pid = os.getpid()
                self._watched.clear()
                self._shown = self._view = self._thread = None
            self._watched[id(watched)] = watched
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ray-progress", daemon=True)
                self._thread.start()
        if watched.forced:
            self._wake.set()

    def remove(self, watched: Watched) -> None:
        """Nothing of it is on the screen any more when this returns."""
        with self._lock:
            self._watched.pop(id(watched), None)
            if self._shown is watched:
                self._close()

    def _close(self) -> None:
        view, self._view, self._shown = self._view, None, None
        _terminal.around_output = None
        if view is not None:
            try:
                view.close()
            except Exception:
                self.broken = True

    def _run(self) -> None:
        idle_since = time.monotonic()
        poll: Optional[Poll] = None
        try:
            while True:
                self._wake.wait(_EVERY_S)
                self._wake.clear()
                now = time.monotonic()
                with self._lock:
                    if self._watched:
                        idle_since = now
                    elif now - idle_since > _THREAD_ENDS_AFTER_S or self.broken:
                        self._thread = None
                        return
                    chosen = self._shown or self._next(now)
                if chosen is None or self.broken:
                    if poll is not None:
                        poll.close()
                        poll = None
                    continue
                try:
                    if poll is None or poll.graph != chosen.graph:
                        if poll is not None:
                            poll.close()
                        poll = Poll(chosen.session, chosen.graph, chosen.keys)
                    found = poll.ask()  # no lock is held while the raylet answers
                except Exception:  # it is gone, or has no time for us: this one has no bar (any more)
                    self.remove(chosen)
                    continue
                with self._lock:
                    if found is not None and id(chosen) in self._watched:
                        self._draw(chosen, found)
        except Exception:
            # There is no tqdm, or standard error is gone.
            with self._lock:
                self.broken = True
                self._thread = None
                self._close()
        finally:
            if poll is not None:
                poll.close()

    def _next(self, now: float) -> Optional[Watched]:
        """The oldest computation that is to be shown."""
        due = [watched for watched in self._watched.values() if watched.due <= now]
        return min(due, key=lambda watched: watched.started) if due else None

    def _draw(self, chosen: Watched, found: Any) -> None:
        if self._view is None:
            self._view = View(chosen.started, several_lines=is_terminal())
            self._shown = chosen
            _terminal.around_output = self._view.aside
        self._view.show(found)


_watcher = Watcher()


def is_terminal() -> bool:
    """Whether standard error is a terminal."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    if ipython is None:
        return False
    try:
        return type(ipython.get_ipython()).__name__ == "ZMQInteractiveShell"
    except AttributeError:
        return False


def wanted(forced: Optional[bool] = None) -> Optional[bool]:
    """None: no bar; else whether it is shown at once. `forced` is what the call itself says."""
    if forced is False or _watcher.broken:
        return None
    setting = os.environ.get(ENVIRONMENT)
    if setting is None or setting == "":
        chosen = dask.config.get(CONFIG_KEY, None)
        shown = None if chosen is None else bool(chosen)
    else:
        shown = setting.lower() not in ("0", "false", "no", "off")
    if shown is False:
        return None
    if forced:
        return True
    return False if shown or is_terminal() or is_notebook() else None


@contextmanager
def progress(session: Any, graph: bytes, known: Dict[Hashable, Any], shown: Optional[bool]) -> Iterator[None]:
    """Have the bar follow this graph while the context lasts. `known` tells which keys are tasks."""
    if shown is None or not getattr(session, "is_driver", False):
        yield
        return
    keys: List[Hashable] = []
    if len(known) <= NAMED_TASKS_MAX:
        keys = [key for key, what in known.items() if type(what) is int]
    watched = Watched(session, graph, keys, shown)
    _watcher.add(watched)
    try:
        yield
    finally:
        _watcher.remove(watched)
