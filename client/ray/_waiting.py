"""Who reads the socket: a thread that waits reads it itself, so that an answer wakes nobody twice.

Of several threads that wait, one leads: it reads and hands out everything that comes. The others sleep
until their own answer was read or the leader has its own and passes the lead on.
"""

from __future__ import annotations

import select
import threading
import time
from typing import Callable, Optional, Set

from ray import _shield


# While answers come within this time of being asked for, a waiting thread looks again and again instead of
# sleeping: to be woken on an idle processor takes as long as many an answer.
_SPIN_S = 0.0003


class Waiter:
    """Something that a thread waits for. Whoever reads calls complete()."""

    __slots__ = ("done", "error", "_wake")

    def __init__(self) -> None:
        self.done = False
        self.error: Optional[BaseException] = None
        self._wake: Optional[threading.Lock] = None

    def complete(self) -> None:
        self.done = True
        wake = self._wake
        if wake is not None:
            _release(wake)

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.complete()


def _release(lock: threading.Lock) -> None:
    try:
        lock.release()
    except RuntimeError:  # woken already
        pass


class Waiting:
    """`read(until)` takes in what has come on the descriptor, without waiting; it may stop when the waiter
    `until` is done, unless that is None."""

    def __init__(self, descriptor: int, read: Callable[[Optional[Waiter]], None]) -> None:
        self._read = read
        self._poller = select.poll()
        self._poller.register(descriptor, select.POLLIN)
        self._lead = threading.Lock()
        self._followers: Set[Waiter] = set()
        self.leading = False
        self._answers_fast = False
        # Called when a leader leaves and nobody follows.
        self.on_idle: Optional[Callable[[], None]] = None

    def wait(self, waiter: Waiter, timeout_s: Optional[float] = None) -> bool:
        """Until the waiter is done; False if time is up first. None: for as long as it takes."""
        if waiter.done:
            return True
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        if self._lead.acquire(False):
            return self._lead_until(waiter, deadline)
        return self._follow(waiter, deadline)

    def try_read(self) -> None:
        """Take in what has come, unless somebody leads."""
        if self._lead.acquire(False):
            try:
                self._read_shielded(None)
            finally:
                self._lead.release()
                self._pass_on()

    def lead_once(self, read_one: Callable[[], None]) -> None:
        """Have this thread read one frame by `read_one`, which waits for it. For a worker between tasks."""
        self._lead.acquire()
        try:
            read_one()
        finally:
            self._lead.release()
            if self._followers:
                self._pass_on()

    def _lead_until(self, waiter: Waiter, deadline: Optional[float]) -> bool:
        self.leading = True
        started = time.perf_counter()
        spinning = self._answers_fast
        try:
            while not waiter.done:
                if spinning:
                    if not self._poller.poll(0):
                        spinning = time.perf_counter() - started < _SPIN_S
                        continue
                elif deadline is None:
                    self._poller.poll()
                else:
                    left = deadline - time.monotonic()
                    # Rounded up, so that the last wait is not a loop of empty ones.
                    if not self._poller.poll(max(0, int(left * 1000 + 0.999))) and left <= 0.001:
                        break
                self._read_shielded(waiter)
        finally:
            self._answers_fast = time.perf_counter() - started < _SPIN_S
            self.leading = False
            self._lead.release()
            self._pass_on()
        return waiter.done

    def _read_shielded(self, until: Optional[Waiter]) -> None:
        entered = _shield.enter()
        try:
            self._read(until)
        finally:
            _shield.leave(entered)

    def _follow(self, waiter: Waiter, deadline: Optional[float]) -> bool:
        wake = waiter._wake = threading.Lock()
        wake.acquire()
        self._followers.add(waiter)
        try:
            while not waiter.done:
                # The lead may have become free before this waiter was seen.
                if self._lead.acquire(False):
                    self._followers.discard(waiter)
                    return self._lead_until(waiter, deadline)
                if deadline is None:
                    wake.acquire()
                else:
                    left = deadline - time.monotonic()
                    if left <= 0 or not wake.acquire(True, min(left, threading.TIMEOUT_MAX)):
                        break
            return waiter.done
        finally:
            self._followers.discard(waiter)
            if not waiter.done:
                # Perhaps woken to lead, and leaves instead.
                self._pass_on()

    def _pass_on(self) -> None:
        for follower in list(self._followers):
            if not follower.done and follower._wake is not None:
                _release(follower._wake)
                return
        if self.on_idle is not None:
            self.on_idle()
