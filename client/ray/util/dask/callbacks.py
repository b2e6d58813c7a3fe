"""Callbacks: RayDaskCallback and its six hooks, which follow a computation on Raylet from key to key.

    ray_presubmit(task, key, deps)               driver, before a task is sent; not None: it takes its place
    ray_postsubmit(task, key, deps, object_ref)  driver, for each task that was sent, after the last one
    ray_pretask(key, object_refs)                worker, before the function; what it returns is pre_state
    ray_posttask(key, result, pre_state)         worker, after the function, unless that raised
    ray_postsubmit_all(object_refs, dsk)         driver, once, before anything is waited for
    ray_finish(result)                           driver, once, when the result is there

What always holds: callbacks are called in the order in which they became active; while a computation runs
them, other computations of its thread (a hook's own, say) run none.
"""

from __future__ import annotations

import contextvars
from collections import namedtuple
from contextlib import contextmanager
from typing import Any, Dict, Hashable, Iterable, Iterator, List, MutableSet, Optional, Sequence, Tuple, Union

from dask.callbacks import Callback

__all__ = [
    "CBS", "CBS_DONT_DROP", "ProgressBarCallback", "RayCallback", "RayCallbacks", "RayDaskCallback",
    "add_ray_callbacks", "local_ray_callbacks", "normalize_ray_callback", "unpack_ray_callbacks",
]

CBS = (
    "ray_presubmit", "ray_postsubmit", "ray_pretask", "ray_posttask", "ray_postsubmit_all", "ray_finish",
)
# Each posttask gets what the pretask of the same callback returned, so these lists have gaps.
CBS_DONT_DROP = frozenset({"ray_pretask", "ray_posttask"})

# The hooks of one callback (None for those it lacks), and of all of them, hook by hook.
RayCallback = namedtuple("RayCallback", CBS)
RayCallbacks = namedtuple("RayCallbacks", [f"{name}_cbs" for name in CBS])

_hidden: "contextvars.ContextVar[bool]" = contextvars.ContextVar("ray_callbacks_hidden", default=False)


class ActiveCallbacks(MutableSet):
    """A set in the order of insertion, which is empty to whoever is inside of local_ray_callbacks()."""

    def __init__(self) -> None:
        self._items: Dict[RayCallback, None] = {}

    def __contains__(self, callback: object) -> bool:
        return callback in self._visible()

    def __iter__(self) -> Iterator[RayCallback]:
        return iter(list(self._visible()))

    def __len__(self) -> int:
        return len(self._visible())

    def __repr__(self) -> str:
        return f"{{{', '.join([repr(one) for one in self])}}}" if len(self) else "set()"

    def add(self, callback: RayCallback) -> None:
        self._items[callback] = None

    def discard(self, callback: RayCallback) -> None:
        self._items.pop(callback, None)

    def _visible(self) -> Dict[RayCallback, None]:
        return {} if self._items and _hidden.get() else self._items


class RayDaskCallback(Callback):
    """Hooks for computations on Raylet; those that are not given cost nothing.

    Give them as keywords (`RayDaskCallback(ray_finish=print)`) or as methods of a subclass, with an
    underscore in front (`def _ray_finish(self, result)`). A subclass need not call `super().__init__()`.
    Dask's own five hooks may be given too. Use it as a context, or `register()` and `unregister()` it, or
    pass it to one call as `compute(ray_callbacks=[...])`.

    An exception in a hook of the driver is raised by the computation; in one of a worker it fails the task.
    Hooks of workers are pickled with the object they belong to: what they change of it stays in that worker,
    but they may hold actor handles and call them.
    """

    ray_active = ActiveCallbacks()

    def __init__(self, **kwargs: Any) -> None:
        for name in CBS:
            hook = kwargs.pop(name, None)
            if hook is not None:
                setattr(self, "_" + name, hook)
        super().__init__(**kwargs)

    @property
    def _ray_callback(self) -> RayCallback:
        return RayCallback(*[self._hook(name) for name in CBS])

    def _hook(self, name: str) -> Any:
        """The hook of this name, or None if it is only the empty one below."""
        own = "_" + name
        if getattr(type(self), own) is getattr(RayDaskCallback, own) and own not in vars(self):
            return None
        return getattr(self, own)

    def __enter__(self) -> "RayDaskCallback":
        # Nothing is kept on the object, which may have to be pickled.
        RayDaskCallback.ray_active.add(self._ray_callback)
        if any(self._callback):
            Callback.active.add(self._callback)
        return self

    def __exit__(self, *reason: Any) -> None:
        Callback.active.discard(self._callback)
        RayDaskCallback.ray_active.discard(self._ray_callback)

    def register(self) -> None:
        """Be called by every computation from here on."""
        self.__enter__()

    def unregister(self) -> None:
        """The end of register(). Raises KeyError if it is not active."""
        RayDaskCallback.ray_active.remove(self._ray_callback)
        Callback.active.discard(self._callback)

    def _ray_presubmit(self, task: Any, key: Hashable, deps: Dict[Hashable, Any]) -> Any:
        """Before a task is sent. Any return value but None takes its result's place, and it does not run.

        `task` is the graph's entry for `key`; `deps` maps the keys it depends on to ObjectRefs (or to values,
        where those are known without running anything). Looking into `deps` has what was added so far sent.
        """

    def _ray_postsubmit(self, task: Any, key: Hashable, deps: Dict[Hashable, Any], object_ref: Any) -> None:
        """Once for each task that was sent, in that order; `object_ref` will be its result."""

    def _ray_pretask(self, key: Hashable, object_refs: Sequence[Any]) -> Any:
        """On the worker, right before the task; `object_refs` are the values of what it depends on."""

    def _ray_posttask(self, key: Hashable, result: Any, pre_state: Any) -> None:
        """On the worker, right after the task; `pre_state` is what this callback's pretask returned."""

    def _ray_postsubmit_all(self, object_refs: Any, dsk: Any) -> None:
        """When everything was sent; `object_refs` stand for the results, nested as the keys are."""

    def _ray_finish(self, result: Any) -> None:
        """When the results are there (with persist: their references)."""


class ProgressBarCallback(RayDaskCallback):
    """Has the progress bar shown at once, wherever standard error goes, instead of after two seconds on a
    terminal."""

    def _ray_postsubmit_all(self, object_refs: Any, dsk: Any) -> None:
        """Nothing: being active is enough."""


def wants_bar(callbacks: RayCallbacks) -> bool:
    """Whether a ProgressBarCallback is among these."""
    hooks = callbacks.ray_postsubmit_all_cbs or ()
    return any(isinstance(getattr(hook, "__self__", None), ProgressBarCallback) for hook in hooks)


Like = Union[RayDaskCallback, RayCallback]


def normalize_ray_callback(callback: Any) -> RayCallback:
    """The hooks of a callback as a tuple. Raises TypeError for anything else."""
    if isinstance(callback, RayDaskCallback):
        return callback._ray_callback
    if isinstance(callback, RayCallback):
        return callback
    raise TypeError(
        f"expected a RayDaskCallback (or a RayCallback tuple), got {type(callback).__name__}: "
        f"{callback!r:.100}"
    )


def unpack_ray_callbacks(callbacks: Optional[Iterable[Like]]) -> RayCallbacks:
    """All callbacks, hook by hook: a list, or None where nobody has one; without callbacks, empty tuples.

    Raises TypeError for what is no callback.
    """
    chosen = [normalize_ray_callback(callback) for callback in callbacks or ()]
    if not chosen:
        return RayCallbacks(*[()] * len(CBS))
    columns: List[Optional[List[Any]]] = []
    for name, hooks in zip(CBS, zip(*chosen)):
        column = [hook for hook in hooks if hook is not None or name in CBS_DONT_DROP]
        columns.append(column if any(hook is not None for hook in column) else None)
    return RayCallbacks(*columns)


class add_ray_callbacks:
    """A context in which these callbacks are active."""

    def __init__(self, *callbacks: Like) -> None:
        self.callbacks = [normalize_ray_callback(callback) for callback in callbacks]
        for callback in self.callbacks:
            RayDaskCallback.ray_active.add(callback)

    def __enter__(self) -> "add_ray_callbacks":
        return self

    def __exit__(self, *reason: Any) -> None:
        for callback in self.callbacks:
            RayDaskCallback.ray_active.discard(callback)


@contextmanager
def local_ray_callbacks(callbacks: Optional[Iterable[Like]] = None) -> Iterator[Tuple[Like, ...]]:
    """The callbacks that a computation is to call: these, or those that are active, if None.

    Within the context none is active for this thread, so that computations inside of it call none.
    """
    if callbacks is None:
        chosen: Tuple[Like, ...] = tuple(RayDaskCallback.ray_active)
    elif isinstance(callbacks, (RayDaskCallback, RayCallback)):
        chosen = (callbacks,)
    else:
        chosen = tuple(callbacks)
    token = _hidden.set(True)
    try:
        yield chosen
    finally:
        _hidden.reset(token)
