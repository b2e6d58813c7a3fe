"""The session's one thread: sends what was buffered and reads what comes while nobody waits.

While the process is active it ticks each millisecond; after 20 quiet ticks it parks in poll() until the
raylet says something, a thread buffers a call, or references may have died.
"""

from __future__ import annotations

import os
import select
import threading
import time
from typing import Callable, Optional

from ray._waiting import Waiting

_TICK_S = 0.001
_QUIET_TICKS_MAX = 20
_RELEASE_TICKS = 4
_RELEASE_EVERY_MS = 100


class Background:
    """`flush_calls()` sends buffered calls, `flush()` also what was released; `may_release()` says if dropped
    references may come; `when_quiet()` is for work that can wait."""

    def __init__(
        self, descriptor: int, waiting: Optional[Waiting], flush_calls: Callable[[], None],
        flush: Callable[[], None], may_release: Callable[[], bool],
        when_quiet: Callable[[], None], name: str,
    ) -> None:
        self._descriptor = descriptor
        self._waiting = waiting  # None: never reads
        self._flush_calls = flush_calls
        self._flush = flush
        self._may_release = may_release
        self._when_quiet = when_quiet
        self._wake_descriptor, self._wake_write = os.pipe()
        os.set_blocking(self._wake_descriptor, False)
        os.set_blocking(self._wake_write, False)
        self._closed = False
        self.active = False
        self.parked = False
        self._parked_blind = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        if waiting is not None:
            waiting.on_idle = self._on_idle
        self._thread.start()

    def touch(self) -> None:
        """Something was buffered or is about to be answered."""
        self.active = True
        if self.parked:
            self.wake()

    def wake(self) -> None:
        try:
            os.write(self._wake_write, b"\0")
        except (BlockingIOError, OSError):
            pass

    def close(self) -> None:
        """Ends the thread; waits for it unless called by it."""
        if self._closed:
            return
        self._closed = True
        self.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(2)
        if not self._thread.is_alive():
            os.close(self._wake_descriptor)
            os.close(self._wake_write)

    def _on_idle(self) -> None:
        if self._parked_blind:
            self.wake()

    def _run(self) -> None:
        quiet = ticks = 0
        while not self._closed:
            try:
                if quiet < _QUIET_TICKS_MAX:
                    time.sleep(_TICK_S)
                    quiet = 0 if self.active else quiet + 1
                    self.active = False
                    ticks += 1
                    if ticks % _RELEASE_TICKS:
                        self._flush_calls()
                    else:
                        self._flush()
                    if self._waiting is not None and not self._waiting.leading:
                        self._waiting.try_read()
                else:
                    self._when_quiet()
                    self._park()
                    if self.active:
                        quiet = 0
                    self._flush()
            except Exception:
                # The session is lost, and says so to whoever uses it.
                return

    def _park(self) -> None:
        poller = select.poll()
        poller.register(self._wake_descriptor, select.POLLIN)
        self._parked_blind = True
        blind = self._waiting is None or self._waiting.leading
        if not blind:
            self._parked_blind = False
            poller.register(self._descriptor, select.POLLIN)
        self.parked = True
        try:
            if self.active or self._closed:
                return
            ready = poller.poll(_RELEASE_EVERY_MS if self._may_release() else None)
        finally:
            self.parked = False
            self._parked_blind = False
        for descriptor, _ in ready:
            if descriptor == self._wake_descriptor:
                try:
                    os.read(self._wake_descriptor, 4096)
                except BlockingIOError:
                    pass
            elif self._waiting is not None and not self._waiting.leading:
                self._waiting.try_read()
            else:
                time.sleep(_TICK_S)  # somebody leads and will have read it
