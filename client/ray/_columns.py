"""Columns: the tasks of a GraphChunk that is under way, column by column, and the message they become.

Columns that hardly any task needs (options, several results, borrowed references) are dicts by the task's position
in the chunk, and are left out of a message that has no use for them.
"""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from ray._ref import ObjectRef
from ray._wire import session_pb2 as wire

# In `deps`, the number of the result that is meant stands above this bit.
RESULT_SHIFT = 48
_DEP_MASK = (1 << RESULT_SHIFT) - 1


class Columns:
    """One chunk after the other of one graph. For GraphBuilder, which adds tasks to them and sends them."""

    def __init__(self) -> None:
        self.return_count = 1  # results of every task
        # Of all chunks so far.
        self._option_numbers: Dict[bytes, int] = {}
        self._options: List[wire.TaskOptions] = []
        self._has_pieces = False  # some task so far has several results
        self._start_chunk(0)

    def _start_chunk(self, first_task: int) -> None:
        self._first_task = first_task
        # The columns. Groups of the chunk that are closed, and after them the open one's tasks.
        self._function_numbers: List[int] = []
        self._dep_counts: List[int] = []
        self._deps: List[int] = []
        self._names: List[str] = []
        self._entries: List[Any] = []  # of the open group
        self._result_counts: Dict[int, int] = {}  # by position in the chunk; those that are not 1
        self._options_of: Dict[int, int] = {}  # by position in the chunk; those that have options
        self._wanted: List[int] = []
        self._group_sizes: List[int] = []
        self._group_blobs: List[bytes] = []
        self._group_deps_start = 0
        self._blob_bytes = 0
        self._externals: Dict[bytes, int] = {}
        self._borrows: Dict[int, List[int]] = {}  # by position in the chunk
        self._references: List[ObjectRef] = []

    def external(self, ref: ObjectRef) -> int:
        """How the task that is added next names an object of elsewhere among its deps."""
        self._references.append(ref)
        return 2 * self._external_number(ref.binary()) + 1

    def _external_number(self, id: bytes) -> int:
        return self._externals.setdefault(id, len(self._externals))

    def option_number(self, options: wire.TaskOptions) -> int:
        """The number of these options, for add."""
        key = options.SerializeToString(deterministic=True)
        number = self._option_numbers.get(key)
        if number is None:
            self._options.append(options)
            number = self._option_numbers[key] = len(self._options)
        return number

    def next_has_results(self, count: int) -> None:
        """The task that is added next returns `count` results, as a list or tuple."""
        if count != 1:
            self._result_counts[len(self._function_numbers)] = count
            self._has_pieces = True

    def next_position(self) -> int:
        """Where in the chunk the task is whose entry is being rewritten."""
        return len(self._dep_counts)

    def borrow(self, position: int, ids: Sequence[bytes]) -> None:
        """The task at `position` of the chunk holds these references inside its arguments."""
        self._borrows.setdefault(position, []).extend(self._external_number(id) for id in ids)

    def _message(self, graph: bytes, last: bool) -> wire.GraphChunk:
        """What there is, as a message."""
        count = len(self._function_numbers)
        chunk = wire.GraphChunk(
            graph=graph,
            first_task=self._first_task,
            task_count=count,
            last=last,
            function_numbers=self._function_numbers,
            group_sizes=self._group_sizes,
            group_blobs=self._group_blobs,
            wanted=self._wanted,
        )
        if self.return_count != 1:
            chunk.return_counts.extend([self.return_count] * count)
        if self._deps:
            chunk.dep_counts.extend(self._dep_counts)
            self._add_deps(chunk)
        if self._externals:
            chunk.externals.extend(self._externals)
        self._add_sparse_columns(chunk, count)
        return chunk

    def _add_deps(self, chunk: wire.GraphChunk) -> None:
        deps = self._deps
        if self._has_pieces:
            numbers = [dep >> RESULT_SHIFT for dep in deps]
            if any(numbers):
                chunk.dep_returns.extend(numbers)
                deps = [dep & _DEP_MASK for dep in deps]
        chunk.deps.extend(deps)

    def _add_sparse_columns(self, chunk: wire.GraphChunk, count: int) -> None:
        if self._result_counts:
            usual = self.return_count
            chunk.return_counts[:] = [self._result_counts.get(i, usual) for i in range(count)]
        if self._borrows:
            for position in range(count):
                borrowed = self._borrows.get(position, ())
                chunk.borrow_counts.append(len(borrowed))
                chunk.borrows.extend(borrowed)
        if self._options_of:
            chunk.options.extend(self._options)
            chunk.option_numbers.extend([self._options_of.get(i, 0) for i in range(count)])
        if any(self._names):
            distinct = dict.fromkeys(self._names)
            if len(distinct) == count:
                chunk.name_numbers.extend(range(count))
            else:
                numbers = dict(zip(distinct, range(len(distinct))))
                chunk.name_numbers.extend([numbers[name] for name in self._names])
            chunk.names.extend(distinct)
