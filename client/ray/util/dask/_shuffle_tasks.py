"""The tasks of Dask's shuffles, read from the graphs of any Dask: what cuts, what takes a piece, what joins.

Found are the functions, not names of keys or layers, so that it works on every Dask.
"""

from __future__ import annotations

import operator
import sys
from typing import Any, Dict, Hashable, Mapping, NamedTuple, Optional, Sequence, Tuple

from ray.util.dask._nodes import HAS_NODES, Alias, NestedContainer, Task, TaskRef

try:
    from dask._expr import ProhibitReuse

    _identity: Any = ProhibitReuse._identity
except ImportError:  # a Dask that has none
    _identity = None


class Cut(NamedTuple):
    """How a partition is cut: Dask's own arguments of shuffle_group, and which groups are wanted.

    A row's group is `value % npartitions // count ** stage % count`. `wanted` are the groups in the order of
    the results; None: all of them.
    """

    columns: Any
    stage: int
    count: int
    npartitions: int
    ignore_index: bool
    nfinal: Optional[int]
    wanted: Optional[Tuple[int, ...]]

    def results(self) -> Sequence[int]:
        """The groups, in the order of the results."""
        return range(self.count) if self.wanted is None else self.wanted


class Group(NamedTuple):
    """A task that cuts a partition: shuffle_group."""

    source: Hashable  # the partition's key
    cut: Cut


class ShuffleTasks:
    """Those of one graph; each is read once."""

    def __init__(self, graph: Mapping, functions: "ShuffleFunctions") -> None:
        self._graph = graph
        self._functions = functions
        self._groups: Dict[Hashable, Optional[Group]] = {}

    def pieces(self, key: Hashable) -> Any:
        """([(key of a group, number of the piece)], ignore_index) of a _concat; None if it has others."""
        graph = self._graph
        arguments = arguments_of(unwrapped(graph[key]))
        listed = _items_of(arguments[0])
        if listed is None:
            return None
        pieces = []
        for piece in listed:
            task = unwrapped(graph.get(key_of(piece)))
            if type(task) is tuple and len(task) == 3 and task[0] is operator.getitem:
                _, group, number = task
            elif function_of(task) is operator.getitem:
                group, number = task.args
                group = key_of(group)
            else:
                return None
            if type(number) is not int:
                return None
            pieces.append((group, number))
        if not pieces:
            return None
        return pieces, bool(arguments[1]) if len(arguments) > 1 else False

    def group(self, key: Hashable) -> Optional[Group]:
        """What the task of this key cuts, if it is a shuffle_group."""
        try:
            return self._groups[key]
        except KeyError:
            pass
        self._groups[key] = group = self._make_group(key)
        return group

    def _make_group(self, key: Hashable) -> Optional[Group]:
        task = unwrapped(self._graph.get(key))
        function = function_of(task)
        if function is None or function not in self._functions.group:
            return None
        arguments = arguments_of(task)
        source, rest = arguments[0], list(arguments[1:])
        wanted = None
        if len(rest) == 7:  # the newer one
            wanted = rest.pop(0)
            if HAS_NODES and isinstance(wanted, NestedContainer):
                return None
            wanted = tuple(sorted(wanted)) if wanted is not None else None
        if len(rest) != 6:
            return None
        columns, stage, count, npartitions, ignore_index, nfinal = rest
        if HAS_NODES and isinstance(columns, NestedContainer):
            columns = columns.klass(columns.args)
        source = key_of(source)
        if source not in self._graph:
            return None
        return Group(source, Cut(columns, stage, count, npartitions, bool(ignore_index), nfinal, wanted))


def unwrapped(task: Any) -> Any:
    """Without the call of an identity that Dask puts around each task of what becomes delayed."""
    while _identity is not None and isinstance(task, Task) and task.func is _identity and task.args:
        task = task.args[0]
    return task


def function_of(task: Any) -> Any:
    """The function of a task of either grammar; None: it is none."""
    if type(task) is tuple:
        return task[0] if task and callable(task[0]) else None
    return task.func if isinstance(task, Task) else None


def arguments_of(task: Any) -> Tuple:
    """The positional arguments of a task of either grammar."""
    return task[1:] if type(task) is tuple else task.args


def _items_of(value: Any) -> Optional[Sequence[Any]]:
    """What is in a list, in any of the forms that Dask has for lists with references."""
    if type(value) is list:
        return value
    if HAS_NODES and isinstance(value, Task):
        kind = value.klass if isinstance(value, NestedContainer) else value.kwargs.get("typ")
        return value.args if kind is list else None
    return None


def key_of(value: Any) -> Hashable:
    """The key that an argument refers to, if it is a reference; in the older grammar that is the key itself."""
    if HAS_NODES:
        if isinstance(value, TaskRef):
            return value.key
        if isinstance(value, Alias):
            return value.target
    return value


# ------------------------------------------------------------ Dask's functions


class ShuffleFunctions(NamedTuple):
    """Dask's own."""

    concat: Any
    group: Tuple[Any, ...]
    group_2: Any
    group_get: Any
    joins: frozenset  # what the outputs of shuffles are made by


_functions: Optional[ShuffleFunctions] = None


def shuffle_functions() -> Optional[ShuffleFunctions]:
    """The functions that Dask's shuffles are made of; None as long as nobody has imported them."""
    global _functions
    if _functions is None:
        shuffle = sys.modules.get("dask.dataframe.shuffle")
        core = sys.modules.get("dask.dataframe.core")
        if shuffle is None or core is None or not hasattr(shuffle, "shuffle_group_get"):
            return None
        group = [shuffle.shuffle_group]
        for name in ("dask.dataframe.dask_expr._shuffle", "dask_expr._shuffle"):
            newer = getattr(sys.modules.get(name), "SimpleShuffle", None)
            if newer is not None and hasattr(newer, "_shuffle_group"):
                group.append(newer._shuffle_group)
        if len(group) == 1 and "dask.dataframe.dask_expr" in sys.modules:
            return None  # still being imported
        joins = frozenset({core._concat, shuffle.shuffle_group_get})
        _functions = ShuffleFunctions(
            core._concat, tuple(group), shuffle.shuffle_group_2, shuffle.shuffle_group_get, joins
        )
    return _functions
