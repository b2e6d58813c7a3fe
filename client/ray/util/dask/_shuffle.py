"""Shuffles in a graph: which of its tasks are one, and what takes their place.

Dask shuffles by tasks in stages. In each, a task cuts a partition into a dict of frames (shuffle_group), a
getitem for each piece takes the dict apart, and a _concat for each output joins its pieces; with more than
`max_branch` (32) partitions every row goes through two or more such stages, because a task per piece would
be too many. Here a partition is cut by one task with a result for each piece, the joining task depends on the
pieces themselves, and the getitems are no tasks at all. Since pieces are that cheap, several stages become
one: every row is written once, and the rows of an output come in the very order in which the stages would
have put them.

A key that is used in another way than that (a dict of pieces, a single piece) is computed as Dask says, besides.
"""

from __future__ import annotations

from typing import Any, Dict, Hashable, List, Mapping, NamedTuple, Optional, Tuple

from ray.util.dask._shuffle_tasks import (
    Cut, ShuffleFunctions, ShuffleTasks, arguments_of, function_of, key_of, unwrapped,
)

# With more pieces than that a shuffle stays in Dask's stages.
ONE_STAGE_PIECES_MAX = 300_000


class Cutting:
    """The task that cuts one partition; stands among the walk's keys as a key of its own."""

    __slots__ = ("source", "how", "key")

    def __init__(self, source: Hashable, how: Cut, key: Hashable) -> None:
        self.source = source  # the partition's key
        self.how = how
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
    shape: Cut  # of the whole shuffle: in one stage, with all its groups
    ignore_index: bool


class Shuffles:
    """The shuffles of one graph. For one thread."""

    def __init__(self, graph: Mapping, functions: ShuffleFunctions) -> None:
        self._graph = graph
        self._functions = functions
        self._tasks = ShuffleTasks(graph, functions)
        self._outputs: Dict[Hashable, Optional[_Output]] = {}
        self._cuttings: Dict[Tuple, Dict[Hashable, Cutting]] = {}  # by how and source

    def joining(self, key: Hashable, value: Any) -> Optional[Joining]:
        """What this key is the output of, if it is one of a shuffle."""
        value = unwrapped(value)
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
        npartitions = output.shape.npartitions
        if output.width < npartitions or len(output.groups) * npartitions > ONE_STAGE_PIECES_MAX:
            return self._of_stage(key)
        group = self._tasks.group(output.groups[0])
        wanted = group.cut.wanted if group is not None and group.cut.count == npartitions else None
        return self._joining(output, output.shape._replace(wanted=wanted))

    def _of_stage(self, key: Hashable) -> Joining:
        """A stage by itself."""
        pieces, ignore_index = self._tasks.pieces(key)
        groups = [group for group, _ in pieces]
        group = self._tasks.group(groups[0])
        assert group is not None
        return self._joining(_Output(groups, pieces[0][1], 0, group.cut, ignore_index), group.cut)

    def _of_repartition(self, value: Any) -> Optional[Joining]:
        """The last step of a shuffle in stages to another number of partitions."""
        group, index = arguments_of(value)
        task = unwrapped(self._graph[key_of(group)])
        if type(index) is not int or function_of(task) is not self._functions.group_2:
            return None
        source, columns, ignore_index, nfinal = arguments_of(task)
        output = self._stage_output(key_of(source), None)
        if output is None or output.width < output.shape.npartitions:
            return None
        if (columns, nfinal) != (output.shape.columns, output.shape.nfinal):
            return None
        if len(output.groups) * nfinal > ONE_STAGE_PIECES_MAX:
            return None
        ignore_index = bool(ignore_index) or output.shape.ignore_index
        how = Cut(columns, 0, nfinal, nfinal, ignore_index, nfinal, None)
        return self._joining(output._replace(index=index), how)

    def _joining(self, output: _Output, how: Cut) -> Joining:
        cuttings = self._cuttings.setdefault((repr(how.columns), *how[1:]), {})
        chosen = []
        for key in output.groups:
            cutting = cuttings.get(key)
            if cutting is None:
                group = self._tasks.group(key)
                assert group is not None
                cutting = cuttings[key] = Cutting(group.source, how, key)
            chosen.append(cutting)
        index = output.index if how.wanted is None else how.wanted.index(output.index)
        return Joining(chosen, index, output.ignore_index)

    def _output(self, key: Hashable) -> Optional[_Output]:
        # The only recursion is along the stages of one shuffle, whose number goes down to 0.
        if key not in self._outputs:
            self._outputs[key] = self._make_output(key)
        return self._outputs[key]

    def _make_output(self, key: Hashable) -> Optional[_Output]:
        found = self._tasks.pieces(key)
        if found is None:
            return None
        pieces, ignore_index = found
        group, index = self._tasks.group(pieces[0][0]), pieces[0][1]
        if group is None or not 0 <= index < group.cut.count:
            return None
        first = group.cut
        for group_key, number in pieces:
            group = self._tasks.group(group_key)
            if group is None or number != index or group.cut != first:
                return None
        groups = [group_key for group_key, _ in pieces]
        npartitions = first.npartitions
        shape = first._replace(stage=0, count=npartitions, nfinal=first.nfinal or npartitions, wanted=None)
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
        group = self._tasks.group(group_key)
        return None if group is None else group.source

    def _stage_output(self, key: Hashable, stage: Optional[int]) -> Optional[_Output]:
        """Of the _concat that is at `key`, if there is one, and of this stage."""
        if function_of(unwrapped(self._graph.get(key))) is not self._functions.concat:
            return None
        found = self._tasks.pieces(key)
        group = self._tasks.group(found[0][0][0]) if found is not None else None
        if group is None or stage not in (None, group.cut.stage):
            return None
        return self._output(key)
