"""A frame that overtakes the segment it names, as one can that a worker reads while batches are taken back."""

from __future__ import annotations

import os
import threading

from ray._conversation import Conversation
from ray._references import References
from ray._store import Store
from ray._wire import session_pb2 as wire


class _Frames(Conversation):
    """A conversation without a peer: frames come from a list."""

    def __init__(self, frames):
        self.store = Store(References())
        self.lost = None
        self._taker = 0
        self._handlers = {"notice": lambda notice: self.used.append(self.store.locate(bytes(28), 7, 0, 8))}
        self.used = []
        self.frames = frames
        self.store.await_segment = self._await_segment

    def _read_ready(self, until):
        while self.frames:
            self.take_frame(*self.frames.pop(0))

    class waiting:
        @staticmethod
        def try_read():
            pass


def test_a_frame_that_names_a_segment_waits_for_it():
    descriptor = os.memfd_create("segment")
    os.ftruncate(descriptor, 1 << 20)
    segment = wire.ServerFrame(segment=wire.SegmentDef(segment=7, size_bytes=1 << 20))
    talk = _Frames([(segment, descriptor)])
    talk.take_frame(wire.ServerFrame(notice=wire.Notice(text="names segment 7")), -1)
    assert talk.lost is None and len(talk.used) == 1


def test_a_thread_that_does_not_read_waits_for_the_one_that_does():
    talk = _Frames([])
    descriptor = os.memfd_create("segment")
    os.ftruncate(descriptor, 1 << 20)
    timer = threading.Timer(0.05, talk.store.add_segment, (7, 1 << 20, descriptor))
    timer.start()
    assert talk.store.locate(bytes(28), 7, 0, 8).view.nbytes == 8
    timer.join()
