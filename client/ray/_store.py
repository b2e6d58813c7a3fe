"""The store's memory as this process sees it: segments mapped once, views that pin, slabs to write into.

A view of an object is memory of a ctypes array at the object's address; memoryviews, NumPy arrays and
Arrow buffers made of it keep that array alive, and when it dies the object is unpinned. Until then the
raylet keeps the extent from being used again.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle
import threading
import weakref
from builtins import id as builtin_id
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from ray._references import References
from ray._serialize import SerializedValue

_libc = ctypes.CDLL(None, use_errno=True)
_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
]
_munmap = _libc.munmap
_munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_madvise = _libc.madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_FAILED = ctypes.c_void_p(-1).value
_MADV_POPULATE_WRITE = 23
PAGE_BYTES = mmap.PAGESIZE
PRIVATE_MAPPING_BYTES_MIN = 1 << 20
_ALIGNMENT = 64
_SHARED_BYTES_MAX = 4 << 20
_SIMILAR_OBJECTS = 4
_REGION_SHIFT = 18
_POPULATE_BYTES_MIN = 256 << 10
# Larger values go through the file where the mapping is cold: 100 MB take 24 ms of one core instead of 42,
# and two threads share them.
_FILE_BYTES_MIN = 16 << 20
_FILE_PIECE_BYTES = 4 << 20


def _map(descriptor: int, size: int, protection: int, flags: int, offset: int = 0) -> int:
    address = _mmap(None, size, protection, flags, descriptor, offset)
    if address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"can't map {size} bytes of the store: {os.strerror(number)}")
    return address


def _memory_at(address: int, size: int) -> Tuple[Any, memoryview]:
    """A ctypes array at `address` and its bytes; the array lives as long as any view of the bytes."""
    array = (ctypes.c_ubyte * size).from_address(address)
    return array, pickle.PickleBuffer(array).raw()


def _write_to_file(descriptor: int, start: int, value: SerializedValue) -> None:
    pieces: Deque[Tuple[int, memoryview]] = deque()
    for offset, buffer in [(0, memoryview(value.head)), *value.buffers]:
        for at in range(0, buffer.nbytes, _FILE_PIECE_BYTES):
            pieces.append((start + offset + at, buffer[at : at + _FILE_PIECE_BYTES]))
    errors: List[OSError] = []

    def write() -> None:
        try:
            while True:
                offset, piece = pieces.popleft()
                while piece:
                    written = os.pwrite(descriptor, piece, offset)
                    offset += written
                    piece = piece[written:]
        except IndexError:
            pass
        except OSError as error:
            errors.append(error)

    second = threading.Thread(target=write, name="ray-put", daemon=True)
    second.start()
    write()
    second.join()
    if errors:
        raise errors[0]


class _Segment:
    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self.descriptor = descriptor
        self.size_bytes = size_bytes
        self.read_address = 0
        self.write_address = 0
        self._warm = bytearray((size_bytes >> _REGION_SHIFT) + 1)

    def for_reading(self) -> int:
        if not self.read_address:
            self.read_address = _map(
                self.descriptor, self.size_bytes, mmap.PROT_READ, mmap.MAP_SHARED
            )
        return self.read_address

    def for_writing(self) -> int:
        if not self.write_address:
            self.write_address = _map(
                self.descriptor, self.size_bytes, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED
            )
        return self.write_address

    def is_cold(self, offset: int, size_bytes: int) -> bool:
        """Whether part of it has never been written by this process through its mapping."""
        first, last = offset >> _REGION_SHIFT, (offset + size_bytes - 1) >> _REGION_SHIFT
        return 0 in self._warm[first : last + 1]

    def warm(self, offset: int, size_bytes: int) -> None:
        """Enter the pages into this process's tables at once: faults one by one cost twice as much."""
        end = offset + size_bytes
        if size_bytes < _POPULATE_BYTES_MIN or not self.is_cold(offset, size_bytes):
            return
        start = offset & -PAGE_BYTES
        _madvise(self.for_writing() + start, end - start, _MADV_POPULATE_WRITE)
        # Also those that are covered in part: the rest of them costs a few faults.
        first, last = offset >> _REGION_SHIFT, (end - 1) >> _REGION_SHIFT
        self._warm[first : last + 1] = b"\1" * (last + 1 - first)


class _Pin(weakref.ref):
    """Tells when the array that it watches died."""

    __slots__ = ("id", "mapping")

    def __new__(cls, array: Any, on_death: Callable, id: bytes, mapping: Tuple[int, int]) -> "_Pin":
        return super().__new__(cls, array, on_death)

    def __init__(self, array: Any, on_death: Callable, id: bytes, mapping: Tuple[int, int]) -> None:
        super().__init__(array, on_death)
        self.id = id
        self.mapping = mapping


class Located:
    """An object in the store, pinned once for whoever holds this or a view that came from it."""

    __slots__ = ("view", "_store", "_id", "_segment", "_offset")

    def __init__(self, store: "Store", id: bytes, segment: int, offset: int, view: memoryview) -> None:
        self.view = view
        self._store = store
        self._id = id
        self._segment = segment
        self._offset = offset

    def writable_view(self) -> memoryview:
        """The bytes for someone who may write: pages of their own, copied when they are written to."""
        size = self.view.nbytes
        if size < PRIVATE_MAPPING_BYTES_MIN or self._offset % PAGE_BYTES:
            copy = bytearray(size)
            memoryview(copy)[:] = self.view
            return memoryview(copy)
        return self._store.private_mapping(self._id, self._segment, self._offset, self.view)


class Store:
    """The segments that were handed to this process. Thread-safe."""

    def __init__(self, references: References) -> None:
        self._references = references
        self._segments: Dict[int, _Segment] = {}
        self._pins: Dict[int, _Pin] = {}  # by id(): weak references hash as what they refer to
        self._keepers: Dict[int, memoryview] = {}
        self._cold: Deque[Tuple[int, int, int]] = deque()
        # Workers: waits for a segment that was named and has not come yet.
        self.await_segment: Optional[Callable[[int], None]] = None

    def knows(self, number: int) -> bool:
        """Whether the segment has come."""
        return number in self._segments

    def add_segment(self, number: int, size_bytes: int, descriptor: int) -> None:
        """Takes the descriptor over."""
        old = self._segments.get(number)
        if old is not None:
            os.close(old.descriptor)  # its mappings stay: views of them may be alive
        self._segments[number] = _Segment(descriptor, size_bytes)

    def locate(self, id: bytes, segment: int, offset: int, size_bytes: int) -> Located:
        """The object that was delivered as pinned; unpinned when the last view of it dies."""
        known = self._known(segment, offset, size_bytes)
        array, view = _memory_at(known.for_reading() + offset, size_bytes)
        self._watch(array, id, (0, 0))
        return Located(self, id, segment, offset, view.toreadonly())

    def write(self, segment: int, offset: int, value: SerializedValue) -> None:
        """Write a value where the caller has a lease; one copy, as fast as the pages' state allows."""
        known = self._known(segment, offset, value.size_bytes)
        if value.size_bytes >= _FILE_BYTES_MIN and known.is_cold(offset, value.size_bytes):
            _write_to_file(known.descriptor, offset, value)
            self._cold.append((segment, offset, value.size_bytes))
            return
        known.warm(offset, value.size_bytes)
        value.write_to(_memory_at(known.for_writing() + offset, value.size_bytes)[1])

    def warm_up(self) -> None:
        """Make later writes to memory that was written through its file as fast as memory is. Takes
        milliseconds, without the interpreter's lock."""
        while self._cold:
            segment, offset, size_bytes = self._cold.popleft()
            known = self._segments.get(segment)
            if known is not None:
                known.warm(offset, size_bytes)

    def private_mapping(
        self, id: bytes, segment: int, offset: int, pinned: memoryview
    ) -> memoryview:
        """A copy-on-write mapping of one object, which stays pinned until the mapping dies."""
        size = pinned.nbytes
        known = self._known(segment, offset, size)
        address = _map(
            known.descriptor, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, offset
        )
        self._keepers[address] = pinned
        array, view = _memory_at(address, size)
        self._watch(array, b"", (address, size))
        return view

    def close(self) -> None:
        """Give the descriptors back. Mappings stay: the user may still look at what they got."""
        for segment in self._segments.values():
            os.close(segment.descriptor)
        self._segments.clear()

    def _known(self, number: int, offset: int, size_bytes: int) -> _Segment:
        segment = self._segments.get(number)
        if segment is None and self.await_segment is not None:
            self.await_segment(number)
            segment = self._segments.get(number)
        if segment is None:
            raise OSError(f"the raylet named segment {number} of the store before it passed it")
        if offset + size_bytes > segment.size_bytes:
            raise OSError(
                f"the raylet named bytes {offset}..{offset + size_bytes} of segment {number}, "
                f"which has {segment.size_bytes}"
            )
        return segment

    def _watch(self, array: Any, id: bytes, mapping: Tuple[int, int]) -> None:
        if id:
            self._references.pins += 1
        pin = _Pin(array, self._on_death, id, mapping)
        self._pins[builtin_id(pin)] = pin

    def _on_death(self, pin: _Pin) -> None:
        self._pins.pop(builtin_id(pin), None)
        address, size = pin.mapping
        if address:
            _munmap(address, size)
            self._keepers.pop(address, None)
        else:
            self._references.unpinned.append(pin.id)


class _Slab:
    __slots__ = ("number", "segment", "offset", "size_bytes", "used", "unreported", "retired")

    def __init__(self, number: int, segment: int, offset: int, size_bytes: int) -> None:
        self.number = number
        self.segment = segment
        self.offset = offset
        self.size_bytes = size_bytes
        self.used = 0
        self.unreported = 0
        self.retired = False


class Slabs:
    """Leased memory to write objects into: one slab for small ones, one of exact size for each large one.

    write() takes memory of one; after the frame that seals it was sent, reported() must be called, and
    slabs that nobody will write to any more go back in take_returns(). Thread-safe.
    """

    # `lease(size_bytes)` asks the raylet and waits: (slab, segment, offset, size).
    def __init__(
        self, store: Store, lease: Callable[[int], Tuple[int, int, int, int]], usual_bytes: int,
        capacity_bytes: int,
    ) -> None:
        self._store = store
        self._lease = lease
        self._usual_bytes = usual_bytes
        # Larger ones get a slab of exact size.
        self._shared_bytes_max = max(
            usual_bytes // 4, min(_SHARED_BYTES_MAX, capacity_bytes // 64 // _SIMILAR_OBJECTS)
        )
        self._lock = threading.Lock()
        self._leasing = threading.Lock()
        self._current: Optional[_Slab] = None
        self._slabs: Dict[int, _Slab] = {}
        self._returns: List[int] = []

    def write(self, value: SerializedValue) -> Tuple[int, int]:
        """Write a value somewhere: (slab, offset within it). Raises what `lease` raises."""
        slab, offset = self._place(value.size_bytes)
        self._store.write(slab.segment, slab.offset + offset, value)
        return slab.number, offset

    def _place(self, size_bytes: int) -> Tuple[_Slab, int]:
        if size_bytes > self._shared_bytes_max:
            slab = self._new_slab(size_bytes)
            with self._lock:
                slab.retired = True
                slab.used = size_bytes
                slab.unreported = 1
            return slab, 0
        with self._lock:
            placed = self._place_in_current(size_bytes)
        if placed is not None:
            return placed
        with self._leasing:
            with self._lock:
                placed = self._place_in_current(size_bytes)
                if placed is not None:
                    return placed
            # Room for a few more of the kind: a lease is a round trip through raylet and store.
            slab = self._new_slab(max(self._usual_bytes, _SIMILAR_OBJECTS * size_bytes))
            with self._lock:
                old, self._current = self._current, slab
                if old is not None:
                    old.retired = True
                    self._return_if_done(old)
                placed = self._place_in_current(size_bytes)
        if placed is None:
            raise OSError(f"a slab of {slab.size_bytes} bytes came, too small for {size_bytes}")
        return placed

    def reported(self, slab_numbers: List[int]) -> None:
        """What lies in these slabs (one mention an object) is known to the raylet."""
        with self._lock:
            for number in slab_numbers:
                slab = self._slabs.get(number)
                if slab is not None:
                    slab.unreported -= 1
                    self._return_if_done(slab)

    def take_returns(self) -> List[int]:
        """Slabs to give back."""
        if not self._returns:
            return self._returns
        with self._lock:
            returns, self._returns = self._returns, []
        return returns

    def _place_in_current(self, size_bytes: int) -> Optional[Tuple[_Slab, int]]:
        slab = self._current
        if slab is None:
            return None
        alignment = _ALIGNMENT if size_bytes < PRIVATE_MAPPING_BYTES_MIN else PAGE_BYTES
        offset = ((slab.offset + slab.used + alignment - 1) & -alignment) - slab.offset
        if offset + size_bytes > slab.size_bytes:
            return None
        slab.used = offset + size_bytes
        slab.unreported += 1
        return slab, offset

    def _new_slab(self, size_bytes: int) -> _Slab:
        slab = _Slab(*self._lease(size_bytes))
        with self._lock:
            self._slabs[slab.number] = slab
        return slab

    def _return_if_done(self, slab: _Slab) -> None:
        if slab.retired and not slab.unreported:
            del self._slabs[slab.number]
            self._returns.append(slab.number)
