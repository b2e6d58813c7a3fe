"""Locks in graphs: one that is valid only inside of a process travels as one that is valid everywhere.

Dask's SerializableLock (da.store(lock=True), xarray's files) and plain thread locks (xarray again) are replaced
while a graph is pickled, and nowhere else: elsewhere they pickle as ever, or don't. An object of a subclass of
SerializableLock stays one, with what its class adds, and gets such a lock inside. The caller's own lock stays what
it is, so tasks exclude each other, not the caller.
"""

from __future__ import annotations

import copyreg
import os
import pickle
import threading
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List, Tuple
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
    _take_in_subclasses()
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
    return _cluster_lock_of, (lock.token,)


def _cluster_lock_of(token: Any) -> ClusterLock:
    return lock_of(f"{type(token).__name__}:{token}", False)


# ------------------------------------------------------------ subclasses of SerializableLock


def _take_in_subclasses() -> None:
    """Have pickle ask here about them too; it looks for the very class. What has a reducer keeps it."""
    found: List[type] = SerializableLock.__subclasses__()
    while found:
        kind = found.pop()
        found += kind.__subclasses__()
        if kind not in copyreg.dispatch_table:
            copyreg.pickle(kind, _reduce_subclass)  # type: ignore[arg-type]


def _reduce_subclass(lock: SerializableLock) -> Any:
    own = lock.__reduce_ex__(pickle.DEFAULT_PROTOCOL)
    if not _travelling.active or not isinstance(own, tuple):
        return own
    make, arguments, state = (*own, None)[:3]
    return _with_cluster_lock, (make, arguments, state, lock.token)


def _with_cluster_lock(make: Callable[..., Any], arguments: Tuple, state: Any, token: Any) -> Any:
    lock = make(*arguments)
    if state is not None:
        lock.__setstate__(state)
    lock.lock = _cluster_lock_of(token)
    return lock
