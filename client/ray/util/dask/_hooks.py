"""HookedWalk: a walk that calls the hooks of RayDaskCallbacks, key by key, as it adds tasks to one graph.

A task that ray_presubmit found a value for is left out; the value stands in its place. What hooks are given
of a task's dependencies is made when they look at it, so a graph whose hooks only ask for keys is sent as a
whole, as any other. If one does look, what was added so far has to be sent and may have to run while the
hook waits: then the graph is one that runs as it comes.
"""

from __future__ import annotations

import weakref
from typing import Any, Callable, Dict, Hashable, List, Mapping, Optional, Sequence, Set, Tuple

from ray._graph import UnpicklableTaskError
from ray._graph_runner import GraphRun
from ray._ref import ObjectRef, RefKey
from ray._serialize import UnpicklableError
from ray._task_hooks import TaskHooks, hooked_entry
from ray.util.dask._client import refuse_distributeds
from ray.util.dask._convert import Converter
from ray.util.dask._known import External, Literal
from ray.util.dask._walk import Walk
from ray.util.dask.callbacks import RayCallbacks

_SECOND_RETURN = (1).to_bytes(4, "big")


class Deps(dict):
    """A dict of a task's dependencies, whose values are made when somebody looks at one of them."""

    __slots__ = ("_resolve", "__weakref__")

    def __init__(self, keys: Sequence[Hashable], resolve: Callable[[Sequence[Hashable]], Dict]) -> None:
        super().__init__(dict.fromkeys(keys))
        self._resolve: Optional[Callable] = resolve

    def fill(self) -> None:
        resolve = self._resolve
        if resolve is not None:
            self._resolve = None
            self.update(resolve(list(self)))

    def __reduce__(self) -> Tuple:
        self.fill()
        return dict, (list(self.items()),)


def _filled(name: str) -> Callable:
    plain = getattr(dict, name)

    def method(self: Deps, *args: Any, **kwargs: Any) -> Any:
        self.fill()
        return plain(self, *args, **kwargs)

    method.__name__ = name
    return method


for _name in (
    "__getitem__", "__eq__", "__ne__", "__repr__", "__or__", "__ror__", "__ior__", "__setitem__",
    "__delitem__", "copy", "get", "items", "pop", "popitem", "setdefault", "values",
):
    setattr(Deps, _name, _filled(_name))
# So that dict(deps) and {**deps} don't take the values past the methods above.
Deps.__iter__ = lambda self: dict.__iter__(self)  # type: ignore[assignment]
Deps.__hash__ = None  # type: ignore[assignment]


class RecordingConverter(Converter):
    """Notes which keys a value depends on."""

    def start(self) -> None:
        super().start()
        self.seen: Dict[Hashable, None] = {}

    def key(self, key: Hashable) -> Any:
        if self._scope is None:
            self.seen[key] = None
        return super().key(key)


class HookedWalk(Walk):
    """A walk for one computation with hooks. `keys` and `dependencies` are those of its tasks, by number.

    `results(tasks)` gives references to results of tasks that were added, having sent them before.
    """

    def __init__(
        self,
        graph: Mapping,
        builder: Any,
        options: Optional[Callable[[Hashable], int]],
        hooks: RayCallbacks,
        results: Callable[[Sequence[int]], Sequence[Any]],
        task_hooks: Optional[TaskHooks] = None,
        put: Optional[Callable[[Any], ObjectRef]] = None,
    ) -> None:
        self.keys: List[Hashable] = []
        self.dependencies: List[Sequence[Hashable]] = []
        if hooks.ray_presubmit_cbs:
            put = None  # a part of a task is nothing that they could take the place of
        super().__init__(graph, builder, options, self.keys.append, put)
        self._converter = RecordingConverter(graph, self.known, builder.external)
        self._presubmit_hooks = hooks.ray_presubmit_cbs or ()
        self._postsubmit_hooks = hooks.ray_postsubmit_cbs or ()
        self._results = results
        self._looks = 0
        self._task_hooks = task_hooks
        self._home_hooks = make_task_hooks(hooks)

    def _add_task(self, key: Hashable, function: Any, entry: Any) -> None:
        converter = self._converter
        dependencies = list(converter.seen)
        if self._presubmit_hooks:
            looks = self._looks
            substitute = self._presubmit(key, dependencies)
            if substitute is not None:
                is_reference = type(substitute) is ObjectRef
                self.known[key] = External(substitute) if is_reference else Literal(substitute)
                return
            if looks != self._looks:
                # Something was sent meanwhile, and names of objects of elsewhere are a chunk's own.
                function, entry = converter.finish(self._convert(self._graph[key]))
        if self._task_hooks is not None:
            refuse_distributeds(function)  # which is no longer the task's
            entry = hooked_entry(key, function, entry, len(converter.deps))
            function = self._task_hooks
        self.dependencies.append(dependencies)
        super()._add_task(key, function, entry)

    def _presubmit(self, key: Hashable, dependencies: Sequence[Hashable]) -> Any:
        """The value that takes the task's place, or None. Every hook is called; the first value counts."""
        task = self._graph[key]
        deps = Deps(dependencies, self._resolve)
        substitute = None
        for hook in self._presubmit_hooks:
            value = hook(task, key, deps)
            if substitute is None:
                substitute = value
        kept = weakref.ref(deps)
        del deps
        still = kept()
        if still is not None:
            still.fill()  # somebody may look later, when there is nothing left to look at
        return substitute

    def postsubmit(self) -> None:
        """Call ray_postsubmit for every task. Everything has been sent."""
        if not self._postsubmit_hooks:
            return
        for number, key in enumerate(self.keys):
            deps = Deps(self.dependencies[number], self._resolve)
            deps.fill()
            for hook in self._postsubmit_hooks:
                hook(self._graph[key], key, deps, self._results([number])[0])

    def _resolve(self, keys: Sequence[Hashable]) -> Dict[Hashable, Any]:
        """References to the results of these keys, or values where they are known."""
        self._looks += 1
        tasks = [what >> 1 for what in map(self.what, keys) if type(what) is int]
        refs = dict(zip(tasks, self._results(tasks)))
        return {key: self.reference(key, refs) for key in keys}

    def what(self, key: Hashable) -> Any:
        """What a key has become: 2 * task, a Literal or an External (which persisted keys always were)."""
        found = self.known.get(key)
        return External(key.ref) if found is None and type(key) is RefKey else found

    def reference(self, key: Hashable, refs: Mapping[int, Any]) -> Any:
        """What a hook gets for a key, of which `refs` has the task's reference."""
        what = self.what(key)
        if type(what) is Literal:
            return what.value
        if type(what) is int:
            return refs[what >> 1]
        return what.ref if type(what) is External else None  # of a task that runs in this process


class HookedRun(GraphRun):
    """A graph some of whose results are asked for before all of it was added, or while it runs.

    With `may_look`, hooks may ask for results before all was added. If they do, or the graph does not fit
    into one chunk, it runs as it comes, and the session holds every result until keep_only(); else it is as
    any other. With `timed`, each task has a second result, which says when and where it ran.
    """

    def __init__(
        self, session: Any, *, may_look: bool = False, timed: bool = False, hold_all: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(session, hold_all=hold_all or timed, **options)
        self._may_look = may_look
        self._timed = timed
        self._told: Set[int] = set()  # tasks whose second result was taken
        if timed:
            self.builder.return_count = 2

    def _send(self, chunk: Any, references: Sequence[ObjectRef]) -> None:
        if self._may_look and chunk.first_task == 0 and not chunk.last:
            chunk.fail_fast = False
            chunk.hold_all = self._hold_all = True
        super()._send(chunk, references)

    def results(self, tasks: Sequence[int]) -> List[ObjectRef]:
        """References to results of tasks that were added, all of which are sent now."""
        if tasks and max(tasks) >= self.builder.sent_count():
            self.builder.flush()
        return self.adopt(tasks)

    def times(self, tasks: Sequence[int]) -> Dict[int, Tuple[float, float, int]]:
        """When these tasks began and ended, and their workers' process ids; up to the first one that failed.

        Each task may be asked for once.
        """
        refs = self._take_times(tasks)
        try:
            return dict(zip(tasks, self._session.get_values(refs)))
        except Exception:
            found = {}
            for task, ref in zip(tasks, refs):
                try:
                    found[task] = self._session.get_values([ref])[0]
                except Exception:  # raised by whoever gets the computation's result
                    break
            return found

    def values(self, tasks: Sequence[int]) -> Dict[int, Any]:
        """The values of results that are there."""
        return dict(zip(tasks, self._session.get_values(self.adopt(tasks))))

    def _take_times(self, tasks: Sequence[int]) -> List[ObjectRef]:
        self._told.update(tasks)
        return self._session.adopt_results(
            [self.graph + task.to_bytes(8, "big") + _SECOND_RETURN for task in tasks]
        )

    def keep_only(self, tasks: Sequence[int]) -> None:
        self._drop_times()
        super().keep_only(tasks)

    def __exit__(self, *reason: Any) -> None:
        try:
            self._drop_times()
        except Exception:  # the session is over, which frees everything
            pass
        super().__exit__(*reason)

    def _drop_times(self) -> None:
        """Let go of the second results that nobody asked for."""
        if self._timed:
            self._timed = False
            self._take_times([task for task in range(self.builder.sent_count()) if task not in self._told])


def make_task_hooks(hooks: RayCallbacks, timed: bool = False) -> Optional[TaskHooks]:
    """What goes around each task, or None."""
    before, after = hooks.ray_pretask_cbs, hooks.ray_posttask_cbs
    if not (before or after or timed):
        return None
    count = len(before or after or ())
    return TaskHooks(list(zip(before or [None] * count, after or [None] * count)), timed)


def task_hooks_of(session: Any, hooks: RayCallbacks, timed: bool = False) -> Optional[TaskHooks]:
    """As make_task_hooks; raises TypeError if it can't be sent to workers."""
    made = make_task_hooks(hooks, timed)
    if made is not None:
        try:
            session.functions.intern(made)
        except UnpicklableError as error:
            raise UnpicklableTaskError(
                f"ray_pretask and ray_posttask run on the workers and can't be sent there: {error}. They "
                "are pickled with the object whose methods they are; keep what can't be pickled out of it."
            ) from error
    return made
