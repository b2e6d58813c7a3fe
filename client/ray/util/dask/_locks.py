"""Locks in graphs: one that is valid only inside of a process travels as one that is valid everywhere.

Dask's SerializableLock (da.store(lock=True), xarray's files) and plain thread locks (xarray again) are replaced
while a graph is pickled, and nowhere else: elsewhere they pickle as ever, or don't. The caller's own lock stays
what it is, so tasks exclude each other, not the caller.
"""

from __future__ import annotations

import copyreg
import os
import threading
from contextlib import contextmanager
from typing import Any, Iterator, Tuple
from weakref import WeakKeyDictionary

from dask.utils import SerializableLock

from ray._cluster_lock import ClusterLock, lock_of

_PLAIN_LOCK = type(threading.Lock())
_REENTRANT_LOCK = type(threading.RLock())
# Locks of these very classes are one lock in all processes. Subclasses may do what only the caller sees.
TRAVELLING_LOCKS = frozenset({_PLAIN_LOCK, _REENTRANT_LOCK, SerializableLock, ClusterLock})


class _Travelling(threading.local):
    """Whether this thread pickles a graph."""

    active = False


_travelling = _Travelling()
_tokens: "WeakKeyDictionary[Any, str]" = WeakKeyDictionary()  # of plain locks


@contextmanager
def locks_travel() -> Iterator[None]:
    """While it is entered, this thread pickles locks as ClusterLocks."""
    before, _travelling.active = _travelling.active, True
    try:
        yield
    finally:
        _travelling.active = before


def install() -> None:
    """Have pickle ask here about locks."""
    copyreg.pickle(_PLAIN_LOCK, _reduce_plain)  # type: ignore[arg-type]
    copyreg.pickle(_REENTRANT_LOCK, _reduce_plain)  # type: ignore[arg-type]
    copyreg.pickle(SerializableLock, _reduce_serializable)  # type: ignore[arg-type]


def _reduce_plain(lock: Any) -> Tuple:
    if not _travelling.active:
        kind = type(lock)
        raise TypeError(f"cannot pickle '{kind.__module__}.{kind.__qualname__}' object")
    token = _tokens.get(lock)
    if token is None:
        token = _tokens.setdefault(lock, os.urandom(16).hex())
    return lock_of, (token, isinstance(lock, _REENTRANT_LOCK))


def _reduce_serializable(lock: SerializableLock) -> Tuple:
    if not _travelling.active:
        return type(lock), (lock.token,)
    return lock_of, (f"{type(lock.token).__name__}:{lock.token}", False)
