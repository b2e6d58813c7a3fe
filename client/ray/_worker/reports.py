"""What became of tasks, gathered until it is worth a message."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

from ray._session import Session
from ray._wire import common_pb2 as wire_common
from ray._wire import session_pb2 as wire

OK, FAILED, HANDED_BACK, RETRY = 0, 1, 2, 3  # TaskStatus


class Reports:
    """Results that were not reported yet, of one batch, as the columns of a Results message."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.batch = 0
        self._clear()

    def _clear(self) -> None:
        self.count = 0
        self.bytes = 0
        self.positions: List[int] = []
        self.statuses: List[int] = []
        self.return_counts: List[int] = []
        self.return_kinds: List[int] = []
        self.inline_values: List[bytes] = []
        self.sealed: List[wire.Sealed] = []
        self.contained: List[wire.Contained] = []
        self.failures: List[wire_common.Failure] = []
        self.durations_us: List[int] = []
        self.all_ok = True
        self.all_single = True
        self.all_inline = True

    def add_inline(self, position: int, value: bytes, duration_us: int) -> None:
        """One result, small."""
        self.count += 1
        self.bytes += len(value)
        self.positions.append(position)
        self.statuses.append(OK)
        self.return_counts.append(1)
        self.return_kinds.append(0)
        self.inline_values.append(value)
        self.durations_us.append(duration_us)

    def add(
        self, position: int, results: List[Tuple[Any, List[bytes]]], duration_us: int
    ) -> None:
        """Results as (bytes or Sealed, ids of references inside)."""
        for result, contained in results:
            if contained:
                ordinal = len(self.return_kinds)
                self.contained.append(
                    wire.Contained(return_ordinal=ordinal, ids=b"".join(contained))
                )
            if type(result) is bytes:
                self.return_kinds.append(wire.RETURN_INLINE)
                self.inline_values.append(result)
                self.bytes += len(result)
            else:
                self.return_kinds.append(wire.RETURN_SEALED)
                self.sealed.append(result)
                self.all_inline = False
        self.count += 1
        self.positions.append(position)
        self.statuses.append(OK)
        self.return_counts.append(len(results))
        if len(results) != 1:
            self.all_single = False
        self.durations_us.append(duration_us)

    def add_failure(
        self, position: int, status: int, failure: Optional[wire_common.Failure], duration_us: int = 0
    ) -> None:
        self.count += 1
        self.positions.append(position)
        self.statuses.append(status)
        self.all_ok = False
        self.durations_us.append(duration_us)
        if failure is not None:
            self.failures.append(failure)

    def send(self) -> None:
        """Called by the session's flush, in its order."""
        if not self.count:
            return
        results = wire.Results(
            batch=self.batch, positions=self.positions, inline_values=self.inline_values,
            durations_us=self.durations_us,
        )
        if not self.all_ok:
            results.statuses.extend(self.statuses)
        if not self.all_single:
            results.return_counts.extend(self.return_counts)
        if not self.all_inline:
            results.return_kinds.extend(self.return_kinds)
            results.sealed.extend(self.sealed)
        if self.contained:
            results.contained.extend(self.contained)
        if self.failures:
            results.failures.extend(self.failures)
        sealed = self.sealed
        self._clear()
        self._session.send(wire.ClientFrame(results=results))
        if sealed and self._session.slabs is not None:
            self._session.slabs.reported([one.slab for one in sealed])
