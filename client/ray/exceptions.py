"""What can go wrong, under the names that Ray gives it."""

from __future__ import annotations

import builtins
from typing import Any, Dict, Optional, Tuple

__all__ = [
    "ActorAlreadyExistsError",
    "ActorDiedError",
    "ActorHandleNotFoundError",
    "ActorPlacementGroupRemoved",
    "ActorUnavailableError",
    "ActorUnschedulableError",
    "AsyncioActorExit",
    "AuthenticationError",
    "CrossLanguageError",
    "GetTimeoutError",
    "LocalRayletDiedError",
    "NodeDiedError",
    "ObjectFetchTimedOutError",
    "ObjectFreedError",
    "ObjectLostError",
    "ObjectReconstructionFailedError",
    "ObjectStoreFullError",
    "OutOfDiskError",
    "OutOfMemoryError",
    "OwnerDiedError",
    "PendingCallsLimitExceeded",
    "RayActorError",
    "RayError",
    "RaySystemError",
    "RayTaskError",
    "ReferenceCountingAssertionError",
    "RuntimeEnvSetupError",
    "TaskCancelledError",
    "TaskPlacementGroupRemoved",
    "TaskUnschedulableError",
    "UnserializableException",
    "WorkerCrashedError",
]


class RayError(Exception):
    """The parent of every error that Raylet itself raises."""


class RayTaskError(RayError):
    """A task raised. `cause` is the exception itself, `traceback_str` what the worker printed of it.

    `ray.get` raises an instance that is of the cause's own class too, so `except ValueError` works. Its text is
    the worker's traceback. What a Dask computation raises has its cause's own text, as with threads, and the
    worker's frames stand in its traceback.
    """

    # Of one that nobody made from a task's error: handlers do `raise type(error)("more about it") from error`.
    function_name = ""
    traceback_str = ""
    cause: Optional[BaseException] = None
    proctitle: Optional[str] = None
    pid: Optional[int] = None
    ip: Optional[str] = None
    _speaks_as_cause = False

    def __init__(
        self,
        function_name: str = "",
        traceback_str: str = "",
        cause: Optional[BaseException] = None,
        proctitle: Optional[str] = None,
        pid: Optional[int] = None,
        ip: Optional[str] = None,
    ) -> None:
        self.function_name = function_name
        self.traceback_str = traceback_str
        self.cause = cause
        self.proctitle = proctitle
        self.pid = pid
        self.ip = ip
        super().__init__(function_name, traceback_str, cause, proctitle, pid, ip)

    def __reduce__(self) -> Tuple:
        return (
            _rebuild_task_error,
            (self.function_name, self.traceback_str, portable(self.cause), self.proctitle, self.pid,
             self.ip, getattr(self, "_is_dual", False)),
        )

    def as_instanceof_cause(self) -> "RayTaskError":
        """This error as an instance of its cause's class as well, where that class allows it."""
        cause = self.cause
        if cause is None or isinstance(cause, RayError) or not isinstance(cause, Exception):
            return self
        try:
            dual_class = _dual_class(type(cause))
            error = dual_class.__new__(dual_class)
            if isinstance(cause, _exception_group()):
                # Made by its class's __new__, which wants a message and members.
                raise TypeError("groups are made below")
        except TypeError:
            try:
                dual_class = _dual_class(type(cause))
                error = dual_class.__new__(dual_class, *cause.args)
            except Exception:
                return self
        except Exception:
            return self
        error.__dict__.update(getattr(cause, "__dict__", {}))
        error.function_name = self.function_name
        error.traceback_str = self.traceback_str
        error.cause = cause
        error.proctitle = self.proctitle
        error.pid = self.pid
        error.ip = self.ip
        error._is_dual = True
        try:
            error.args = cause.args
        except Exception:
            pass
        error.__cause__ = cause.__cause__
        return error

    def speak_as_cause(self) -> None:
        """Have the text be the cause's own from now on; which task it was, a note says (Python 3.11)."""
        if self.cause is not None:
            self._speaks_as_cause = True
            if hasattr(self, "add_note"):
                self.add_note(f"raised by {self._task()}")

    def _task(self) -> str:
        name = self.function_name or "a task"
        if name.replace(".", "_").isidentifier():  # else the key of a Dask task
            name += "()"
        return f"{name} (pid={self.pid})" if self.pid else name

    def __str__(self) -> str:
        if self._speaks_as_cause:
            return str(self.cause)
        if self.traceback_str:
            return f"{self._task()} raised:\n{self.traceback_str.rstrip()}"
        if self.cause is not None or self.function_name:
            return f"{self._task()} raised {self.cause!r}"
        return super().__str__()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.function_name!r}, cause={self.cause!r})"


def _exception_group() -> Tuple:
    group = getattr(builtins, "BaseExceptionGroup", None)
    return (group,) if group is not None else ()


_dual_classes: Dict[type, type] = {}
_READ_FROM_CAUSE = (
    "errno", "strerror", "filename", "filename2", "characters_written", "value", "code", "msg", "name",
    "path", "lineno", "offset", "text", "print_file_and_line", "end_lineno", "end_offset", "object",
    "start", "end", "reason", "encoding", "message", "exceptions",
)


def _dual_class(cause_class: type) -> type:
    found = _dual_classes.get(cause_class)
    if found is not None:
        return found

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        self.args = args

    members: Dict[str, Any] = {
        "__init__": init,
        "__str__": RayTaskError.__str__,
        "__repr__": RayTaskError.__repr__,
        "__reduce__": RayTaskError.__reduce__,
        "__reduce_ex__": lambda self, protocol: RayTaskError.__reduce__(self),
        "__module__": "ray.exceptions",
        "__doc__": f"A task raised {cause_class.__qualname__}.",
    }
    # What the class keeps in slots of C is read from the cause.
    for name in _READ_FROM_CAUSE:
        if type(getattr(cause_class, name, None)).__name__ in ("member_descriptor", "getset_descriptor"):
            members[name] = property(lambda self, name=name: getattr(self.cause, name))
    name = f"RayTaskError({cause_class.__name__})"
    made = type(name, (RayTaskError, cause_class), members)
    made.__qualname__ = name
    _dual_classes[cause_class] = made
    return made


class _Portable:
    """An exception that its class's own pickling can't bring back, taken apart; pickled in its place."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> Tuple:
        error = self._error
        return _put_together, (type(error), error.args, dict(getattr(error, "__dict__", {})))


def _put_together(cls: type, args: Tuple, state: Dict[str, Any]) -> BaseException:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def portable(error: Optional[BaseException]) -> Any:
    """What to pickle instead of an exception: itself, if that comes back, which not every constructor
    allows (it is called again with `args` alone)."""
    if error is None:
        return None
    from ray._serialize import deserialize, serialize

    try:
        deserialize(serialize(error).to_bytes())
        return error
    except Exception:
        return _Portable(error)


def _rebuild_task_error(
    function_name: str, traceback_str: str, cause: Any, proctitle: Any, pid: Any, ip: Any, dual: bool
) -> RayTaskError:
    error = RayTaskError(function_name, traceback_str, cause, proctitle, pid, ip)
    return error.as_instanceof_cause() if dual else error


class TaskCancelledError(RayError):
    """The task was cancelled before it had a result."""

    def __init__(self, task_id: Any = None, error_message: Optional[str] = None) -> None:
        self.task_id = task_id
        super().__init__(error_message or "the task was cancelled")


class WorkerCrashedError(RayError):
    """The worker died in mid-task more often than the task's max_retries allow."""

    def __init__(self, message: str = "the worker died in mid-task") -> None:
        super().__init__(message)


class RayActorError(RayError):
    """The actor can't run the call."""

    def __init__(self, message: str = "the actor died", actor_id: Optional[str] = None) -> None:
        self.actor_id = actor_id
        super().__init__(message)


class ActorDiedError(RayActorError):
    """The actor is dead: it was killed, its process died, or its constructor raised."""


class ActorUnavailableError(RayActorError):
    """The actor can't be reached at the moment."""


class LocalRayletDiedError(RayError):
    """The raylet of this node is gone, and with it what this process had under way."""

    def __init__(self, message: str = "the raylet of this node is gone") -> None:
        super().__init__(message)


class NodeDiedError(RayError):
    """The node on which it was running is gone."""


class OutOfMemoryError(RayError):
    """The node ran out of memory."""


class OutOfDiskError(RayError):
    """The node ran out of disk."""


class ObjectStoreFullError(RayError):
    """The object store has no room for the object."""


class ObjectLostError(RayError):
    """No copy of the object is left, and nothing can make it again."""

    def __init__(self, message: str = "the object is lost", object_ref_hex: Optional[str] = None) -> None:
        self.object_ref_hex = object_ref_hex
        super().__init__(message)


class ObjectFetchTimedOutError(ObjectLostError):
    """The object could not be fetched in time."""


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """The object was freed although a reference to it is held."""


class ObjectFreedError(ObjectLostError):
    """The object was freed on request."""


class OwnerDiedError(ObjectLostError):
    """The object's owner is gone."""


class ObjectReconstructionFailedError(ObjectLostError):
    """The object was lost and making it again failed."""


class GetTimeoutError(RayError, TimeoutError):
    """`ray.get` was given a time-out, and it passed."""


class RuntimeEnvSetupError(RayError):
    """A worker could not be set up as the job wants it."""


class TaskPlacementGroupRemoved(RayError):
    """The task's placement group is gone."""


class ActorPlacementGroupRemoved(RayError):
    """The actor's placement group is gone."""


class PendingCallsLimitExceeded(RayError):
    """The actor has more calls pending than it allows."""


class TaskUnschedulableError(RayError):
    """No node can ever run the task."""


class ActorUnschedulableError(RayError):
    """No node can ever run the actor."""


class AuthenticationError(RayError):
    """The daemon did not accept the token."""


class RaySystemError(RayError):
    """Something inside Raylet, or between it and this process, does not fit."""


class UnserializableException(RayError):
    """The task raised an exception that could not be brought here; the message is what it printed."""


class ActorAlreadyExistsError(ValueError, RayError):
    """An actor of this name exists already."""


class ActorHandleNotFoundError(ValueError, RayError):
    """There is no actor of this name, or none that this process may reach."""


class AsyncioActorExit(RayError):
    """An actor leaves on its own wish."""


class CrossLanguageError(RayError):
    """An error from another language."""
