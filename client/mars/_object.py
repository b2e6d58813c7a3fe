"""Lazy objects: spawned calls and converted collections, executed on demand and fetched when wanted.

An object is one result of a source. A source is started at most once, after those it needs, and from then on
holds an ObjectRef for each result; what another source takes of it are these references, so values go from
task to task and not through this process. Any thread may execute and fetch.
"""

from __future__ import annotations

import threading
import uuid
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import ray
from mars._inputs import join, split
from ray._runtime import current_session
from ray._values import is_value, load

# Hints about placement, which one node has no use for.
_IGNORED_HINTS = {"expect_band", "expect_bands", "expect_worker", "expect_workers"}
_TRIES_MORE = 3

_starting = threading.RLock()


class Source:
    """What yields objects: `refs` has one reference a result once it was started."""

    def __init__(self, inputs: Sequence["Object"]) -> None:
        self.inputs: Sequence[Object] = inputs
        self.refs: Optional[List[ray.ObjectRef]] = None

    def submit(self, refs: List[ray.ObjectRef]) -> List[ray.ObjectRef]:
        """Start it with these for its inputs; at once, without waiting."""
        raise NotImplementedError


class Call(Source):
    """A function and its arguments, of spawn."""

    def __init__(
        self, function: Callable, args: tuple, kwargs: Dict[str, Any], n_output: Optional[int], retry: bool
    ) -> None:
        self._arguments, inputs = split((args, kwargs), Object)
        super().__init__(inputs)
        self._function: Optional[Callable] = function
        self._n_output = n_output
        self._options = {
            "name": getattr(function, "__name__", type(function).__name__),
            "num_returns": n_output or 1,
            "max_retries": _TRIES_MORE if retry else 0,
            "retry_exceptions": retry,
        }

    def submit(self, refs: List[ray.ObjectRef]) -> List[ray.ObjectRef]:
        made = _remote_run.options(**self._options).remote(
            self._function, self._arguments, self._n_output, *refs
        )
        self._function = self._arguments = None
        return made if isinstance(made, list) else [made]


def _run(function: Callable, arguments: Tuple[tuple, dict], n_output: Optional[int], *values: Any) -> Any:
    """On the worker: the call, with the values of its inputs put in."""
    args, kwargs = join(arguments, values)
    result = function(*args, **kwargs)
    if n_output is None:
        return result
    name = getattr(function, "__name__", "the function")
    try:
        results = tuple(result)
    except TypeError:
        raise TypeError(
            f"spawn was told n_output={n_output}, but {name} returned {type(result).__name__}, which has no items"
        ) from None
    if len(results) != n_output:
        raise ValueError(f"spawn was told n_output={n_output}, but {name} returned {len(results)} items")
    return results[0] if n_output == 1 else results


_remote_run = ray.remote(_run)


class Object:
    """A result that will be. `execute()` has it made and gives the object itself; `fetch()` gives the value."""

    __slots__ = ("_source", "_index", "_executed", "key", "__weakref__")

    def __init__(self, source: Source, index: int = 0) -> None:
        self._source = source
        self._index = index
        self._executed = False
        self.key = uuid.uuid4().hex

    def execute(self, session: Any = None, wait: bool = True, **kwargs: Any) -> Union["Object", "Execution"]:
        """Have it made, and what it needs. With `wait`, until it is there: gives this object, or raises what the
        function raised. Else at once: gives an Execution. `session` and show_progress are ignored."""
        execution = _start([self])
        if not wait:
            return execution
        execution.result()
        return self

    def fetch(self, session: Any = None, **kwargs: Any) -> Any:
        """The value; arrays in it are read-only. Raises ValueError if it was never executed."""
        return ray.get(self._reference())

    def _reference(self) -> ray.ObjectRef:
        if not self._executed:
            raise ValueError(f"{self!r} must be executed first before fetch: call its execute()")
        assert self._source.refs is not None
        return self._source.refs[self._index]

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"a lazy Object has no {name!r}, only execute(), fetch() and key; its value comes by "
            ".execute().fetch()"
        )

    def __repr__(self) -> str:
        return f"Object <op=RemoteFunction, key={self.key}>"


class ExecutableTuple(tuple):
    """Objects that are executed and fetched together."""

    def execute(self, session: Any = None, wait: bool = True, **kwargs: Any) -> Any:
        """As Object.execute, for all at the same time."""
        execution = _start(self)
        if not wait:
            return execution
        execution.result()
        return self

    def fetch(self, session: Any = None, **kwargs: Any) -> List[Any]:
        """Their values, in order."""
        return ray.get([item._reference() for item in self])

    def to_object(self, session: Any = None, **kwargs: Any) -> List[Any]:
        """execute() and fetch()."""
        return self.execute(session).fetch(session)


class Execution:
    """Objects that are being made."""

    def __init__(self, refs: List[ray.ObjectRef]) -> None:
        self._refs = refs

    def done(self) -> bool:
        """Whether all of them are there, or failed."""
        unique = list(dict.fromkeys(self._refs))
        return not unique or len(ray.wait(unique, num_returns=len(unique), timeout=0)[0]) == len(unique)

    def result(self, timeout: Optional[float] = None) -> None:
        """Wait, at most `timeout` seconds; then raise the first error among them. No value is unpickled."""
        if not self._refs:
            return
        ids = [ref.binary() for ref in self._refs]
        answers = current_session().get(ids, timeout)
        for id in ids:
            if not is_value(answers[id]):
                load(answers[id])

    def __await__(self) -> Iterator[Any]:
        import asyncio

        return asyncio.get_running_loop().run_in_executor(None, self.result).__await__()


def _start(objects: Iterable[Object]) -> Execution:
    """Start what these need, each source once and after its inputs."""
    wanted = list(objects)
    for item in wanted:
        if not isinstance(item, Object):
            raise TypeError(f"execute expected objects of spawn or convert_dask_collection, got {item!r:.100}")
    with _starting:
        stack = [item._source for item in wanted]
        while stack:
            source = stack[-1]
            if source.refs is None:
                waiting = [item._source for item in source.inputs if item._source.refs is None]
                if waiting:
                    stack += waiting
                    continue
                refs = [item._source.refs[item._index] for item in source.inputs]
                source.refs = source.submit(refs)
                source.inputs = ()
            stack.pop()
        for item in wanted:
            item._executed = True
    return Execution([item._reference() for item in wanted])


def execute(*objects: Object, session: Any = None, wait: bool = True, **kwargs: Any) -> Any:
    """Execute several objects at the same time: gives the one, or an ExecutableTuple of them.

    Without `wait`, gives an Execution at once. Raises what a function raised; TypeError for anything but objects
    of spawn and convert_dask_collection. `session` and other arguments of Mars are ignored.
    """
    together = ExecutableTuple(objects).execute(session, wait, **kwargs)
    return objects[0] if wait and len(objects) == 1 else together


def fetch(*objects: Object, session: Any = None, **kwargs: Any) -> Any:
    """The value of one executed object, or the list of several objects' values; arrays in them are read-only.

    Raises ValueError for one that was never executed, and what its function raised.
    """
    values = ExecutableTuple(objects).fetch(session, **kwargs)
    return values[0] if len(objects) == 1 else values


def spawn(
    func: Callable, args: Any = (), kwargs: Optional[Dict[str, Any]] = None, retry_when_fail: bool = False,
    resolve_tileable_input: bool = False, n_output: Optional[int] = None, **hints: Any,
) -> Union[Object, ExecutableTuple]:
    """A lazy call of `func`: an Object, or with `n_output` an ExecutableTuple of so many, each an item of what
    the function returns.

    `args`: a tuple; anything else is the one argument. Objects anywhere in `args` and `kwargs`, also inside
    lists, tuples, sets and dicts, are made first and the function gets their values. `retry_when_fail`: try
    up to 3 times more when it raises or its worker dies; without it, never. Placement hints are ignored.

    Raises TypeError and ValueError for arguments that can't be, here and not on the worker.
    """
    if not callable(func):
        raise TypeError(f"spawn expected a function, got {func!r:.100}")
    if not isinstance(args, tuple) or hasattr(args, "_fields") or isinstance(args, ExecutableTuple):
        args = (args,)
    if kwargs is not None and not isinstance(kwargs, dict):
        raise TypeError(f"spawn expected a dict for kwargs, got {kwargs!r:.100}")
    unknown = sorted(set(hints) - _IGNORED_HINTS)
    if unknown:
        raise ValueError(
            f"Unexpected kw: {unknown[0]!r}; spawn takes func, args, kwargs, retry_when_fail, n_output and "
            f"ignores {', '.join(sorted(_IGNORED_HINTS))}"
        )
    if n_output is not None and (isinstance(n_output, bool) or not isinstance(n_output, int) or n_output < 1):
        raise ValueError(f"spawn expected n_output to be a number from 1 on, got {n_output!r}")
    call = Call(func, args, dict(kwargs or {}), n_output, bool(retry_when_fail))
    if n_output is None:
        return Object(call)
    return ExecutableTuple(Object(call, index) for index in range(n_output))
