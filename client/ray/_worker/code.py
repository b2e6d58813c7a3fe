"""Functions and arguments as they came, unpickled when they are needed, and what is said if they can't be."""

from __future__ import annotations

import pickle
from typing import Any, Callable, List, Optional

from ray._calls import load_group
from ray._failures import from_exception
from ray._serialize import UnpicklableError
from ray._wire import common_pb2 as wire_common
from ray._wire import session_pb2 as wire
from ray._worker.writes import Writers


class Function:
    """A function as it came; unpickled at its first use."""

    __slots__ = ("name", "pickled", "kind", "call", "mean_ns", "writers")

    def __init__(self, definition: wire.FunctionDef) -> None:
        self.name = definition.name
        self.pickled = definition.pickled
        self.kind = definition.kind
        self.call: Optional[Callable] = None
        self.mean_ns = -1  # not known
        self.writers: Optional[Writers] = None  # made when a task of its was seen to write to its inputs

    def unpickle(self) -> Callable:
        """The function itself, for `call`. Raises NotPicklable."""
        try:
            self.call = pickle.loads(self.pickled)
        except Exception as error:
            raise NotPicklable(
                f"its code could not be unpickled on the worker: {why(error)}", error
            ) from error
        return self.call


class Group:
    """A group's bytes, and its entries while all of them are as they were pickled."""

    __slots__ = ("blob", "entries")

    def __init__(self, blob: bytes) -> None:
        self.blob = blob
        self.entries: Optional[List[Any]] = None

    def take(self, position: int) -> Any:
        """The entry; one that was taken before is unpickled again, since the task may have changed it.

        Raises NotPicklable.
        """
        entries = self.entries
        if entries is None or entries[position] is _TAKEN:
            try:
                entries = self.entries = load_group(self.blob)
            except Exception as error:
                raise NotPicklable(
                    f"its arguments could not be unpickled on the worker: {why(error)}", error
                ) from error
        entry = entries[position]
        entries[position] = _TAKEN
        return entry


class _Taken:
    pass


_TAKEN = _Taken()


class NotPicklable(Exception):
    """Code, arguments or a result that can't be (un)pickled; `reason` says which and why."""

    def __init__(self, reason: str, cause: BaseException) -> None:
        super().__init__(reason)
        self.reason = reason
        self.cause = cause


def why(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            f"the module {error.name!r} is missing there ({type(error).__name__}: {error}). Install it "
            "for the workers' Python, or make it importable: the driver's sys.path and working directory "
            "reach the workers, but packages must be there"
        )
    return f"{type(error).__name__}: {error}"


def unpicklable_failure(error: NotPicklable, name: str) -> wire_common.Failure:
    message = f"{name}: {error.reason}"
    cause = error.cause
    if isinstance(cause, ModuleNotFoundError):
        shown: Exception = ModuleNotFoundError(message, name=cause.name)
    else:
        shown = TypeError(message)
    failure = from_exception(shown, name, code=wire_common.TASK_UNPICKLABLE)
    failure.message = message
    if isinstance(cause, UnpicklableError):
        failure.traceback = f"{type(shown).__name__}: {message}\n"
    else:
        failure.traceback = from_exception(cause, name).traceback + f"{type(shown).__name__}: {message}\n"
    return failure
