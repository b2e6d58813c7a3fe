"""GraphBuilder: turns tasks into the columns of GraphChunk messages and sends each as soon as it is full.

What always holds: tasks are numbered in the order in which they are added; a group's pickle is whole in one
chunk; at most one chunk's columns and one group's arguments are held at a time, so a graph of any size is
sent in bounded memory. Constants over BIG_BYTES are put as objects, once each, and become dependencies.
"""

from __future__ import annotations

import pickle
from typing import Any, Callable, Dict, List, Optional, Sequence, Set

from ray._calls import apply_function, dep
from ray._columns import Columns
from ray._entries import with_first
from ray._functions import FunctionTable, function_name
from ray._lifting import BIG_BYTES, Lifter
from ray._ref import ObjectRef
from ray._serialize import UnpicklableError, dump_with
from ray._wire import session_pb2 as wire

GROUP_TASKS_MAX = 64
GROUP_BYTES_MAX = 64 << 10
CHUNK_TASKS_MAX = 16 << 10
CHUNK_BYTES_MAX = 2 << 20
_TASK_BYTES = 24  # about what the columns of one task come to on the wire


class UnpicklableTaskError(UnpicklableError, TypeError):
    """A task that can't be sent: its message names the task, the object and the reason."""


class _TooBig(BaseException):
    """Raised in the middle of pickling a group: a large buffer is in it."""


def _refuse_big(buffer: pickle.PickleBuffer) -> bool:
    try:
        if buffer.raw().nbytes > BIG_BYTES:
            raise _TooBig
    except BufferError:
        pass
    return True


class GraphBuilder(Columns):
    """Builds and sends one graph. For one thread.

    `send(chunk, references)` gets each chunk; the references are those the chunk names, to be kept alive
    until it is sent. `put(value)` makes an object of a constant and returns its ObjectRef. With
    `resolve_nested`, an ObjectRef anywhere in a task's arguments (inside lists, tuples, sets and dicts) is a
    dependency whose value takes its place; without, only where the caller made it one, and the others stay
    references.
    """

    def __init__(
        self,
        graph: bytes,
        functions: FunctionTable,
        send: Callable[[wire.GraphChunk, Sequence[ObjectRef]], None],
        put: Callable[[Any], ObjectRef],
        *,
        fail_fast: bool = True,
        report_progress: bool = False,
        hold_all: bool = False,
        resolve_nested: bool = True,
        name: str = "",
    ) -> None:
        super().__init__()
        self.graph = graph
        self.task_count = 0  # of closed groups
        self._functions = functions
        self._send = send
        self._put = put
        self.resolve_nested = resolve_nested
        self._header = {
            "fail_fast": fail_fast, "report_progress": report_progress, "hold_all": hold_all,
            "graph_name": name,
        }
        # By id of the function; what is missing, or None, is for function_number().
        self.numbers: Dict[int, Optional[int]] = {}
        self._kept: List[Any] = []  # so that ids in the two dicts stay their objects' own
        self._put_refs: Dict[int, ObjectRef] = {}  # by id of the constant
        self._all_wanted: Set[int] = set()
        self._group_tasks = GROUP_TASKS_MAX  # how many tasks the next group should have

    # ------------------------------------------------------------ adding

    def next_task(self) -> int:
        """The number of the task that will be added next."""
        return self.task_count + len(self._entries)

    def sent_count(self) -> int:
        """How many tasks have been sent."""
        return self._first_task

    def function_number(self, function: Any) -> Optional[int]:
        """The function's number; None means: add the task by add_with_put_function. Raises UnpicklableError."""
        key = id(function)
        try:
            return self.numbers[key]
        except KeyError:
            number = self.numbers[key] = self._functions.intern(function)
            self._kept.append(function)
            return number

    def add(
        self, function_number: int, entry: Any, deps: Sequence[int], name: str = "", options: int = 0
    ) -> int:
        """Add a task and return its number. `deps`: 2 * task, or external(ref), one for each Dep.

        Of a task with several results, number << RESULT_SHIFT is added to say which. Raises
        UnpicklableTaskError for this task or an earlier one of its group.
        """
        task = self.task_count + len(self._entries)
        if options:
            self._options_of[len(self._function_numbers)] = options
        self._function_numbers.append(function_number)
        self._dep_counts.append(len(deps))
        self._deps.extend(deps)
        self._names.append(name)
        self._entries.append(entry)
        if len(self._entries) >= self._group_tasks:
            self.close_group()
        return task

    def want(self, task: int) -> None:
        """The session holds this task's result; for a task of the chunk that is not sent yet, or an older one.

        Once for each task, however often it is said.
        """
        if task not in self._all_wanted:
            self._all_wanted.add(task)
            self._wanted.append(task)

    def add_with_put_function(
        self, function: Any, entry: Any, deps: Sequence[int], name: str = "", options: int = 0
    ) -> int:
        """As add, for a function that has no number: it is put as an object, and a dependency."""
        ref = self.put_once(function)
        deps = list(deps) + [self.external(ref)]
        place = dep(len(deps) - 1)
        number = self.function_number(apply_function)
        assert number is not None
        name = name or function_name(function)
        return self.add(number, with_first(place, entry, len(deps) - 1), deps, name, options)

    # ------------------------------------------------------------ groups and chunks

    def close_group(self) -> None:
        """Pickle the open group's arguments; send the chunk if it is full. Raises UnpicklableTaskError."""
        entries = self._entries
        count = len(entries)
        if not count:
            return
        contained: List[bytes] = []
        blob: Optional[bytes] = None
        try:
            blob = dump_with(entries, contained, _refuse_big)
        except _TooBig:
            pass
        except UnpicklableError as error:
            raise self._blame(error) from error.__cause__
        if blob is None or contained or len(blob) > GROUP_BYTES_MAX:
            self._close_unusual_group(blob, contained)
        else:
            self._group_sizes.append(count)
            self._group_blobs.append(blob)
            self._blob_bytes += len(blob)
            self._entries.clear()
            self.task_count += count
            if self._group_tasks < GROUP_TASKS_MAX and len(blob) < GROUP_BYTES_MAX // 4:
                self._group_tasks = min(GROUP_TASKS_MAX, 2 * self._group_tasks)
        self._group_deps_start = len(self._deps)
        in_chunk = len(self._function_numbers)
        if in_chunk >= CHUNK_TASKS_MAX or self._blob_bytes + _TASK_BYTES * in_chunk >= CHUNK_BYTES_MAX:
            self.flush()

    def flush(self, last: bool = False) -> None:
        """Send what there is. `last` closes the graph; nothing may be added after it."""
        if self._entries:
            first_task = self._first_task
            self.close_group()
            if self._first_task != first_task and not last:
                return  # closing the group made the chunk full and sent it
        count = len(self._function_numbers)
        if not count and not last:
            return
        chunk = self._message(self.graph, last)
        if self._first_task == 0:
            for field, value in self._header.items():
                setattr(chunk, field, value)
        references = self._references
        self._start_chunk(self._first_task + count)
        self._send(chunk, references)

    # ------------------------------------------------------------ groups that need a second look

    def _close_unusual_group(self, blob: Optional[bytes], contained: List[bytes]) -> None:
        """A group with large constants or references inside, or one that is too large."""
        count = len(self._entries)
        if blob is not None and not contained and count > 1:
            # Only many bytes: in smaller groups, these tasks and the next ones.
            self._group_tasks = max(1, min(count // 2, count * GROUP_BYTES_MAX // len(blob)))
            self._split_group(self._group_tasks)
            return
        entries, self._entries = self._entries, []
        position = len(self._function_numbers) - count
        counts = self._dep_counts[position:]
        deps = self._deps[self._group_deps_start :]
        del self._dep_counts[position:]
        del self._deps[self._group_deps_start :]
        offset = 0
        for number, entry in enumerate(entries):
            task_deps = deps[offset : offset + counts[number]]
            offset += counts[number]
            try:
                lifted = Lifter(self, task_deps).entry(entry)
            except UnpicklableError as error:
                raise self._task_error(position + number, error) from error.__cause__
            self._entries.append(lifted)
            self._dep_counts.append(len(task_deps))
            self._deps.extend(task_deps)
        self._append_blobs(self._entries)
        self.task_count += count
        self._entries = []

    def _split_group(self, size: int) -> None:
        """Close the open group as several of `size` tasks each; those that are still too large are lifted."""
        entries = self._entries
        deps = self._deps[self._group_deps_start :]
        position = len(self._function_numbers) - len(entries)
        counts = self._dep_counts[position:]
        del self._deps[self._group_deps_start :]
        del self._dep_counts[position:]
        offset = 0
        done: List[Any] = []
        for start in range(0, len(entries), size):
            piece = entries[start : start + size]
            contained: List[bytes] = []
            try:
                blob: Optional[bytes] = dump_with(piece, contained, _refuse_big)
            except _TooBig:
                blob = None
            lift = blob is None or len(blob) > GROUP_BYTES_MAX
            for number, entry in enumerate(piece, start):
                task_deps = deps[offset : offset + counts[number]]
                offset += counts[number]
                if lift:
                    entry = Lifter(self, task_deps).entry(entry)
                done.append(entry)
                self._dep_counts.append(len(task_deps))
                self._deps.extend(task_deps)
            if lift:
                self._append_blobs(done[start:])
            else:
                assert blob is not None
                self._append_blob(len(piece), blob)
        self.task_count += len(entries)
        self._entries = []

    def _append_blobs(self, entries: List[Any]) -> None:
        """Pickle lifted entries, in as few groups as the limit allows."""
        contained: List[bytes] = []
        blob = dump_with(entries, contained)
        if len(blob) > GROUP_BYTES_MAX and len(entries) > 1:
            middle = len(entries) // 2
            self._append_blobs(entries[:middle])
            self._append_blobs(entries[middle:])
            return
        self._append_blob(len(entries), blob)

    def _append_blob(self, count: int, blob: bytes) -> None:
        self._group_sizes.append(count)
        self._group_blobs.append(blob)
        self._blob_bytes += len(blob)

    def put_once(self, value: Any) -> ObjectRef:
        """The object of a constant, which is made the first time."""
        ref = self._put_refs.get(id(value))
        if ref is None:
            ref = self._put_refs[id(value)] = self._put(value)
            self._kept.append(value)
        return ref

    def _blame(self, error: UnpicklableError) -> UnpicklableError:
        """The error of the first task of the open group that can't be pickled."""
        position = len(self._function_numbers) - len(self._entries)
        for number, entry in enumerate(self._entries):
            try:
                dump_with(entry, [])
            except UnpicklableError as own:
                return self._task_error(position + number, own)
        return self._task_error(position, error)

    def _task_error(self, position: int, error: UnpicklableError) -> UnpicklableTaskError:
        name = self._names[position] or "a task"
        return UnpicklableTaskError(f"{name!s} can't be sent to a worker: {error}")
