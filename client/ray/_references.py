"""What this process holds: it counts by itself and speaks only when a count leaves or reaches zero.

An id is *owned* when the session holds it from the moment it was made known (a task's result, a put), and
*borrowed* when it was found inside a value. `__del__` and weak callbacks may come in the middle of anything,
so they only append to a deque; drain() turns what they left into one message.

What always holds: in one message, held comes before released; whoever sends it sends first what was
buffered before drain() was called (calls that use a reference, results that contain it).
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Deque, Dict, Iterable, List, Optional, Set

from ray._wire import session_pb2 as wire


_IDS_AT_ONCE_MAX = 500_000  # of each kind in one message; the rest follows in the next
_KEPT_MAX = 100_000


class References:
    """Counts of one session. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Dict[bytes, int] = {}
        self._held: List[bytes] = []
        self.dropped: Deque[bytes] = deque()
        self.unpinned: Deque[bytes] = deque()
        self.pins = 0  # views alive, about
        self.token = os.urandom(8)  # tells this session's references from all others
        self._kept: Set[bytes] = set()

    def own(self, id: bytes) -> None:
        """Count the first reference to an object that nobody else in this process can know yet."""
        self._counts[id] = 1

    def own_all(self, ids: Iterable[bytes]) -> None:
        """As own, for many."""
        self._counts.update(dict.fromkeys(ids, 1))

    def borrow(self, id: bytes) -> None:
        """Count one more reference to an object that may be known already."""
        with self._lock:
            count = self._counts.get(id, 0)
            self._counts[id] = count + 1
            if not count:
                self._held.append(id)

    def keep(self, id: bytes) -> None:
        """Hold an object until the session ends. Raises TypeError if too many are."""
        with self._lock:
            if id in self._kept:
                return
            if len(self._kept) >= _KEPT_MAX:
                raise TypeError(
                    f"{_KEPT_MAX} ObjectRefs were pickled outside of Raylet, and each keeps its object until "
                    "ray.shutdown(). Pass them to tasks, return them from tasks or ray.put what contains them; or "
                    "ray.get them and pickle the values."
                )
            self._kept.add(id)
        self.borrow(id)

    def unpin(self, id: bytes) -> None:
        """Let go of an object that was delivered as pinned and will not be looked at."""
        self.pins += 1
        self.unpinned.append(id)

    def count(self, id: bytes) -> int:
        """References to the object that are alive in this process, dropped ones included until drain()."""
        return self._counts.get(id, 0)

    def active(self) -> bool:
        """Whether anything may still have to be released."""
        return bool(self._counts or self.pins or self.dropped or self.unpinned)

    def has_held(self) -> bool:
        """Whether the raylet has yet to hear of references that came to this process."""
        return bool(self._held)

    def waiting(self) -> bool:
        """Whether drain() has something to do."""
        return bool(self.dropped or self.unpinned or self._held)

    def drain(self) -> Optional[wire.References]:
        """What changed since the last call, or None."""
        if not (self.dropped or self.unpinned or self._held):
            return None
        with self._lock:
            released = []
            counts = self._counts
            dropped = self.dropped
            for _ in range(min(len(dropped), _IDS_AT_ONCE_MAX)):
                id = dropped.popleft()
                count = counts.get(id, 0)
                if count > 1:
                    counts[id] = count - 1
                elif count == 1:
                    del counts[id]
                    released.append(id)
            held = self._held
            self._held = []
        if held and released:
            # Came and went since the last message: as if it never was.
            both = set(held).intersection(released)
            if both:
                held = [id for id in held if id not in both]
                released = [id for id in released if id not in both]
        unpins: Dict[bytes, int] = {}
        for _ in range(min(len(self.unpinned), _IDS_AT_ONCE_MAX)):
            id = self.unpinned.popleft()
            unpins[id] = unpins.get(id, 0) + 1
            self.pins -= 1
        if not (held or released or unpins):
            return None
        message = wire.References(
            held=b"".join(held), released=b"".join(released), unpinned=b"".join(unpins)
        )
        if any(count != 1 for count in unpins.values()):
            message.unpin_counts.extend(unpins.values())
        return message
