"""GraphBuilder: turns tasks into the columns of GraphChunk messages and sends each as soon as it is full.

What always holds: tasks are numbered in the order in which they are added; a group's pickle is whole in one
chunk; at most one chunk's columns and one group's arguments are held at a time, so a graph of any size is
sent in bounded memory. Constants over BIG_BYTES are put as objects, once each, and become dependencies.
"""

from __future__ import annotations

import pickle
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

from ray._calls import (
    INPUTS, NODES, Apply, Build, Call, Dep, Nested, Program, Quote, apply_function, dep,
)
from ray._functions import FunctionTable, function_name
from ray._ref import ObjectRef
from ray._serialize import UnpicklableError, dump_with
from ray._wire import session_pb2 as wire

GROUP_TASKS_MAX = 64
GROUP_BYTES_MAX = 64 << 10
CHUNK_TASKS_MAX = 16 << 10
CHUNK_BYTES_MAX = 2 << 20
# A constant larger than this is put once instead of being sent with every group that needs it.
BIG_BYTES = 64 << 10

# In `deps`, the number of the result that is meant stands above this bit.
RESULT_SHIFT = 48
_DEP_MASK = (1 << RESULT_SHIFT) - 1
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


class GraphBuilder:
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
        self.graph = graph
        self.task_count = 0  # of closed groups
        self.return_count = 1  # results of every task
        self._functions = functions
        self._send = send
        self._put = put
        self._resolve_nested = resolve_nested
        self._header = {
            "fail_fast": fail_fast, "report_progress": report_progress, "hold_all": hold_all,
            "graph_name": name,
        }
        # By id of the function; what is missing, or None, is for function_number().
        self.numbers: Dict[int, Optional[int]] = {}
        self._kept: List[Any] = []  # so that ids in the two dicts stay their objects' own
        self._put_refs: Dict[int, ObjectRef] = {}  # by id of the constant
        self._option_numbers: Dict[bytes, int] = {}
        self._options: List[wire.TaskOptions] = []
        self._has_pieces = False  # some task so far has several results
        self._all_wanted: Set[int] = set()
        self._group_tasks = GROUP_TASKS_MAX  # how many tasks the next group should have
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

    def next_has_results(self, count: int) -> None:
        """The task that is added next returns `count` results, as a list or tuple."""
        if count != 1:
            self._result_counts[len(self._function_numbers)] = count
            self._has_pieces = True

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
        ref = self._put_once(function)
        deps = list(deps) + [self.external(ref)]
        place = dep(len(deps) - 1)
        number = self.function_number(apply_function)
        assert number is not None
        name = name or function_name(function)
        return self.add(number, _with_first(place, entry, len(deps) - 1), deps, name, options)

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
        chunk = wire.GraphChunk(
            graph=self.graph,
            first_task=self._first_task,
            task_count=count,
            last=last,
            function_numbers=self._function_numbers,
            group_sizes=self._group_sizes,
            group_blobs=self._group_blobs,
            wanted=self._wanted,
        )
        if self._first_task == 0:
            for field, value in self._header.items():
                setattr(chunk, field, value)
        if self.return_count != 1:
            chunk.return_counts.extend([self.return_count] * count)
        if self._deps:
            chunk.dep_counts.extend(self._dep_counts)
            self._add_deps(chunk)
        if self._externals:
            chunk.externals.extend(self._externals)
        self._add_sparse_columns(chunk, count)
        references = self._references
        self._start_chunk(self._first_task + count)
        self._send(chunk, references)

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
                lifted = _Lifter(self, task_deps).entry(entry)
            except UnpicklableError as error:
                raise self._task_error(position + number, error) from error.__cause__
            self._entries.append(lifted)
            self._dep_counts.append(len(task_deps))
            self._deps.extend(task_deps)
        self._close_pieces(self._entries, position)

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
                    entry = _Lifter(self, task_deps).entry(entry)
                done.append(entry)
                self._dep_counts.append(len(task_deps))
                self._deps.extend(task_deps)
            if lift:
                self._append_blobs(done[start:], position + start)
            else:
                assert blob is not None
                self._append_blob(len(piece), blob)
        self.task_count += len(entries)
        self._entries = []

    def _close_pieces(self, entries: List[Any], position: int) -> None:
        self._append_blobs(entries, position)
        self.task_count += len(entries)
        self._entries = []

    def _append_blobs(self, entries: List[Any], position: int) -> None:
        """Pickle lifted entries, in as few groups as the limit allows."""
        contained: List[bytes] = []
        blob = dump_with(entries, contained)
        if len(blob) > GROUP_BYTES_MAX and len(entries) > 1:
            middle = len(entries) // 2
            self._append_blobs(entries[:middle], position)
            self._append_blobs(entries[middle:], position + middle)
            return
        self._append_blob(len(entries), blob)

    def _append_blob(self, count: int, blob: bytes) -> None:
        self._group_sizes.append(count)
        self._group_blobs.append(blob)
        self._blob_bytes += len(blob)

    def next_position(self) -> int:
        """Where in the chunk the task is whose entry is being rewritten."""
        return len(self._dep_counts)

    def borrow(self, position: int, ids: Sequence[bytes]) -> None:
        """The task at `position` of the chunk holds these references inside its arguments."""
        self._borrows.setdefault(position, []).extend(self._external_number(id) for id in ids)

    def _put_once(self, value: Any) -> ObjectRef:
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


class _Lifter:
    """Rewrites one task's entry: references and large constants become dependencies."""

    def __init__(self, builder: GraphBuilder, deps: List[int]) -> None:
        self._builder = builder
        self._deps = deps  # grows

    def entry(self, entry: Any) -> Any:
        if entry is INPUTS:
            return entry
        if type(entry) is Program:
            return self._node(entry)
        args: Tuple[Any, ...] = entry if type(entry) is tuple else entry.args
        kwargs: Dict[str, Any] = {} if type(entry) is tuple else entry.kwargs
        new_args = tuple([self.value(a) for a in args])
        new_kwargs = {name: self.value(a) for name, a in kwargs.items()}
        changed = list(new_args) + list(new_kwargs.values())
        if any(type(a) in NODES and type(a) is not Dep for a in changed):
            return Nested(new_args, new_kwargs)
        return Call(new_args, new_kwargs) if new_kwargs else new_args

    def value(self, value: Any) -> Any:
        kind = type(value)
        if kind in NODES:
            return self._node(value)
        if self._builder._resolve_nested:
            value = self._references(value)
            if type(value) in NODES:
                return self._node(value)
        contained: List[bytes] = []
        buffer_bytes = 0

        def count(buffer: pickle.PickleBuffer) -> bool:
            nonlocal buffer_bytes
            try:
                size = buffer.raw().nbytes
            except BufferError:
                return True
            if size < 1024:
                return True
            buffer_bytes += size
            return False

        blob = dump_with(value, contained, count)
        if len(blob) + buffer_bytes > BIG_BYTES:
            return self._dependency(self._builder._put_once(value))
        if contained:
            position = self._builder.next_position()
            self._builder.borrow(position, contained)
        return value

    def _node(self, node: Any) -> Any:
        kind = type(node)
        if kind is Build:
            if node.items is INPUTS:
                return node
            return Build(node.kind, [self.value(item) for item in node.items])
        if kind is Apply:
            kwargs = {name: self.value(a) for name, a in node.kwargs.items()}
            return Apply(node.function, tuple([self.value(a) for a in node.args]), kwargs)
        if kind is Program:
            return self._program(node)
        if kind is Quote:
            return Quote(self.entry(node.entry))
        return node

    def _program(self, program: Program) -> Program:
        steps = []
        for function, args, kwargs in program.steps:
            named = kwargs and {name: self.value(a) for name, a in kwargs.items()}
            steps.append((function, tuple([self.value(a) for a in args]), named))
        return Program(tuple(steps), program.drops, self.value(program.result))

    def _references(self, value: Any) -> Any:
        """The value, with nodes in place of the references in its containers."""
        kind = type(value)
        if kind is ObjectRef:
            return self._dependency(value)
        if kind in (list, tuple, set, frozenset):
            items = [self._references(item) for item in value]
            if any(type(item) in NODES for item in items):
                return Build(kind, items)
        elif kind is dict:
            items = []
            for key, item in value.items():
                items += (key, self._references(item))
            if any(type(item) in NODES for item in items):
                return Build(dict, items)
        return value

    def _dependency(self, ref: ObjectRef) -> Dep:
        encoded = self._builder.external(ref)
        try:
            return dep(self._deps.index(encoded))
        except ValueError:
            self._deps.append(encoded)
            return dep(len(self._deps) - 1)


def explicit(entry: Any, input_count: int) -> Any:
    """The same entry for a task that has more dependencies than those `input_count` of its own."""
    if entry is INPUTS:
        return tuple([dep(index) for index in range(input_count)])
    if type(entry) is Nested and len(entry.args) == 1 and type(entry.args[0]) is Build:
        build = entry.args[0]
        if build.items is INPUTS:
            items = [dep(index) for index in range(input_count)]
            return Nested((Build(build.kind, items),), entry.kwargs)
    return entry


def _with_first(first: Any, entry: Any, input_count: int) -> Any:
    """The entry with one more positional argument, in front."""
    entry = explicit(entry, input_count)
    if type(entry) is tuple:
        return (first,) + entry
    if type(entry) is Program:  # has its own functions; this one is only its name
        return entry
    return type(entry)((first,) + entry.args, entry.kwargs)
