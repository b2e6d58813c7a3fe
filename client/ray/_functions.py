"""The functions that a session has named to its raylet: each is pickled and sent once, and is a number after."""

from __future__ import annotations

import functools
import hashlib
import sys
import threading
from typing import Any, Dict, Iterable, List, Optional, Tuple

from ray._serialize import dump_with
from ray._wire import session_pb2 as wire

# A function that carries more than this (a closure or a partial over data) is put as an object instead.
FUNCTION_BYTES_MAX = 64 << 10

_KEPT_BY_IDENTITY_MAX = 100_000


class FunctionTable:
    """Numbers functions for one session. Any thread may call.

    A function that travels by reference (its module and name) is known again by its identity. Others are
    pickled once a graph, since what they close over may change in between, and known again by their bytes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next_number = 1
        self._by_identity: Dict[int, Tuple[Any, int]] = {}  # the function too, so that its id stays its own
        self._by_digest: Dict[bytes, int] = {}
        self._unsent: Dict[int, wire.FunctionDef] = {}

    def intern(self, function: Any) -> Optional[int]:
        """The function's number, or None if it has to be put as an object: too large, or it closes over
        references.

        Raises UnpicklableError.
        """
        known = self._by_identity.get(id(function))
        if known is not None:
            return known[1]
        pickled, contained = pickle_function(function)
        if len(pickled) > FUNCTION_BYTES_MAX or contained:
            return None
        number = self._number(pickled, function_name(function), wire.FunctionDef.FUNCTION)
        if travels_by_reference(function):
            with self._lock:
                if len(self._by_identity) >= _KEPT_BY_IDENTITY_MAX:
                    self._by_identity.clear()
                self._by_identity[id(function)] = (function, number)
        return number

    def intern_pickled(
        self, pickled: bytes, name: str, kind: int = wire.FunctionDef.FUNCTION
    ) -> int:
        """The number of a function, actor class or method that was pickled by the caller."""
        return self._number(pickled, name, kind)

    def take_unsent(self, numbers: Iterable[int]) -> List[wire.FunctionDef]:
        """The definitions among `numbers` that the raylet has not had yet; from now on they count as sent.

        To be called with the same lock held as the send of the chunk that will carry them.
        """
        unsent = self._unsent
        if not unsent:
            return []
        with self._lock:
            return [unsent.pop(number) for number in sorted(set(numbers)) if number in unsent]

    def _number(self, pickled: bytes, name: str, kind: int) -> int:
        digest = hashlib.blake2b(
            pickled, digest_size=16, salt=kind.to_bytes(2, "little"), person=name.encode()[:16]
        ).digest()
        with self._lock:
            number = self._by_digest.get(digest)
            if number is None:
                number = self._next_number
                self._next_number += 1
                self._by_digest[digest] = number
                self._unsent[number] = wire.FunctionDef(
                    number=number, name=name, pickled=pickled, kind=kind
                )
            return number


def pickle_function(function: Any) -> Tuple[bytes, List[bytes]]:
    """The function's pickle, and the ids of references that it closes over. Raises UnpicklableError."""
    contained: List[bytes] = []
    return dump_with(function, contained), contained


def travels_by_reference(function: Any) -> bool:
    """Whether a worker imports the function by its name, so that its pickle never changes."""
    if not isinstance(function, _NAMED_TYPES):
        return False
    module = sys.modules.get(getattr(function, "__module__", None) or "builtins")
    if module is None or module.__name__ == "__main__":
        return False
    found: Any = module
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is function


_NAMED_TYPES = (type(travels_by_reference), type(len), type)


def function_name(function: Any) -> str:
    """What people call it: a name for logs and errors."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", None)
    if isinstance(name, str):
        return name
    return type(function).__name__
