"""From answers to the values that a user sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Union

from ray import exceptions
from ray._failures import to_exception
from ray._ref import ObjectRef
from ray._serialize import deserialize, deserialize_writable
from ray._store import Located
from ray._wire import common_pb2 as wire_common

if TYPE_CHECKING:
    import concurrent.futures

# bytes: an inline value; Located: one in the store; Failure: why there is none.
Answer = Union[bytes, Located, wire_common.Failure]


def load(answer: Answer, writable: bool = False) -> Any:
    """The value of an answer. Raises the task's error, or RaySystemError if it can't be unpickled."""
    try:
        if type(answer) is bytes:
            return deserialize_writable(answer) if writable else deserialize(answer)
        if isinstance(answer, Located):
            return deserialize(answer.writable_view() if writable else answer.view)
    except Exception as error:
        raise exceptions.RaySystemError(
            f"a value could not be unpickled in this process: {type(error).__name__}: {error}"
        ) from error
    raise to_exception(answer)


def is_value(answer: Answer) -> bool:
    """Whether load() would get a value rather than raise the task's error."""
    return type(answer) is bytes or isinstance(answer, Located)


def get_values(
    session: Any, refs: Sequence[ObjectRef], timeout_s: Optional[float] = None,
    writable: bool = False, fail_early: bool = False,
) -> List[Any]:
    """The values of `refs`, in order. The error of the first that failed is raised.

    `writable`: buffers are private to the caller. A reference that is there twice gives one value twice.
    """
    if len(refs) == 1:
        answers = session.get((refs[0]._id,), timeout_s)
        return [load(answers[refs[0]._id], writable)]
    ids = [ref._id for ref in refs]
    answers = session.get(ids, timeout_s, fail_early)
    loaded: Dict[bytes, Any] = {}
    values = []
    for id in ids:
        if id in loaded:
            values.append(loaded[id])
            continue
        value = loaded[id] = load(answers[id], writable)
        values.append(value)
    return values


def future_of(session: Any, ref: ObjectRef) -> "concurrent.futures.Future":
    """A future of the value; unpickled by the thread that reads the answer."""
    import concurrent.futures

    future: concurrent.futures.Future = concurrent.futures.Future()
    future.set_running_or_notify_cancel()

    def on_done(answers: Dict[bytes, Answer], error: Optional[BaseException]) -> None:
        try:
            if error is not None:
                raise error
            future.set_result(load(answers[ref._id]))
        except BaseException as raised:
            future.set_exception(raised)

    session.get_later((ref._id,), on_done)
    return future
