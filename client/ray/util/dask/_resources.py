"""follow_workers: has Dask's ResourceProfiler count the processes of the node too, where the tasks run."""

from __future__ import annotations

import json
from typing import Any, Iterator, List, Optional

from dask.diagnostics import ResourceProfiler
from dask.diagnostics.profile import _Tracker

from ray._runtime import current_session


class _Processes:
    """Those of this process and of the node, anew each time somebody goes through them: workers come and go.

    The processes that were there before stay the same objects, which remember their CPU time.
    """

    def __init__(self, own: List[Any], supervisor: Any) -> None:
        self._own = own
        self._supervisor = supervisor
        self._known: dict = {}

    def __iter__(self) -> Iterator[Any]:
        found = list(self._own)
        try:
            of_node = [self._supervisor, *self._supervisor.children(recursive=True)]
        except Exception:  # the node is gone
            of_node = []
        own = {process.pid for process in found}
        self._known = {p.pid: self._known.get(p.pid, p) for p in of_node if p.pid not in own}
        return iter(found + list(self._known.values()))


class _NodeTracker(_Tracker):
    """The process of a ResourceProfiler that measures; it knows the node's supervisor."""

    def __init__(self, dt: float, supervisor: int) -> None:
        super().__init__(dt)
        self.supervisor = supervisor

    def _update_pids(self, pid: Any) -> Any:
        import psutil

        own = super()._update_pids(pid)
        try:
            return _Processes(own, psutil.Process(self.supervisor))
        except psutil.Error:
            return own


def follow_workers(start: Any) -> None:
    """If this `start` hook is a ResourceProfiler's, let it go on with a tracker that sees the node."""
    profiler = getattr(start, "__self__", None)
    if not isinstance(profiler, ResourceProfiler) or type(profiler._tracker) is not _Tracker:
        return
    supervisor = _supervisor()
    if supervisor is None:
        return
    profiler._stop_collect()  # what was measured until now stays
    profiler._tracker.shutdown()
    profiler._tracker = _NodeTracker(profiler._dt, supervisor)
    profiler._tracker.start()
    profiler._tracker.parent_conn.send("collect")


def _supervisor() -> Optional[int]:
    """The process id of the node's supervisor, if the node is on this machine."""
    try:
        with open(f"{current_session().info.session_directory}/node.json") as file:
            return int(json.load(file)["pids"]["supervisor"])
    except (OSError, ValueError, KeyError, AttributeError):
        return None
