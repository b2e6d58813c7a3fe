"""Failures as they travel, and the exceptions that a user sees."""

from __future__ import annotations

import os
import traceback
from typing import Optional, Tuple

from ray import exceptions
from ray._serialize import UnpicklableError, deserialize, explain_unpicklable, serialize
from ray._wire import common_pb2 as wire

_CAUSE_BYTES_MAX = 8 << 20

_PLAIN = {
    wire.OBJECT_LOST: exceptions.ObjectLostError,
    wire.OBJECT_STORE_FULL: exceptions.ObjectStoreFullError,
    wire.OBJECT_TOO_LARGE: exceptions.ObjectStoreFullError,
    wire.ACTOR_DIED: exceptions.ActorDiedError,
    wire.ACTOR_NAME_TAKEN: exceptions.ActorAlreadyExistsError,
    wire.ACTOR_NOT_FOUND: exceptions.ActorHandleNotFoundError,
    wire.NODE_DIED: exceptions.NodeDiedError,
    wire.OBJECT_UNKNOWN: exceptions.ObjectLostError,
    wire.OUT_OF_MEMORY: exceptions.OutOfMemoryError,
    wire.UNAVAILABLE: exceptions.RaySystemError,
}


class ConstructorCause(Exception):
    """Stands for what an actor's constructor raised, in the text of ActorDiedError."""


def to_exception(failure: wire.Failure) -> BaseException:
    """What `ray.get` raises for this failure."""
    code = failure.code
    if code in (wire.TASK_RAISED, wire.TASK_UNPICKLABLE):
        return _task_error(failure)
    if code == wire.TASK_CANCELLED:
        return exceptions.TaskCancelledError(None, _named(failure))
    if code == wire.WORKER_CRASHED:
        return exceptions.WorkerCrashedError(_named(failure))
    if code == wire.ACTOR_DIED and failure.traceback:
        return exceptions.ActorDiedError(f"{_named(failure)}\n{failure.traceback.rstrip()}")
    return _PLAIN.get(code, exceptions.RaySystemError)(_named(failure))


def _named(failure: wire.Failure) -> str:
    if failure.task_name and failure.task_name not in failure.message:
        return f"{failure.task_name}: {failure.message}"
    return failure.message


def _text_of(failure: wire.Failure) -> str:
    return failure.traceback or failure.message


def _task_error(failure: wire.Failure) -> exceptions.RayTaskError:
    cause: Optional[BaseException] = None
    text = _text_of(failure)
    if failure.cause:
        try:
            cause = deserialize(failure.cause)
        except Exception as error:
            text = (
                f"{text.rstrip()}\n(The exception itself could not be unpickled here: "
                f"{type(error).__name__}: {error})"
            )
    if isinstance(cause, exceptions.RayError):
        # Raised by Raylet inside the task, a nested task's error most often.
        return cause  # type: ignore[return-value]
    if cause is not None and not isinstance(cause, BaseException):
        cause = None
    if cause is None:
        cause = exceptions.UnserializableException(failure.message)
        return exceptions.RayTaskError(failure.task_name, text, cause, None, failure.pid)
    error = exceptions.RayTaskError(failure.task_name, text, cause, None, failure.pid)
    return error.as_instanceof_cause()


def raised_here(error: Exception, task_name: str) -> exceptions.RayError:
    """What `ray.get` would raise if a task had raised `error` that ran in this very process instead."""
    if isinstance(error, exceptions.RayError):
        return error
    failure = from_exception(error, task_name, own_files=(os.path.dirname(__file__) + os.sep,))
    return exceptions.RayTaskError(
        task_name, failure.traceback, error, None, failure.pid
    ).as_instanceof_cause()


def from_exception(
    error: BaseException, task_name: str, code: int = wire.TASK_RAISED,
    own_files: Tuple[str, ...] = (),
) -> wire.Failure:
    """The failure of a task that raised `error`, told without its first frames of files whose paths begin as
    one of `own_files`.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(own_files):
            break
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace))
    failure = wire.Failure(
        code=code,
        message=f"{type(error).__name__}: {error}",
        task_name=task_name,
        traceback=text[-(200 << 10) :],
        pid=os.getpid(),
    )
    try:
        cause = serialize(exceptions.portable(error)).to_bytes()
        if len(cause) <= _CAUSE_BYTES_MAX:
            failure.cause = cause
    except UnpicklableError as reason:
        failure.traceback += f"(The exception itself can't be sent: {reason})\n"
    except Exception as reason:
        failure.traceback += f"(The exception itself can't be sent: {explain_unpicklable(error, reason)})\n"
    return failure
