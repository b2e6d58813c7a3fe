"""Outcomes: what a task returned or raised, in the form in which it is reported."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Tuple

from ray import _calls
from ray._failures import from_exception
from ray._serialize import SerializedValue, UnpicklableError, deserialize, serialize
from ray._session import Session
from ray._wire import common_pb2 as wire_common
from ray._wire import session_pb2 as wire
from ray._worker.code import NotPicklable, unpicklable_failure
from ray._worker.inputs import SPENT
from ray._worker.iterators import RaisedByIterator, ResultPickler
from ray._worker.reports import FAILED, RETRY

# Frames of these files at the top of a task's traceback are ours, not the user's.
_OWN_FILES = (
    _calls.__file__, os.path.join(os.path.dirname(_calls.__file__), "_task_hooks.py"),
    os.path.dirname(__file__) + os.sep,
)


class Outcomes:
    """Makes reports' contents. For the main thread."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._filters: Dict[bytes, Any] = {}

    # ------------------------------------------------------------ results

    def results(self, value: Any, returns: int) -> Tuple[List[Any], List[SerializedValue]]:
        """The `returns` values in `value`, and each of them serialized.

        Raises NotPicklable; ValueError for another number of values; what an iterator in the value raises.
        """
        if returns == 1:
            serialized = self._serialized(value, "its result")
            return [SPENT if ResultPickler.met_iterator else value], [serialized]
        if returns == 0:
            return [], []
        if not isinstance(value, (tuple, list)) and hasattr(value, "__iter__"):
            value = list(value)
        if not isinstance(value, (tuple, list)) or len(value) != returns:
            count = len(value) if isinstance(value, (tuple, list)) else 1
            raise ValueError(
                f"Task returned {count} objects, but num_returns={returns}: a function with num_returns > 1 "
                "must return as many values, as a tuple or list."
            )
        values = list(value)
        forms = []
        for index, one in enumerate(values):
            forms.append(self._serialized(one, f"its result {index}"))
            if ResultPickler.met_iterator:
                values[index] = SPENT
        return values, forms

    @staticmethod
    def _serialized(value: Any, what: str) -> SerializedValue:
        ResultPickler.met_iterator = False
        try:
            return serialize(value, ResultPickler)
        except UnpicklableError as error:
            raise NotPicklable(f"{what} can't be pickled: {error}", error) from error
        except RaisedByIterator as raised:
            raise raised.error from None

    def sent(self, serialized: List[SerializedValue]) -> List[Tuple[Any, List[bytes]]]:
        """(bytes or Sealed, ids of references inside) of each, as Reports takes them."""
        session = self._session
        inline_bytes_max = session.inline_bytes_max
        return [
            (one.to_bytes() if one.size_bytes <= inline_bytes_max else session.seal(one), one.contained)
            for one in serialized
        ]  # type: ignore[return-value]

    # ------------------------------------------------------------ failures

    def failure(
        self, error: BaseException, name: str, batch: wire.RunBatch, position: int, cancelled: bool
    ) -> Tuple[int, wire_common.Failure]:
        """The status and the failure to report for a task that raised."""
        if cancelled and isinstance(error, KeyboardInterrupt):
            return FAILED, cancelled_failure(name)
        if isinstance(error, UnpicklableError):
            error = NotPicklable(str(error), error)
        if isinstance(error, NotPicklable):
            return FAILED, unpicklable_failure(error, name)
        status = RETRY if self._is_worth_a_retry(error, batch, position) else FAILED
        return status, from_exception(error, name, own_files=_OWN_FILES)

    def _is_worth_a_retry(self, error: BaseException, batch: wire.RunBatch, position: int) -> bool:
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


def cancelled_failure(name: str) -> wire_common.Failure:
    return wire_common.Failure(
        code=wire_common.TASK_CANCELLED, message=f"{name} was cancelled", task_name=name, pid=os.getpid(),
    )
