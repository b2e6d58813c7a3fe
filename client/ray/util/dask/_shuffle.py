"""Shuffles in a graph: which of its tasks are one, and what takes their place.

Dask shuffles by tasks in stages. In each, a task cuts a partition into a dict of frames (shuffle_group), a
getitem for each piece takes the dict apart, and a _concat for each output joins its pieces; with more than
`max_branch` (32) partitions every row goes through two or more such stages, because a task per piece would
be too many. Here a partition is cut by one task with a result for each piece, the joining task depends on the
pieces themselves, and the getitems are no tasks at all. Since pieces are that cheap, several stages become
one: every row is written once, and the rows of an output come in the very order in which the stages would
have put them.

Found are the functions, not names of keys or layers, so that it works on every Dask. A key that is used in
another way than that (a dict of pieces, a single piece) is computed as Dask says, besides.
"""

from __future__ import annotations

import operator
import sys
from typing import Any, Dict, Hashable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ray.util.dask._convert import HAS_NODES, Alias, NestedContainer, Task, TaskRef

try:
    from dask._expr import ProhibitReuse

    _identity: Any = ProhibitReuse._identity
except ImportError:  # a Dask that has none
    _identity = None

# With more pieces than that a shuffle stays in Dask's stages.
ONE_STAGE_PIECES_MAX = 300_000


class Cutting:
    """The task that cuts one partition; stands among the walk's keys as a key of its own."""

    __slots__ = ("source", "how", "key")

    def __init__(self, source: Hashable, how: Tuple, key: Hashable) -> None:
        self.source = source  # the partition's key
        self.how = how  # the fields of a _pieces.Cut
        self.key = key  # of the shuffle_group that it stands for


class Joining(NamedTuple):
    """An output partition: the pieces number `index` of some cuttings."""

    cuttings: List[Cutting]
    index: int
    ignore_index: bool


class _Output(NamedTuple):
    """What a _concat of a shuffle, of whatever stage, gives.

    Its rows are those of the partitions that `groups` cut (the shuffle_groups of the first stage) whose
    value, modulo npartitions, is `index` modulo `width`. A width of 0: nothing can be said beyond its stage.
    """

    groups: List[Hashable]
    index: int
    width: int
    shape: Tuple  # columns, npartitions, ignore_index of the groups, nfinal
    ignore_index: bool


class _Group(NamedTuple):
    """A shuffle_group task."""

    source: Hashable
    wanted: Optional[Tuple[int, ...]]
    columns: Any
    stage: int
    count: int
    npartitions: int
    ignore_index: bool
    nfinal: Optional[int]


class Shuffles:
    """The shuffles of one graph. For one thread."""

    def __init__(self, graph: Mapping, functions: "_Functions") -> None:
        self._graph = graph
        self._functions = functions
        self._groups: Dict[Hashable, Optional[_Group]] = {}
        self._outputs: Dict[Hashable, Optional[_Output]] = {}
        self._cuttings: Dict[Tuple, Dict[Hashable, Cutting]] = {}  # by how and source

    def joining(self, key: Hashable, value: Any) -> Optional[Joining]:
        """What this key is the output of, if it is one of a shuffle."""
        value = _unwrapped(value)
        try:
            function = value[0] if type(value) is tuple else value.func
            if function is self._functions.concat:
                return self._of_concat(key)
            if function is self._functions.group_get:
                return self._of_repartition(value)
        except (AttributeError, TypeError, KeyError, IndexError, ValueError):  # something that only looks like it
            pass
        return None

    # ------------------------------------------------------------ outputs

    def _of_concat(self, key: Hashable) -> Optional[Joining]:
        output = self._output(key)
        if output is None:
            return None
        columns, npartitions, ignore_index, nfinal = output.shape
        if output.width < npartitions or len(output.groups) * npartitions > ONE_STAGE_PIECES_MAX:
            return self._of_stage(key)
        group = self._group(output.groups[0])
        wanted = group.wanted if group is not None and group.count == npartitions else None
        return self._joining(output, (columns, 0, npartitions, npartitions, ignore_index, nfinal, wanted))

    def _of_stage(self, key: Hashable) -> Joining:
        """A stage by itself."""
        pieces, ignore_index = self._pieces(key)
        groups = [group for group, _ in pieces]
        group = self._group(groups[0])
        assert group is not None
        how = (
            group.columns, group.stage, group.count, group.npartitions, group.ignore_index, group.nfinal,
            group.wanted,
        )
        return self._joining(_Output(groups, pieces[0][1], 0, (), ignore_index), how)

    def _of_repartition(self, value: Any) -> Optional[Joining]:
        """The last step of a shuffle in stages to another number of partitions."""
        group, index = _arguments(value)
        task = _unwrapped(self._graph[_key_of(group)])
        if type(index) is not int or _function_of(task) is not self._functions.group_2:
            return None
        source, columns, ignore_index, nfinal = _arguments(task)
        output = self._stage_output(_key_of(source), None)
        if output is None or output.width < output.shape[1]:
            return None
        if (columns, nfinal) != (output.shape[0], output.shape[3]):
            return None
        if len(output.groups) * nfinal > ONE_STAGE_PIECES_MAX:
            return None
        how = (columns, 0, nfinal, nfinal, bool(ignore_index) or output.shape[2], nfinal, None)
        return self._joining(output._replace(index=index), how)

    def _joining(self, output: _Output, how: Tuple) -> Joining:
        cuttings = self._cuttings.setdefault((repr(how[0]), *how[1:]), {})
        chosen = []
        for key in output.groups:
            cutting = cuttings.get(key)
            if cutting is None:
                group = self._group(key)
                assert group is not None
                cutting = cuttings[key] = Cutting(group.source, how, key)
            chosen.append(cutting)
        wanted = how[-1]
        index = output.index if wanted is None else wanted.index(output.index)
        return Joining(chosen, index, output.ignore_index)

    def _output(self, key: Hashable) -> Optional[_Output]:
        # The only recursion is along the stages of one shuffle, whose number goes down to 0.
        if key not in self._outputs:
            self._outputs[key] = self._make_output(key)
        return self._outputs[key]

    def _make_output(self, key: Hashable) -> Optional[_Output]:
        found = self._pieces(key)
        if found is None:
            return None
        pieces, ignore_index = found
        first, index = self._group(pieces[0][0]), pieces[0][1]
        if first is None or not 0 <= index < first.count:
            return None
        for group_key, number in pieces:
            group = self._group(group_key)
            if group is None or number != index or group[1:] != first[1:]:
                return None
        groups = [group_key for group_key, _ in pieces]
        shape = (first.columns, first.npartitions, first.ignore_index, first.nfinal or first.npartitions)
        if first.stage == 0:
            return _Output(self._unpadded(groups), index, first.count, shape, ignore_index)
        width = first.count**first.stage
        alone = _Output(groups, index, 0, shape, ignore_index)
        all_groups: Dict[Hashable, None] = {}
        digits = set()
        for group_key in groups:
            inner = self._stage_output(self._source_of(group_key), first.stage - 1)
            if inner is None or inner.width != width or inner.shape != shape:
                return alone
            digits.add(inner.index)
            all_groups.update(dict.fromkeys(inner.groups))
        if len(digits) != 1:
            return alone
        return _Output(
            self._unpadded(list(all_groups)), digits.pop() + index * width, width * first.count, shape,
            ignore_index,
        )

    def _unpadded(self, groups: List[Hashable]) -> List[Hashable]:
        """Without those that cut an empty partition with which Dask fills up the inputs of its stages."""
        kept = []
        for key in groups:
            source = self._source_of(key)
            if not (type(source) is tuple and len(source) == 3 and source[2] == "empty"):
                kept.append(key)
        return kept or groups[:1]

    def _source_of(self, group_key: Hashable) -> Hashable:
        group = self._group(group_key)
        return None if group is None else group.source

    def _stage_output(self, key: Hashable, stage: Optional[int]) -> Optional[_Output]:
        """Of the _concat that is at `key`, if there is one, and of this stage."""
        if _function_of(_unwrapped(self._graph.get(key))) is not self._functions.concat:
            return None
        found = self._pieces(key)
        group = self._group(found[0][0][0]) if found is not None else None
        if group is None or stage not in (None, group.stage):
            return None
        return self._output(key)

    # ------------------------------------------------------------ Dask's tasks

    def _pieces(self, key: Hashable) -> Any:
        """([(key of a group, number of the piece)], ignore_index) of a _concat; None if it has others."""
        graph = self._graph
        arguments = _arguments(_unwrapped(graph[key]))
        listed = _items_of(arguments[0])
        if listed is None:
            return None
        pieces = []
        for piece in listed:
            task = _unwrapped(graph.get(_key_of(piece)))
            if type(task) is tuple and len(task) == 3 and task[0] is operator.getitem:
                _, group, number = task
            elif _function_of(task) is operator.getitem:
                group, number = task.args
                group = _key_of(group)
            else:
                return None
            if type(number) is not int:
                return None
            pieces.append((group, number))
        if not pieces:
            return None
        return pieces, bool(arguments[1]) if len(arguments) > 1 else False

    def _group(self, key: Hashable) -> Optional[_Group]:
        try:
            return self._groups[key]
        except KeyError:
            pass
        self._groups[key] = group = self._make_group(key)
        return group

    def _make_group(self, key: Hashable) -> Optional[_Group]:
        task = _unwrapped(self._graph.get(key))
        function = _function_of(task)
        if function is None or function not in self._functions.group:
            return None
        arguments = _arguments(task)
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
        source = _key_of(source)
        if source not in self._graph:
            return None
        return _Group(source, wanted, columns, stage, count, npartitions, bool(ignore_index), nfinal)


def _unwrapped(task: Any) -> Any:
    """Without the call of an identity that Dask puts around each task of what becomes delayed."""
    while _identity is not None and isinstance(task, Task) and task.func is _identity and task.args:
        task = task.args[0]
    return task


def _function_of(task: Any) -> Any:
    if type(task) is tuple:
        return task[0] if task and callable(task[0]) else None
    return task.func if isinstance(task, Task) else None


def _arguments(task: Any) -> Tuple:
    return task[1:] if type(task) is tuple else task.args


def _items_of(value: Any) -> Optional[Sequence[Any]]:
    """What is in a list, in any of the forms that Dask has for lists with references."""
    if type(value) is list:
        return value
    if HAS_NODES and isinstance(value, Task):
        kind = value.klass if isinstance(value, NestedContainer) else value.kwargs.get("typ")
        return value.args if kind is list else None
    return None


def _key_of(value: Any) -> Hashable:
    if HAS_NODES:
        if isinstance(value, TaskRef):
            return value.key
        if isinstance(value, Alias):
            return value.target
    return value


# ------------------------------------------------------------ Dask's functions


class _Functions(NamedTuple):
    concat: Any
    group: Tuple[Any, ...]
    group_2: Any
    group_get: Any
    joins: frozenset  # what the outputs of shuffles are made by


_functions: Optional[_Functions] = None


def shuffle_functions() -> Optional[_Functions]:
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
        _functions = _Functions(
            core._concat, tuple(group), shuffle.shuffle_group_2, shuffle.shuffle_group_get, joins
        )
    return _functions
