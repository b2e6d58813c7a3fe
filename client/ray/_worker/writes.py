"""Writes to inputs: which errors mean that one was refused, and who is known to write.

Inputs are shared with other tasks, so their buffers are read-only. A task that writes to one all the same is
run again on private copies, which nobody else sees, and from then on its function is given copies at once.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Optional, Set, Tuple

from ray._calls import Nested, Program, apply_function, first

_REFUSED = re.compile(
    r"\b(destination|array|base|buffer|memory|memoryview|input)s? is (read-?only|not writ(e)?able)"
    r"|cannot modify read-?only|cannot set WRITEABLE|read-?only (memory|array|buffer)",
    re.IGNORECASE,
)
_CAUSES_MAX = 5
# The functions of tasks that do their work elsewhere tell nothing about who writes.
_NAMELESS = (first, apply_function)

Signature = Tuple[str, ...]


def was_refused(error: BaseException) -> bool:
    """Whether a write to a read-only buffer led to this error."""
    found: Optional[BaseException] = error
    for _ in range(_CAUSES_MAX):
        if found is None:
            return False
        if isinstance(found, (ValueError, TypeError, BufferError)) and _REFUSED.search(str(found)):
            return True
        found = found.__cause__ or found.__context__
    return False


def signature(function: Callable, entry: Any) -> Optional[Signature]:
    """What tells a task that writes from others with the same function; None: nothing does."""
    if type(entry) is Program:
        return tuple([_name(step[0]) for step in entry.steps])
    if function in _NAMELESS or type(entry) is Nested:
        return None
    return (_name(function),)


def _name(function: Any) -> str:
    module = getattr(function, "__module__", "")
    return f"{module}.{getattr(function, '__qualname__', type(function).__qualname__)}"


class Writers:
    """The signatures that were seen to write, of one function."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: Set[Signature] = set()

    def add(self, function: Callable, entry: Any) -> None:
        found = signature(function, entry)
        if found is not None:
            self._known.add(found)

    def has(self, function: Callable, entry: Any) -> bool:
        return signature(function, entry) in self._known
