"""Running batches: frames are taken in, functions and groups kept, tasks run in order and reported.

The parts: ray._worker.running has what runs and interrupts it, inputs what it is given, outcomes what is
reported of it, actors the actor if there is one.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from time import perf_counter_ns
from typing import Any, Deque, Dict, List, Optional

from ray import _shield
from ray._calls import run
from ray._serialize import SIMPLE_TYPES, dump_simple
from ray._session import Session
from ray._wire import session_pb2 as wire
from ray._worker.actors import Actor
from ray._worker.code import Function, Group
from ray._worker.inputs import Inputs, are_shared
from ray._worker.iterators import LAZY_TYPES, delivered
from ray._worker.outcomes import Outcomes, cancelled_failure
from ray._worker.reports import FAILED, HANDED_BACK, Reports
from ray._worker.running import Running
from ray._worker.writes import Writers, was_refused

_REPORT_AFTER_NS = 1_000_000
_REPORT_RESULTS_MAX = 64
_REPORT_BYTES_MAX = 1 << 20
_SHORT_NS = 1_000_000
_SIMPLE_BYTES_MAX = 4096
_FUNCTION = wire.FunctionDef.FUNCTION
_ACTOR_CLASS = wire.FunctionDef.ACTOR_CLASS
_SIZED_TYPES = frozenset({str, bytes})


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
        self.running = Running(session)
        self.reports = Reports(session)
        self.blocking = _Blocking(self)
        self.streams: List[Any] = []
        self.leaving = False
        self._functions: Dict[int, Function] = {}
        self._groups: Dict[int, Group] = {}
        self._batches: Deque[wire.RunBatch] = deque()
        self._inputs: Any = None  # of the running batch
        self._last_read = 0
        self._outcomes = Outcomes(session)
        self._actor = Actor(session, self.running)
        self._blocked = False
        self._last_report_ns = 0

    # ------------------------------------------------------------ frames

    def take_frame(self, body: str, frame: Any) -> None:
        """A frame for workers; by whichever thread reads."""
        if body == "run_batch":
            self._take_in(frame)
        elif body == "cancel_task":
            self.running.take_cancel(frame)
        elif body in ("exit", "lost"):
            self.leaving = True
            if body == "lost" and self.running.in_user_code and not self._session.closed:
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
        if gap or (self._blocked and not self._actor.lives_here):
            self._hand_back(batch, 0, self._inputs_of(batch))
        else:
            self._batches.append(batch)

    def next_batch(self) -> Optional[wire.RunBatch]:
        return self._batches.popleft() if self._batches else None

    def _set_up(self, setup: wire.JobSetup) -> None:
        """What the job needs so that this process can import what the driver can.

        A worker serves one job as long as it lives, so nothing of an earlier one has to be taken back.
        """
        os.environ.update(setup.environment)
        # The driver's own order; what only this process has comes after.
        sys.path[:] = list(setup.sys_path) + [p for p in sys.path if p not in set(setup.sys_path)]
        if setup.working_directory:
            try:
                os.chdir(setup.working_directory)
            except OSError as error:
                print(
                    f"worker: can't change to the driver's directory {setup.working_directory}: {error}",
                    file=sys.__stderr__, flush=True,
                )

    def _inputs_of(self, batch: wire.RunBatch) -> Inputs:
        return Inputs(self._session, batch, list(batch.inputs))

    def _hand_back(self, batch: wire.RunBatch, first: int, inputs: Inputs) -> None:
        """Never started: give the tasks from `first` on to someone else."""
        count = len(batch.tasks)
        if first >= count:
            return
        positions = list(range(first, count))
        inputs.skip(first)
        self._session.send(
            wire.ClientFrame(
                results=wire.Results(
                    batch=batch.batch, positions=positions, statuses=[HANDED_BACK] * len(positions),
                    durations_us=[0] * len(positions),
                )
            )
        )

    # ------------------------------------------------------------ waiting inside a task

    def block(self) -> None:
        if self.running.batch is None or self._blocked:
            return
        self._blocked = True
        self.hand_back_rest()
        self._session.send(wire.ClientFrame(blocked=wire.Blocked(blocked=True)))

    def hand_back_rest(self) -> None:
        """Whatever was given to this worker behind the running task goes to others."""
        running = self.running
        if running.batch is None or self._actor.lives_here or not _shield.is_main_thread():
            return
        end, running.end = running.end, running.position + 1
        if end > running.end:
            self._session.flush()
            self._hand_back(running.batch, running.end, self._inputs)
        while self._batches:
            batch = self._batches.popleft()
            self._hand_back(batch, 0, self._inputs_of(batch))

    def unblock(self) -> None:
        if self._blocked:
            self._blocked = False
            if self._session.lost is None:
                self._session.send(wire.ClientFrame(blocked=wire.Blocked(blocked=False)))

    # ------------------------------------------------------------ batches

    def run_batch(self, batch: wire.RunBatch) -> None:
        """Run a batch in order and report all of it."""
        session, reports, running = self._session, self.reports, self.running
        outcomes, actor = self._outcomes, self._actor
        functions, groups = self._functions, self._groups
        reports.batch = batch.batch
        running.batch = batch
        running.end = len(batch.tasks)
        function_numbers = list(batch.function_numbers)
        group_numbers = list(batch.group_numbers)
        group_positions = list(batch.group_positions)
        input_counts = list(batch.input_counts)
        return_counts = list(batch.return_counts)
        name_numbers = list(batch.name_numbers)
        all_encoded = list(batch.inputs)
        inputs = self._inputs = Inputs(session, batch, all_encoded)
        kept, kept_positions = inputs.kept, inputs.kept_positions
        names = batch.names
        input_at = 0
        self._last_report_ns = perf_counter_ns()
        position = 0
        while position < running.end:
            function = functions[function_numbers[position]]
            running.position = position
            running.parent = None
            running.name = (names[name_numbers[position]] if name_numbers else "") or function.name
            if reports.count and (
                not 0 <= function.mean_ns < _SHORT_NS
                or reports.count >= _REPORT_RESULTS_MAX
                or reports.bytes >= _REPORT_BYTES_MAX
            ):
                self._report()
            input_count = input_counts[position] if input_counts else 0
            encoded = all_encoded[input_at : input_at + input_count] if input_count else ()
            input_at += input_count
            if running.cancelled and (batch.batch, position) in running.cancelled:
                inputs.done_with(encoded)
                reports.add_failure(position, FAILED, cancelled_failure(running.name))
                position += 1
                continue
            values: List[Any] = []
            started = perf_counter_ns()
            try:
                running.in_user_code = True
                entry = groups[group_numbers[position]].take(group_positions[position])
                if encoded:
                    writers = function.writers
                    missing = inputs.load(
                        encoded, values, writers is not None and writers.has(function.call, entry)
                    )
                    if missing:
                        running.in_user_code = False
                        reports.add_failure(position, HANDED_BACK, None)
                        values = []
                        inputs.done_with(encoded)
                        position += 1
                        continue
                if function.kind == _FUNCTION:
                    call = function.call
                    if call is None:
                        call = function.unpickle()
                    try:
                        value = run(call, entry, values)
                    except Exception as error:
                        if not (encoded and was_refused(error)):
                            raise
                        if function.writers is None:
                            function.writers = Writers()
                        function.writers.add(call, entry)
                        if not are_shared(encoded):
                            running.in_user_code = False
                            reports.add_failure(position, HANDED_BACK, None)
                            values = []
                            inputs.done_with(encoded)
                            position += 1
                            continue
                        del error
                        entry = groups[group_numbers[position]].take(group_positions[position])
                        values = []
                        inputs.load(encoded, values, True)
                        value = run(call, entry, values)
                    if type(value) in LAZY_TYPES:
                        value = delivered(value)
                elif function.kind == _ACTOR_CLASS:
                    actor.make(function.call or function.unpickle(), entry, values)
                    value = None
                else:
                    value = actor.call(function, entry, values)
                running.in_user_code = False
                duration_ns = perf_counter_ns() - started
                returns = return_counts[position] if return_counts else 1
                if returns == 1 and type(value) in SIMPLE_TYPES and (
                    type(value) not in _SIZED_TYPES or len(value) < _SIMPLE_BYTES_MAX
                ):
                    reports.add_inline(position, dump_simple(value), duration_ns // 1000)
                    if position in kept_positions:
                        kept[position] = [value]
                else:
                    each, serialized = outcomes.results(value, returns)
                    reports.add(position, outcomes.sent(serialized), duration_ns // 1000)
                    if position in kept_positions:
                        inputs.keep(position, each, serialized)
                    each = serialized = None  # type: ignore[assignment]
                value = None
            except BaseException as error:
                running.in_user_code = False
                duration_ns = perf_counter_ns() - started
                cancelled = (batch.batch, position) in running.cancelled
                status, failure = outcomes.failure(error, running.name, batch, position, cancelled)
                reports.add_failure(position, status, failure, duration_ns // 1000)
                del error
            values = entry = None  # type: ignore[assignment]
            if encoded:
                inputs.done_with(encoded)
            mean = function.mean_ns
            function.mean_ns = duration_ns if mean < 0 else (3 * mean + duration_ns) // 4
            if session.pending_calls is not None:
                session.close_calls()
            if running.cancelled:
                running.forget_cancel(batch.batch, position)
            if duration_ns >= _REPORT_AFTER_NS or started - self._last_report_ns > _REPORT_AFTER_NS:
                self._report()
            position += 1
        self._report()
        running.name = ""
        running.batch = self._inputs = None
        running.parent = None

    def _report(self) -> None:
        for stream in self.streams:
            if stream.waits:
                stream.flush_lines()
        self._session.flush()
        self._last_report_ns = perf_counter_ns()
