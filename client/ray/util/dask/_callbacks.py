"""Dask's own callbacks (ProgressBar, profilers, Cache), driven by what really ran, in the order it did.

Without an active callback nothing of this exists. With one, the raylet reports which tasks ended, and the
thread that computes calls the hooks as Dask's threads would: start, start_state, then pretask and posttask of
each task, and finish. If somebody has a posttask, tasks say when and where they ran, and are sorted by it;
their values are fetched only for hooks that look at them.
"""

from __future__ import annotations

import os
import queue
from contextlib import contextmanager
from timeit import default_timer
from typing import Any, Dict, Hashable, Iterator, List, Optional, Sequence, Set, Tuple

from dask.cache import Cache
from dask.callbacks import Callback, local_callbacks, normalize_callback
from dask.diagnostics import CacheProfiler, Profiler, ProgressBar

from ray._graph_runner import GraphEvent
from ray._wire import session_pb2 as wire
from ray.util.dask._hooks import HookedRun, HookedWalk
from ray.util.dask._known import AtHome, External, Literal
from ray.util.dask._resources import follow_workers

# When a task began and ended, and the process id of its worker.
Times = Tuple[float, float, int]


class CallbackRun:
    """The hooks of one computation. For one thread, but for on_event."""

    def __init__(self, hooks: Sequence[Tuple], graph: Dict, timed: bool = True) -> None:
        self._hooks = hooks
        self._graph = graph
        self._started: List[Tuple] = []
        self._events: "queue.SimpleQueue[GraphEvent]" = queue.SimpleQueue()
        self._keys: List[Hashable] = []  # by number of the task
        # Other names of a task, by its number. To Dask these are tasks, that end when it has ended.
        self._aliases: Dict[int, List[Hashable]] = {}
        self._kept: Set[Hashable] = set()  # keys whose values stay in the cache
        self._values_wanted = any(_looks_at_values(hook) for hook in hooks)
        self.shows_progress = any(
            isinstance(getattr(hook[0], "__self__", None), ProgressBar) for hook in hooks
        )
        owners = [getattr(hook[3], "__self__", None) for hook in hooks]
        self._profilers = [owner for owner in owners if isinstance(owner, Profiler)]
        self._caches = [owner for owner in owners if isinstance(owner, Cache)]
        # Who has a posttask is told where each task ran.
        self.timed = timed and any(hook[3] for hook in hooks)
        self._tells = timed
        self._home_keys: Dict[int, Hashable] = {}  # of tasks that end with a step in this process, by its number
        self._held: Set[int] = set()  # tasks whose results are needed in this process
        self._done: Set[int] = set()
        self.state: Dict[str, Any] = {}

    def start(self) -> None:
        for hook in self._hooks:
            if hook[0]:
                hook[0](self._graph)
            self._started.append(hook)
            follow_workers(hook[0])

    def start_state(self, walk: HookedWalk, wanted: Sequence[Hashable]) -> None:
        """Every task has been added."""
        self._keys = walk.keys
        self._kept = {self._task_key(walk, key) for key in wanted} | set(wanted)
        for key, what in walk.known.items():
            if type(what) is int and walk.keys[what >> 1] != key:
                self._aliases.setdefault(what >> 1, []).append(key)
        self._held = set() if walk.home is None else walk.home.needed
        of_tasks = set(walk.keys)
        self._home_keys = {
            what.index: key for key, what in walk.known.items() if type(what) is AtHome and key not in of_tasks
        }
        self.state = self._first_state(walk)
        for hook in self._started:
            if hook[1]:
                hook[1](self._graph, self.state)
        for key in walk.home.ran if walk.home is not None and self._tells else ():
            what = walk.known[key]
            if key not in of_tasks and isinstance(what, (Literal, External)):
                self._begin(key)
                self._end_at_home(key, what.value if isinstance(what, Literal) else what.ref)

    @staticmethod
    def _task_key(walk: HookedWalk, key: Hashable) -> Hashable:
        """The key of the task that makes the value of `key`, which may be one of its other names."""
        what = walk.what(key)
        return walk.keys[what >> 1] if type(what) is int else key

    def _first_state(self, walk: HookedWalk) -> Dict[str, Any]:
        """As dask.local.start_state_from_dask makes it, but that nothing waits for another name of a task."""
        dependencies: Dict[Hashable, Set] = {}
        dependents: Dict[Hashable, Set] = {}
        waiting: Dict[Hashable, Set] = {}
        cache: Dict[Hashable, Any] = {}
        for key, what in walk.known.items():
            if type(what) is Literal:
                cache[key] = what.value
            elif type(what) is External:
                cache[key] = what.ref
        for key in cache:
            dependencies[key] = set()
            dependents[key] = set()
        for key, needed in zip(walk.keys, walk.dependencies):
            dependents[key] = set()
            # What runs in this process runs after all that the hooks are told of.
            dependencies[key] = {
                self._task_key(walk, one) for one in needed if type(walk.what(one)) is not AtHome
            }
            for one in dependencies[key]:
                if one not in dependents:  # persisted, and no key of this graph
                    cache[one] = one.ref
                    dependencies[one] = set()
                    dependents[one] = set()
                dependents[one].add(key)
            open_ones = {one for one in dependencies[key] if one not in cache}
            if open_ones:
                waiting[key] = open_ones
        for task, aliases in self._aliases.items():
            key = walk.keys[task]
            dependents[key].update(aliases)
            for alias in aliases:
                dependencies[alias], dependents[alias], waiting[alias] = {key}, set(), {key}
        return {
            "dependencies": dependencies, "dependents": dependents, "waiting": waiting,
            "waiting_data": {key: set(readers) for key, readers in dependents.items() if readers},
            "cache": cache, "ready": {key: None for key in walk.keys if key not in waiting},
            "running": set(), "finished": set(), "released": set(),
        }

    def on_event(self, event: GraphEvent) -> None:
        self._events.put(event)

    def drive(self, run: HookedRun) -> None:
        """Call hooks until the graph has ended; not of tasks that ended after the first one that failed."""
        intact = True
        while True:
            event = self._events.get()
            if isinstance(event, wire.GraphEnded):
                break
            if intact:
                intact = self._take(event.finished, run)
        if run.failure is None and intact:
            self._take(range(len(self._keys)), run)

    def _take(self, finished: Sequence[int], run: HookedRun) -> bool:
        """Call the hooks of these tasks, most of which have ended; False if one of them has failed."""
        tasks = [task for task in finished if task not in self._done]
        if not tasks:
            return True
        if not self.timed:
            for task in tasks:
                self._begin(self._keys[task])
                self._end(task, None, None)
            return run.failure is None
        times = run.times(tasks)
        moments: List[Tuple[float, int, int]] = []
        for task, (started, ended, _) in times.items():
            moments += [(started, 1, task), (ended, 0, task)]
            if ended <= started:
                moments[-1] = (started, 2, task)
        moments.sort()
        wanted = run.values(list(times)) if self._values_wanted else {}
        for _, kind, task in moments:
            if kind == 1:
                self._begin(self._keys[task])
            else:
                self._end(task, wanted.pop(task, None), times[task])
        run.let_go(
            [t for t in times if t not in self._held and self._keys[t] not in self._kept]
        )
        return len(times) == len(tasks)

    # ------------------------------------------------------------ tasks that ran in this process

    def begin_at_home(self, step: int) -> None:
        """The step of this number, of those that were put off, begins; if a task is done with it, so does that."""
        if step in self._home_keys:
            self._begin(self._home_keys[step])

    def end_at_home(self, step: int, result: Any) -> None:
        """It has ended."""
        if step in self._home_keys:
            self._end_at_home(self._home_keys[step], result)

    def _end_at_home(self, key: Hashable, result: Any) -> None:
        state = self.state
        state["dependencies"].setdefault(key, set())
        state["running"].discard(key)
        state["finished"].add(key)
        for hook in self._started:
            if hook[3]:
                hook[3](key, result, self._graph, state, os.getpid())

    # ------------------------------------------------------------

    def _begin(self, key: Hashable) -> None:
        state = self.state
        state["ready"].pop(key, None)
        state["running"].add(key)
        for hook in self._started:
            if hook[2]:
                hook[2](key, self._graph, state)

    def _end(self, task: int, result: Any, times: Optional[Times]) -> None:
        key = self._keys[task]
        self._done.add(task)
        self._end_key(key, result, times)
        for alias in self._aliases.get(task, ()):
            self._begin(alias)
            self._end_key(alias, result, times and (times[1], times[1], times[2]))

    def _end_key(self, key: Hashable, result: Any, times: Optional[Times]) -> None:
        self.state["cache"][key] = result
        self._finish_task(key)
        worker = times[2] if times is not None else 0
        if times is not None:
            for cache in self._caches:
                # It takes what passes between its two hooks for what the task took.
                cache.starttimes[key] = default_timer() - (times[1] - times[0])
        for hook in self._started:
            if hook[3]:
                hook[3](key, result, self._graph, self.state, worker)
        if times is not None:
            for profiler in self._profilers:
                # It looked at the clock when it was called; what counts is when the task ran.
                profiler._results[key] = (key, self._graph[key], times[0], times[1], worker)

    def _finish_task(self, key: Hashable) -> None:
        state = self.state
        if key in state["finished"]:
            return  # another part of the same task
        for reader in state["dependents"][key]:
            open_ones = state["waiting"][reader]
            open_ones.discard(key)
            if not open_ones:
                del state["waiting"][reader]
                state["ready"][reader] = None
        for needed in state["dependencies"][key]:
            readers = state["waiting_data"].get(needed)
            if readers is None:
                continue
            readers.discard(key)
            if not readers:
                del state["waiting_data"][needed]
                if needed not in self._kept:
                    state["cache"].pop(needed, None)
                    state["released"].add(needed)
        state["running"].discard(key)
        state["finished"].add(key)

    def finish(self, failed: bool) -> None:
        for hook in self._started:
            if hook[4]:
                hook[4](self._graph, self.state, failed)


def _looks_at_values(hook: Tuple) -> bool:
    """Whether a hook's posttask may need the value of the task. Dask's profilers don't, as a rule."""
    if not hook[3]:
        return False
    owner = getattr(hook[3], "__self__", None)
    if type(owner) is Profiler:
        return False
    if type(owner) is CacheProfiler:
        return getattr(owner._metric, "__module__", None) != CacheProfiler.__module__
    return True


@contextmanager
def active_hooks(callbacks: Optional[Sequence[Any]]) -> Iterator[List[Tuple]]:
    """The hooks that are to be called: of `callbacks`, or those in force. Nested runs see none."""
    if callbacks is None and not Callback.active:
        yield []
        return
    chosen = None if callbacks is None else [normalize_callback(c) for c in _as_list(callbacks)]
    with local_callbacks(chosen) as hooks:
        yield [_five(hook) for hook in hooks if any(hook)]


def _five(hook: Tuple) -> Tuple:
    return tuple(hook) + (None,) * (5 - len(hook))


def _as_list(callbacks: Any) -> List[Any]:
    return list(callbacks) if isinstance(callbacks, (list, set)) else [callbacks]
