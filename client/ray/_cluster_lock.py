"""ClusterLock: a lock that travels. Wherever it is unpickled, it excludes all others of the same token.

On a node it is a range of one byte, chosen by the token, in one file of the session directory, locked for an
open file description: so threads of a process exclude each other as processes do, the kernel releases it when
its holder dies, and nothing is left behind. `_hold` is the only place that knows this; for several nodes it
would ask the lock's home instead.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import threading
import time
from typing import Any, Optional, Tuple
from weakref import WeakValueDictionary

_FILE = "locks"
_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, length, pid
_POLL_S = (0.0005, 0.02)  # the first and the longest pause of a wait that has an end
_known: "WeakValueDictionary[Tuple[str, bool], ClusterLock]" = WeakValueDictionary()


class ClusterLock:
    """With the methods of threading.Lock, or of RLock if `reentrant`.

    Not fair. Who waits for it in a task keeps its CPU, but lets go of the tasks that wait behind it.
    """

    def __init__(self, token: str, reentrant: bool = False) -> None:
        self.token = token
        self._reentrant = reentrant
        self._thread: Optional[int] = None  # that holds it, if it is one of this process
        self._depth = 0
        self._descriptor = -1
        self._here = threading.Lock()  # among the threads of this process

    def __reduce__(self) -> Tuple:
        return lock_of, (self.token, self._reentrant)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Whether the lock is held now. Waits if `blocking`; at most `timeout` seconds if that is not -1."""
        me = threading.get_ident()
        if self._reentrant and self._thread == me:
            self._depth += 1
            return True
        give_up = None if timeout is None or timeout < 0 else time.monotonic() + timeout
        if not self._here.acquire(blocking, timeout if blocking and give_up is not None else -1):
            return False
        try:
            descriptor = _hold(self.token, blocking, give_up)
        except BaseException:
            self._here.release()
            raise
        if descriptor < 0:
            self._here.release()
            return False
        self._descriptor, self._thread, self._depth = descriptor, me, 1
        return True

    def release(self) -> None:
        """Raises RuntimeError if this process does not hold it."""
        if self._descriptor < 0 or (self._reentrant and self._thread != threading.get_ident()):
            raise RuntimeError("release unlocked lock")
        self._depth -= 1
        if self._depth:
            return
        descriptor, self._descriptor, self._thread = self._descriptor, -1, None
        os.close(descriptor)
        self._here.release()

    def locked(self) -> bool:
        """Whether anybody holds it at the moment."""
        if self._here.locked():
            return True
        descriptor = _hold(self.token, False, None)
        if descriptor >= 0:
            os.close(descriptor)
        return descriptor < 0

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *reason: Any) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<ClusterLock {self.token}>"


def lock_of(token: str, reentrant: bool) -> ClusterLock:
    """The one lock of this token in this process."""
    lock = _known.get((token, reentrant))
    if lock is None:
        lock = _known.setdefault((token, reentrant), ClusterLock(token, reentrant))
    return lock


def _hold(token: str, blocking: bool, give_up: Optional[float]) -> int:
    """A descriptor that holds the lock until it is closed; -1: not to be had (in time)."""
    from ray._runtime import current_session

    session = current_session()
    path = os.path.join(session.info.session_directory, _FILE)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    start = int.from_bytes(hashlib.blake2b(token.encode(), digest_size=8).digest(), "little") >> 2
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, 1, 0)
    try:
        if _try(descriptor, wanted):
            return descriptor
        if blocking and session.hand_back_rest is not None:
            session.hand_back_rest()
        if blocking and give_up is None:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW, wanted)  # a signal's handler may raise in here
            return descriptor
        pause, longest = _POLL_S
        while blocking and give_up is not None and time.monotonic() < give_up:
            time.sleep(min(pause, max(0.0, give_up - time.monotonic())))
            if _try(descriptor, wanted):
                return descriptor
            pause = min(2 * pause, longest)
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return -1


def _try(descriptor: int, wanted: bytes) -> bool:
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
    except (BlockingIOError, PermissionError):
        return False
    return True
