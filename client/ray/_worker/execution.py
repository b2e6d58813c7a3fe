"""Running batches: functions and groups are kept, inputs unpickled, results gathered and reported.

How an interrupt finds its task: the raylet sends CancelTask over the session's socket and SIGINT right
after. The signal's handler runs in the main thread; if user code is running it takes in what has come on
the socket, and raises KeyboardInterrupt only if a CancelTask there names the very batch and position that
run. So a late cancel never hits the next task, and a stray SIGINT nothing at all. While a thread waits in
ray.get, the reading thread finds the frame by itself. A task that is cancelled before its turn is reported
as cancelled when its turn comes.
"""

from __future__ import annotations

import inspect
import os
import pickle
import signal
import sys
from collections import deque
from time import perf_counter_ns
from typing import Any, Callable, Deque, Dict, List, Optional, Set, Tuple

from ray import _shield
from ray._calls import run
from ray._calls_buffer import Parent
from ray._failures import from_exception
from ray._serialize import (
    SIMPLE_TYPES, UnpicklableError, deserialize, dump_simple, serialize,
)
from ray._session import Session
from ray._wire import common_pb2 as wire_common
from ray._wire import session_pb2 as wire
from ray._worker.code import Function, Group, NotPicklable, unpicklable_failure, why
from ray._worker.reports import FAILED, HANDED_BACK, RETRY, Reports

_REPORT_AFTER_NS = 1_000_000
_REPORT_RESULTS_MAX = 64
_REPORT_BYTES_MAX = 1 << 20
_SHORT_NS = 1_000_000
_SIMPLE_BYTES_MAX = 4096
_FUNCTION = wire.FunctionDef.FUNCTION
_ACTOR_CLASS = wire.FunctionDef.ACTOR_CLASS
_SIZED_TYPES = frozenset({str, bytes})
_NOT_MADE = object()


class _Blocking:
    """Entered while the running task really waits: what else was given to this worker goes back."""

    def __init__(self, execution: "Execution") -> None:
        self._execution = execution

    def __enter__(self) -> None:
        if _shield.is_main_thread():
            self._execution.block()

    def __exit__(self, *reason: Any) -> None:
        if _shield.is_main_thread():
            self._execution.unblock()


class Execution:
    """Everything about running tasks in this worker. For the main thread, except where said."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.reports = Reports(session)
        self.blocking = _Blocking(self)
        self.streams: List[Any] = []
        self.leaving = False
        self._functions: Dict[int, Function] = {}
        self._groups: Dict[int, Group] = {}
        self._batches: Deque[wire.RunBatch] = deque()
        self._last_read = 0
        self._filters: Dict[bytes, Any] = {}
        self._actor: Any = None
        self._actor_class = ""
        self._loop: Any = None
        # The task that runs.
        self._batch: Optional[wire.RunBatch] = None
        self._position = 0
        self._end = 0  # of the batch; smaller once the rest was handed back
        self._name = ""
        self._parent: Optional[Parent] = None
        self._in_user_code = False
        self._blocked = False
        self._cancelled: Set[Tuple[int, int]] = set()
        self._interrupted: Optional[Tuple[int, int]] = None
        self._last_report_ns = 0

    # ------------------------------------------------------------ what runs

    def running_name(self) -> str:
        """For the lines that it prints; any thread."""
        return self._name

    def current_task(self) -> Optional[Parent]:
        """The running task as the parent of what it submits; any thread."""
        batch = self._batch
        if batch is None or not self._name:
            return None
        parent = self._parent
        if parent is None:
            position = self._position
            graph = batch.graphs[batch.graph_numbers[position] if batch.graph_numbers else 0]
            attempt = batch.attempts[position] if batch.attempts else 0
            parent = self._parent = Parent(
                graph, batch.tasks[position], attempt, batch.batch, position, self._name
            )
        return parent

    # ------------------------------------------------------------ frames

    def take_frame(self, body: str, frame: Any) -> None:
        """A frame for workers; by whichever thread reads."""
        if body == "run_batch":
            self._take_in(frame)
        elif body == "cancel_task":
            self._take_cancel(frame)
        elif body in ("exit", "lost"):
            self.leaving = True
            if body == "lost" and self._in_user_code and not self._session.closed:
                os._exit(1)

    def _take_in(self, batch: wire.RunBatch) -> None:
        for definition in batch.functions:
            self._functions[definition.number] = Function(definition)
        for group in batch.groups:
            self._groups[group.number] = Group(group.blob)
        for number in batch.dropped_groups:
            self._groups.pop(number, None)
        gap = batch.follows and batch.follows != self._last_read
        self._last_read = batch.batch
        if batch.job:
            self._session.job = batch.job
        if batch.HasField("setup"):
            self._set_up(batch.setup)
        if gap or (self._blocked and self._actor is None):
            self._hand_back(batch, 0)
        else:
            self._batches.append(batch)

    def next_batch(self) -> Optional[wire.RunBatch]:
        return self._batches.popleft() if self._batches else None

    def _set_up(self, setup: wire.JobSetup) -> None:
        """What the job needs so that this process can import what the driver can."""
        os.environ.update(setup.environment)
        known = set(sys.path)
        paths = [path for path in setup.sys_path if path not in known]
        # The driver's own order; what only this process has comes after.
        sys.path[:] = list(setup.sys_path) + [p for p in sys.path if p not in set(setup.sys_path)]
        del paths
        if setup.working_directory:
            try:
                os.chdir(setup.working_directory)
            except OSError as error:
                print(
                    f"worker: can't change to the driver's directory {setup.working_directory}: {error}",
                    file=sys.__stderr__, flush=True,
                )

    def _hand_back(self, batch: wire.RunBatch, first: int) -> None:
        """Never started: give the tasks from `first` on to someone else."""
        count = len(batch.tasks)
        if first >= count:
            return
        positions = list(range(first, count))
        self._unpin(batch, positions)
        self._session.send(
            wire.ClientFrame(
                results=wire.Results(
                    batch=batch.batch, positions=positions, statuses=[HANDED_BACK] * len(positions),
                    durations_us=[0] * len(positions),
                )
            )
        )

    def _unpin(self, batch: wire.RunBatch, positions: List[int]) -> None:
        """The inputs of tasks that will not run here were pinned all the same."""
        if not batch.located_inputs:
            return
        references = self._session.references
        starts = self._input_starts(batch)
        for position in positions:
            for encoded in batch.inputs[starts[position] : starts[position + 1]]:
                if encoded & 3 == wire.INPUT_LOCATED:
                    number = encoded >> 2
                    references.pins += 1
                    references.unpinned.append(
                        batch.located_ids[28 * number : 28 * number + 28]
                    )

    @staticmethod
    def _input_starts(batch: wire.RunBatch) -> List[int]:
        starts = [0]
        for count in batch.input_counts or [0] * len(batch.tasks):
            starts.append(starts[-1] + count)
        return starts

    # ------------------------------------------------------------ waiting inside a task

    def block(self) -> None:
        batch = self._batch
        if batch is None or self._blocked:
            return
        if self._actor is None:
            self._blocked = True
            end, self._end = self._end, self._position + 1
            if end > self._end:
                self._session.flush()
                self._hand_back(batch, self._end)
            while self._batches:
                self._hand_back(self._batches.popleft(), 0)
        else:
            self._blocked = True
        self._session.send(wire.ClientFrame(blocked=wire.Blocked(blocked=True)))

    def unblock(self) -> None:
        if self._blocked:
            self._blocked = False
            if self._session.lost is None:
                self._session.send(wire.ClientFrame(blocked=wire.Blocked(blocked=False)))

    # ------------------------------------------------------------ interrupts

    def on_interrupt(self, number: int, frame: Any) -> None:
        """SIGINT; in the main thread, between two bytecodes."""
        if _shield.shield.depth:
            _shield.shield.pending = True
        elif self._in_user_code:
            # Takes in the CancelTask, if there is one; deliver_interrupt() raises from in there.
            self._session.waiting.try_read()

    def deliver_interrupt(self) -> None:
        """Raises KeyboardInterrupt if the task that runs was cancelled."""
        if not self._in_user_code or self._batch is None:
            return
        running = (self._batch.batch, self._position)
        if running in self._cancelled and self._interrupted != running:
            self._interrupted = running
            raise KeyboardInterrupt

    def _take_cancel(self, cancel: wire.CancelTask) -> None:
        named = (cancel.batch, cancel.position)
        batch = self._batch
        running = None if batch is None else (batch.batch, self._position)
        if running is not None and named < running:
            return  # done already
        self._cancelled.add(named)
        if named == running and self._in_user_code:
            if _shield.is_main_thread():
                _shield.shield.pending = True
            else:
                signal.pthread_kill(_shield.MAIN_THREAD, signal.SIGINT)

    # ------------------------------------------------------------ batches

    def run_batch(self, batch: wire.RunBatch) -> None:
        """Run a batch in order and report all of it."""
        reports = self.reports
        reports.batch = batch.batch
        self._batch = batch
        functions, groups = self._functions, self._groups
        count = len(batch.tasks)
        self._end = count
        function_numbers = list(batch.function_numbers)
        group_numbers = list(batch.group_numbers)
        group_positions = list(batch.group_positions)
        input_counts = list(batch.input_counts)
        return_counts = list(batch.return_counts)
        name_numbers = list(batch.name_numbers)
        inputs = list(batch.inputs)
        inline_inputs = list(batch.inline_inputs) if inputs else []
        names = batch.names
        kept_positions = {encoded >> 10 for encoded in inputs if encoded & 3 == wire.INPUT_EARLIER}
        kept: Dict[int, List[Any]] = {}
        input_at = 0
        session = self._session
        self._last_report_ns = perf_counter_ns()
        position = 0
        while position < self._end:
            function = functions[function_numbers[position]]
            self._position = position
            self._parent = None
            self._name = (names[name_numbers[position]] if name_numbers else "") or function.name
            if reports.count and (
                not 0 <= function.mean_ns < _SHORT_NS
                or reports.count >= _REPORT_RESULTS_MAX
                or reports.bytes >= _REPORT_BYTES_MAX
            ):
                self._report()
            input_count = input_counts[position] if input_counts else 0
            encoded = inputs[input_at : input_at + input_count] if input_count else ()
            input_at += input_count
            if self._cancelled and (batch.batch, position) in self._cancelled:
                self._unpin(batch, [position])
                reports.add_failure(position, FAILED, self._cancelled_failure())
                position += 1
                continue
            values: List[Any] = []
            started = perf_counter_ns()
            try:
                self._in_user_code = True
                if encoded:
                    missing = self._load_inputs(batch, encoded, inline_inputs, kept, values)
                    if missing:
                        self._in_user_code = False
                        reports.add_failure(position, HANDED_BACK, None)
                        position += 1
                        continue
                entry = self._entry(groups, group_numbers[position], group_positions[position])
                if function.kind == _FUNCTION:
                    call = function.call
                    if call is None:
                        call = self._unpickle_function(function)
                    value = run(call, entry, values)
                else:
                    value = self._run_actor_task(function, entry, values, batch, position)
                self._in_user_code = False
                duration_ns = perf_counter_ns() - started
                returns = return_counts[position] if return_counts else 1
                if returns == 1 and type(value) in SIMPLE_TYPES and (
                    type(value) not in _SIZED_TYPES or len(value) < _SIMPLE_BYTES_MAX
                ):
                    reports.add_inline(position, dump_simple(value), duration_ns // 1000)
                    if position in kept_positions:
                        kept[position] = [value]
                else:
                    results = self._results(value, returns)
                    reports.add(position, results, duration_ns // 1000)
                    if position in kept_positions:
                        kept[position] = [value] if returns == 1 else list(value)
                value = None
            except BaseException as error:
                self._in_user_code = False
                duration_ns = perf_counter_ns() - started
                self._report_error(position, function, error, duration_ns // 1000)
                del error
            values = entry = None  # type: ignore[assignment]
            mean = function.mean_ns
            function.mean_ns = duration_ns if mean < 0 else (3 * mean + duration_ns) // 4
            if session.pending_calls is not None:
                session.close_calls()
            if self._interrupted is not None or self._cancelled:
                self._forget_cancel(batch.batch, position)
            if duration_ns >= _REPORT_AFTER_NS or started - self._last_report_ns > _REPORT_AFTER_NS:
                self._report()
            position += 1
        self._report()
        self._name = ""
        self._batch = None
        self._parent = None

    def _report(self) -> None:
        for stream in self.streams:
            if stream.waits:
                stream.flush_lines()
        self._session.flush()
        self._last_report_ns = perf_counter_ns()

    @staticmethod
    def _entry(groups: Dict[int, Group], number: int, position: int) -> Any:
        try:
            return groups[number].take(position)
        except KeyError:
            raise
        except Exception as error:
            raise NotPicklable(
                f"its arguments could not be unpickled on the worker: {why(error)}", error
            ) from error

    def _load_inputs(
        self, batch: wire.RunBatch, encoded: Any, inline_inputs: List[bytes],
        kept: Dict[int, List[Any]], values: List[Any],
    ) -> bool:
        """Fills `values`; whether an earlier task of the batch that had to make one failed."""
        missing = False
        for number, one in enumerate(encoded):
            kind, index = one & 3, one >> 2
            try:
                if kind == wire.INPUT_INLINE:
                    values.append(deserialize(inline_inputs[index]))
                elif kind == wire.INPUT_LOCATED:
                    at = batch.located_inputs[index]
                    located = self._session.store.locate(
                        batch.located_ids[28 * index : 28 * index + 28], at.segment, at.offset,
                        at.size_bytes,
                    )
                    values.append(deserialize(located.view))
                else:
                    earlier = kept.get(index >> 8)
                    if earlier is None:
                        missing = True
                    else:
                        values.append(earlier[index & 255])
            except Exception as error:
                raise NotPicklable(
                    f"its input {number} could not be unpickled on the worker: {why(error)}", error
                ) from error
        return missing

    def _unpickle_function(self, function: Function) -> Callable:
        try:
            call = function.call = pickle.loads(function.pickled)
        except Exception as error:
            raise NotPicklable(
                f"its code could not be unpickled on the worker: {why(error)}", error
            ) from error
        return call

    def _results(self, value: Any, returns: int) -> List[Tuple[Any, List[bytes]]]:
        if returns == 1:
            return [self._result(value, "its result")]
        if returns == 0:
            return []
        if not isinstance(value, (tuple, list)) and hasattr(value, "__iter__"):
            value = list(value)
        if not isinstance(value, (tuple, list)) or len(value) != returns:
            count = len(value) if isinstance(value, (tuple, list)) else 1
            raise ValueError(
                f"Task returned {count} objects, but num_returns={returns}: a function with num_returns > 1 "
                "must return as many values, as a tuple or list."
            )
        return [self._result(one, f"its result {i}") for i, one in enumerate(value)]

    def _result(self, value: Any, what: str) -> Tuple[Any, List[bytes]]:
        try:
            serialized = serialize(value)
        except UnpicklableError as error:
            raise NotPicklable(f"{what} can't be pickled: {error}", error) from error
        session = self._session
        if serialized.size_bytes <= session.inline_bytes_max:
            return serialized.to_bytes(), serialized.contained  # type: ignore[return-value]
        return session.seal(serialized), serialized.contained  # type: ignore[return-value]

    # ------------------------------------------------------------ actors

    def _run_actor_task(
        self, function: Function, entry: Any, values: List[Any], batch: wire.RunBatch, position: int
    ) -> Any:
        if function.kind == _ACTOR_CLASS:
            cls = function.call or self._unpickle_function(function)
            self._actor_class = function.name
            task = batch.tasks[position]
            graph = batch.graphs[batch.graph_numbers[position] if batch.graph_numbers else 0]
            self._session.actor_id = graph + task.to_bytes(8, "big") + bytes(4)
            self._actor = _NOT_MADE
            self._actor = run(cls, entry, values)
            return None
        if self._actor is None or self._actor is _NOT_MADE:
            raise RuntimeError(f"the actor was not made here, so {function.name} can't be called")
        value = run(getattr(self._actor, function.name), entry, values)
        if inspect.iscoroutine(value):
            import asyncio

            if self._loop is None:
                self._loop = asyncio.new_event_loop()
            value = self._loop.run_until_complete(value)
        return value

    # ------------------------------------------------------------ what goes wrong

    def _report_error(
        self, position: int, function: Function, error: BaseException, duration_us: int
    ) -> None:
        reports = self.reports
        name = self._name
        assert self._batch is not None
        running = (self._batch.batch, position)
        if isinstance(error, KeyboardInterrupt) and running in self._cancelled:
            reports.add_failure(position, FAILED, self._cancelled_failure(), duration_us)
            return
        if isinstance(error, NotPicklable):
            failure = unpicklable_failure(error, name)
            reports.add_failure(position, FAILED, failure, duration_us)
            return
        if isinstance(error, UnpicklableError):
            failure = unpicklable_failure(NotPicklable(str(error), error), name)
            reports.add_failure(position, FAILED, failure, duration_us)
            return
        failure = from_exception(error, name, skip_frames=2)
        status = RETRY if self._is_worth_a_retry(position, error) else FAILED
        reports.add_failure(position, status, failure, duration_us)

    def _is_worth_a_retry(self, position: int, error: BaseException) -> bool:
        batch = self._batch
        assert batch is not None
        if not batch.retry_numbers or not isinstance(error, Exception):
            return False
        number = batch.retry_numbers[position]
        if number < 2:
            return number == 1
        pickled = batch.retry_exceptions[number - 2]
        classes = self._filters.get(pickled)
        if classes is None:
            try:
                classes = deserialize(pickled)
            except Exception:
                classes = ()
            self._filters[pickled] = classes
        return isinstance(error, classes)

    def _cancelled_failure(self) -> wire_common.Failure:
        return wire_common.Failure(
            code=wire_common.TASK_CANCELLED, message=f"{self._name} was cancelled",
            task_name=self._name, pid=os.getpid(),
        )

    def _forget_cancel(self, batch: int, position: int) -> None:
        self._interrupted = None
        self._cancelled = {named for named in self._cancelled if named > (batch, position)}
