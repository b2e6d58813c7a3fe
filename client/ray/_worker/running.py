"""What a worker runs at this moment, and how an interrupt finds it.

The raylet sends CancelTask over the session's socket and SIGINT right after. The signal's handler runs in the
main thread; if user code is running it takes in what has come on the socket, and raises KeyboardInterrupt only
if a CancelTask there names the very batch and position that run. So a late cancel never hits the next task, and
a stray SIGINT nothing at all. While a thread waits in ray.get, the reading thread finds the frame by itself. A
task that is cancelled before its turn is reported as cancelled when its turn comes.
"""

from __future__ import annotations

import signal
from typing import Any, Optional, Set, Tuple

from ray import _shield
from ray._calls_buffer import Parent
from ray._session import Session
from ray._wire import session_pb2 as wire


class Running:
    """The task that runs. Written by the main thread; `current_task` and `name` are for any thread."""

    __slots__ = (
        "batch", "position", "end", "name", "parent", "in_user_code", "cancelled", "_interrupted", "_session",
    )

    def __init__(self, session: Session) -> None:
        self.batch: Optional[wire.RunBatch] = None
        self.position = 0
        self.end = 0  # of the batch; smaller once the rest was handed back
        self.name = ""
        self.parent: Optional[Parent] = None
        self.in_user_code = False
        self.cancelled: Set[Tuple[int, int]] = set()  # batches and positions
        self._interrupted: Optional[Tuple[int, int]] = None
        self._session = session

    def current_name(self) -> str:
        """For the lines that it prints."""
        return self.name

    def current_graph(self) -> Optional[bytes]:
        """The graph of the running task."""
        batch = self.batch
        if batch is None:
            return None
        return batch.graphs[batch.graph_numbers[self.position] if batch.graph_numbers else 0]

    def current_task(self) -> Optional[Parent]:
        """The running task as the parent of what it submits."""
        batch = self.batch
        if batch is None or not self.name:
            return None
        parent = self.parent
        if parent is None:
            position = self.position
            graph = self.current_graph()
            assert graph is not None
            attempt = batch.attempts[position] if batch.attempts else 0
            parent = self.parent = Parent(
                graph, batch.tasks[position], attempt, batch.batch, position, self.name
            )
        return parent

    # ------------------------------------------------------------ interrupts

    def on_interrupt(self, number: int, frame: Any) -> None:
        """SIGINT; in the main thread, between two bytecodes."""
        if _shield.shield.depth:
            _shield.shield.pending = True
        elif self.in_user_code:
            # Takes in the CancelTask, if there is one; deliver_interrupt() raises from in there.
            self._session.waiting.try_read()

    def deliver_interrupt(self) -> None:
        """Raises KeyboardInterrupt if the task that runs was cancelled."""
        if not self.in_user_code or self.batch is None:
            return
        running = (self.batch.batch, self.position)
        if running in self.cancelled and self._interrupted != running:
            self._interrupted = running
            raise KeyboardInterrupt

    def take_cancel(self, cancel: wire.CancelTask) -> None:
        """By whichever thread reads."""
        named = (cancel.batch, cancel.position)
        batch = self.batch
        running = None if batch is None else (batch.batch, self.position)
        if running is not None and named < running:
            return  # done already
        self.cancelled.add(named)
        if named == running and self.in_user_code:
            if _shield.is_main_thread():
                _shield.shield.pending = True
            else:
                signal.pthread_kill(_shield.MAIN_THREAD, signal.SIGINT)

    def forget_cancel(self, batch: int, position: int) -> None:
        """This task is over, and so are all before it."""
        self._interrupted = None
        self.cancelled = {named for named in self.cancelled if named > (batch, position)}
