"""What a task's arguments look like on their way to a worker, and how the worker calls the function.

Tasks travel in groups: one pickle of a list with one entry a task. An entry is

    a tuple            the positional arguments; `Dep(k)` stands for the task's k-th dependency
    INPUTS             the positional arguments are the dependencies, all of them, in order
    Call(args, kwargs) the same with keywords
    Nested(args, kwargs)
                       as Call, but dependencies sit deeper: in `Build` and `Apply` nodes
    Program(...)       several calls, one after the other

Only nodes are looked into. Whatever else is in the arguments, lists and dicts too, is the user's and is
passed on as it is. The submitter makes entries (ray._graph, ray.util.dask._convert); the worker calls `load_group`
once a group and `run` once a task.
"""

from __future__ import annotations

import pickle
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

__all__ = [
    "Apply", "Build", "Call", "Dep", "INPUTS", "Nested", "Program", "Quote", "Slot", "apply_function", "dep",
    "first", "load_group", "resolve", "run", "slot",
]


class Dep:
    """The place of a task's `index`-th dependency in its arguments. Made by `dep`, never changed."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> Tuple:
        return dep, (self.index,)

    def __repr__(self) -> str:
        return f"Dep({self.index})"


_DEPS: List[Dep] = [Dep(index) for index in range(256)]


def dep(index: int) -> Dep:
    """The one Dep of this index (so that a group's pickle holds it once, for small indices)."""
    return _DEPS[index] if index < 256 else Dep(index)


class _Inputs:
    """The type of INPUTS."""

    __slots__ = ()

    def __reduce__(self) -> str:
        return "INPUTS"

    def __repr__(self) -> str:
        return "INPUTS"


INPUTS = _Inputs()


class _Node:
    """Equal, shown and pickled by its slots."""

    __slots__: Tuple[str, ...] = ()

    def __reduce__(self) -> Tuple:
        return type(self), tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__reduce__() == other.__reduce__()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self.__reduce__()[1]!r}"


class Call(_Node):
    """An entry with keywords; only the values themselves may be `Dep`."""

    __slots__ = ("args", "kwargs")

    def __init__(self, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs


class Nested(_Node):
    """An entry whose arguments hold nodes."""

    __slots__ = ("args", "kwargs")

    def __init__(self, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs

    def __reduce__(self) -> Tuple:
        return Nested, (self.args, self.kwargs)


class Build(_Node):
    """A container that is made when the task runs: `kind(items)`; a dict's are keys and values in turn.

    `items` may be INPUTS: all dependencies of the task, in order.
    """

    __slots__ = ("kind", "items")

    def __init__(self, kind: Callable[[List[Any]], Any], items: Sequence[Any]) -> None:
        self.kind = kind
        self.items = items

    def __reduce__(self) -> Tuple:
        return Build, (self.kind, self.items)


class Apply(_Node):
    """A call inside a task's arguments."""

    __slots__ = ("function", "args", "kwargs")

    def __init__(
        self, function: Callable, args: Tuple[Any, ...], kwargs: Mapping[str, Any] = {}
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs

    def __reduce__(self) -> Tuple:
        return Apply, (self.function, self.args, self.kwargs)


class Slot:
    """The result of an earlier step of the Program around it. Made by `slot`, never changed."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> Tuple:
        return slot, (self.index,)

    def __repr__(self) -> str:
        return f"Slot({self.index})"


_SLOTS: List[Slot] = [Slot(index) for index in range(256)]


def slot(index: int) -> Slot:
    """The one Slot of this index, for small indices."""
    return _SLOTS[index] if index < 256 else Slot(index)


class Program(_Node):
    """Several calls in one task, in an order that works; `result` is a node, most often the last call's Slot.

    A step is (function, args, kwargs or None). `drops[i]` are the slots that nobody reads after step i: their
    values are freed there and then. As an entry of its own, a Program stands for the whole task, whose
    function is there only for its name.
    """

    __slots__ = ("steps", "drops", "result")

    def __init__(
        self, steps: Tuple[Tuple, ...], drops: Tuple[Tuple[int, ...], ...], result: Any
    ) -> None:
        self.steps = steps
        self.drops = drops
        self.result = result

    def __reduce__(self) -> Tuple:
        return Program, (self.steps, self.drops, self.result)

    def mapped(self, changed: Callable[[Any], Any]) -> "Program":
        """The same calls, with `changed(value)` for each of their arguments and for the result."""
        steps = []
        for function, args, kwargs in self.steps:
            named = kwargs and {name: changed(a) for name, a in kwargs.items()}
            steps.append((function, tuple([changed(a) for a in args]), named))
        return Program(tuple(steps), self.drops, changed(self.result))


class Quote(_Node):
    """A whole entry as an argument: it is handed on as it is, to a function that runs it itself."""

    __slots__ = ("entry",)

    def __init__(self, entry: Any) -> None:
        self.entry = entry


NODES = (Dep, Build, Apply, Program, Quote, Slot)


def load_group(blob: bytes) -> List[Any]:
    """The entries of a group. Raises whatever unpickling raises (a missing module, most often)."""
    return pickle.loads(blob)


def run(function: Callable, entry: Any, inputs: Sequence[Any]) -> Any:
    """Call `function` as the entry says; `inputs` are the values of the task's dependencies, in order."""
    kind = type(entry)
    if kind is tuple:
        if not inputs:
            return function(*entry)
        return function(*[inputs[a.index] if type(a) is Dep else a for a in entry])
    if kind is _Inputs:
        return function(*inputs)
    if kind is Call:
        return function(
            *[inputs[a.index] if type(a) is Dep else a for a in entry.args],
            **{
                name: inputs[a.index] if type(a) is Dep else a for name, a in entry.kwargs.items()
            },
        )
    if kind is Program:
        return _run_program(entry, inputs)
    if kind is Nested:
        args = [resolve(a, inputs, ()) for a in entry.args]
        kwargs = {name: resolve(a, inputs, ()) for name, a in entry.kwargs.items()}
        return function(*args, **kwargs)
    raise TypeError(f"expected an entry of a group, got {kind.__module__}.{kind.__qualname__}")


def resolve(node: Any, inputs: Sequence[Any], slots: Sequence[Any] = ()) -> Any:
    """The value of a node; anything that is no node is its own value."""
    kind = type(node)
    if kind is Dep:
        return inputs[node.index]
    if kind is Build:
        return _build(node, inputs, slots)
    if kind is Slot:
        return slots[node.index]
    if kind is Apply:
        if node.kwargs:
            return node.function(
                *[resolve(a, inputs, slots) for a in node.args],
                **{name: resolve(a, inputs, slots) for name, a in node.kwargs.items()},
            )
        return node.function(*[resolve(a, inputs, slots) for a in node.args])
    if kind is Program:
        return _run_program(node, inputs)
    return node


def _build(node: Build, inputs: Sequence[Any], slots: Sequence[Any]) -> Any:
    if node.items is INPUTS:
        items = list(inputs)
    else:
        items = [resolve(item, inputs, slots) for item in node.items]
    kind = node.kind
    if kind is list:
        return items
    if kind is dict:
        return dict(zip(items[::2], items[1::2]))
    return kind(items)


def _run_program(program: Program, inputs: Sequence[Any]) -> Any:
    slots: List[Any] = []
    for (function, args, kwargs), dropped in zip(program.steps, program.drops):
        values = []
        for a in args:
            kind = type(a)
            if kind is Slot:
                values.append(slots[a.index])
            elif kind is Dep:
                values.append(inputs[a.index])
            else:
                values.append(resolve(a, inputs, slots))
        if kwargs:
            named = {name: resolve(a, inputs, slots) for name, a in kwargs.items()}
            slots.append(function(*values, **named))
            del named
        else:
            slots.append(function(*values))
        del values
        for index in dropped:
            slots[index] = None
    return resolve(program.result, inputs, slots)


def first(value: Any) -> Any:
    """The function of a task whose work is all in its argument's nodes."""
    return value


def apply_function(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """The function of a task whose function is too large to be sent with it and is a dependency instead."""
    return function(*args, **kwargs)
