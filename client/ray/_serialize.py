"""Values as bytes and back: the one layout of everything that daemons carry unread.

Value bytes, little-endian:

    u32 magic, u32 kind (0 pickle, 1 raw bytes), u64 pickle_bytes, u64 buffer_count,
    buffer_count times (u64 offset from the start of the value, u64 size),
    the pickle (or the raw bytes), then the buffers, each at a multiple of 64.

Buffers are pickle protocol 5's out-of-band buffers: reading makes views of them and no copies. A view of
shared memory is read-only.
"""

from __future__ import annotations

import io
import pickle
import struct
import threading
from typing import Any, Callable, List, Optional, Sequence, Tuple

import cloudpickle

from ray import _ufuncs

MAGIC = 0x52565031
KIND_PICKLE = 0
KIND_RAW = 1
BUFFER_ALIGNMENT = 64
# Smaller buffers stay in the pickle: a view costs more than such a copy.
OUT_OF_BAND_BYTES_MIN = 2048

_HEADER = struct.Struct("<IIQQ")
_HEADER_BYTES = _HEADER.size
_ENTRY_BYTES = 16
_PLAIN_PREFIX = struct.pack("<II", MAGIC, KIND_PICKLE)
_NO_BUFFERS = struct.pack("<Q", 0)
_RAW_BYTES_MIN = 1024
_BY_VALUE_MARK = b"__main__"

# Pickled without a look inside: they can hold neither references nor code.
SIMPLE_TYPES = frozenset({int, float, complex, bool, type(None), str, bytes})

_dumps = pickle.dumps
_loads = pickle.loads


class UnpicklableError(Exception):
    """A value that can't be pickled; the message names the part that can't, as far as that is known."""


class SerializedValue:
    """A value ready to be written: its size is known, its buffers are still where the user has them.

    `contained` are the ids (28 bytes each) of the references inside.
    """

    __slots__ = ("head", "buffers", "size_bytes", "contained")

    def __init__(
        self, head: bytes, buffers: Sequence[Tuple[int, memoryview]], size_bytes: int,
        contained: Sequence[bytes],
    ) -> None:
        self.head = head
        self.buffers = buffers
        self.size_bytes = size_bytes
        self.contained = contained

    def to_bytes(self) -> bytes:
        """The value in one piece; a copy unless it has no buffers."""
        if not self.buffers:
            return self.head
        out = bytearray(self.size_bytes)
        self.write_to(memoryview(out))
        return bytes(out)

    def write_to(self, target: memoryview) -> None:
        """Write everything into a writable view of at least `size_bytes` bytes, in one copy."""
        copy_into(target, 0, memoryview(self.head))
        for offset, buffer in self.buffers:
            copy_into(target, offset, buffer)


_COPY_BYTES_AT_ONCE = 16 << 20  # the interpreter's lock is held meanwhile: about 1 ms


def copy_into(target: memoryview, offset: int, source: memoryview) -> None:
    """Copy `source` to target[offset:], letting other threads in between large pieces."""
    size = source.nbytes
    if size <= _COPY_BYTES_AT_ONCE:
        target[offset : offset + size] = source
        return
    for start in range(0, size, _COPY_BYTES_AT_ONCE):
        end = min(start + _COPY_BYTES_AT_ONCE, size)
        target[offset + start : offset + end] = source[start:end]


# ---------------------------------------------------------------- references met on the way


class _Collecting(threading.local):
    """Where references go that are pickled by this thread; None: outside of any value of ours."""

    contained: Optional[List[bytes]] = None


collecting = _Collecting()


def serialize(value: Any, pickler: type = cloudpickle.CloudPickler) -> SerializedValue:
    """Pickle a value; `pickler` does what pickle by itself can't. Raises UnpicklableError."""
    kind = type(value)
    if kind in SIMPLE_TYPES and not (kind is bytes and len(value) >= _RAW_BYTES_MIN):
        pickled = _dumps(value, 5)
        head = _HEADER.pack(MAGIC, KIND_PICKLE, len(pickled), 0) + pickled
        return SerializedValue(head, (), len(head), ())
    if kind is bytes:
        return _serialize_raw(value)
    buffers: List[memoryview] = []
    contained: List[bytes] = []
    pickled = dump_with(value, contained, _taker(buffers), pickler)
    if not buffers:
        head = _HEADER.pack(MAGIC, KIND_PICKLE, len(pickled), 0) + pickled
        return SerializedValue(head, (), len(head), contained)
    return _lay_out(pickled, buffers, contained)


def dump_simple(value: Any) -> bytes:
    """Value bytes of a value whose type is in SIMPLE_TYPES."""
    pickled = _dumps(value, 5)
    return _HEADER.pack(MAGIC, KIND_PICKLE, len(pickled), 0) + pickled


def _serialize_raw(value: bytes) -> SerializedValue:
    head = _HEADER.pack(MAGIC, KIND_RAW, len(value), 0)
    offset = len(head)
    return SerializedValue(head, ((offset, memoryview(value)),), offset + len(value), ())


def _taker(buffers: List[memoryview]) -> Callable[[pickle.PickleBuffer], bool]:
    def take(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous: into the pickle
            return True
        if raw.nbytes < OUT_OF_BAND_BYTES_MIN:
            return True
        buffers.append(raw)
        return False

    return take


def dump_with(
    value: Any, contained: List[bytes],
    buffer_callback: Optional[Callable[[pickle.PickleBuffer], Any]] = None,
    pickler: type = cloudpickle.CloudPickler,
) -> bytes:
    """Pickle with code of __main__, closures and lambdas by value; collects ids of references.

    Raises UnpicklableError.
    """
    before = collecting.contained
    collecting.contained = contained
    try:
        if not _by_value_modules():
            try:
                pickled = _dumps(value, 5, buffer_callback=buffer_callback)
                if _BY_VALUE_MARK not in pickled:
                    return pickled
            except (pickle.PicklingError, AttributeError, TypeError, ImportError):
                pass
            # Something inside only travels by value. From the start, with nothing of the first try left.
            contained.clear()
            if buffer_callback is not None:
                _forget(buffer_callback)
        return _dump_by_value(value, buffer_callback, pickler)
    finally:
        collecting.contained = before


def _by_value_modules() -> bool:
    registered = getattr(cloudpickle, "list_registry_pickle_by_value", None)
    return bool(registered is not None and registered())


def _forget(buffer_callback: Callable) -> None:
    for cell in getattr(buffer_callback, "__closure__", None) or ():
        if isinstance(cell.cell_contents, list):
            cell.cell_contents.clear()


def _dump_by_value(value: Any, buffer_callback: Optional[Callable], pickler: type) -> bytes:
    file = io.BytesIO()
    _ufuncs.install()
    try:
        pickler(file, protocol=5, buffer_callback=buffer_callback).dump(value)
    except Exception as error:
        raise UnpicklableError(explain_unpicklable(value, error)) from error
    return file.getvalue()


def explain_unpicklable(value: Any, error: BaseException) -> str:
    """One sentence: what can't be pickled, where it is in `value`, and why."""
    path, culprit = _find_culprit(value, "value", 0)
    what = f"{type(culprit).__module__}.{type(culprit).__qualname__}"
    where = "" if path == "value" else f", found at {path},"
    return f"an object of type {what}{where} can't be pickled: {type(error).__name__}: {error}"


def _can_pickle(value: Any) -> bool:
    before = collecting.contained
    collecting.contained = []
    try:
        cloudpickle.dumps(value, protocol=5)
        return True
    except Exception:
        return False
    finally:
        collecting.contained = before


def _find_culprit(value: Any, path: str, depth: int) -> Tuple[str, Any]:
    if depth >= 6:
        return path, value
    if isinstance(value, dict):
        parts = [(f"{path}[{key!r:.40}]", part) for key, part in list(value.items())[:100]]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = [(f"{path}[{number}]", part) for number, part in enumerate(list(value)[:100])]
    elif getattr(value, "__closure__", None):
        names = value.__code__.co_freevars
        parts = []
        for name, cell in zip(names, value.__closure__):
            try:
                parts.append((f"{path}'s variable {name}", cell.cell_contents))
            except ValueError:
                pass
    else:
        attributes = getattr(value, "__dict__", None)
        if not isinstance(attributes, dict) or isinstance(value, type):
            return path, value
        parts = [(f"{path}.{name}", part) for name, part in list(attributes.items())[:100]]
    for part_path, part in parts:
        if not _can_pickle(part):
            return _find_culprit(part, part_path, depth + 1)
    return path, value


def _lay_out(
    pickled: bytes, buffers: List[memoryview], contained: Sequence[bytes]
) -> SerializedValue:
    count = len(buffers)
    position = _HEADER_BYTES + _ENTRY_BYTES * count + len(pickled)
    placed: List[Tuple[int, memoryview]] = []
    table: List[int] = []
    for buffer in buffers:
        position = (position + BUFFER_ALIGNMENT - 1) & -BUFFER_ALIGNMENT
        placed.append((position, buffer))
        table += (position, buffer.nbytes)
        position += buffer.nbytes
    head = b"".join(
        (
            _HEADER.pack(MAGIC, KIND_PICKLE, len(pickled), count),
            struct.pack(f"<{2 * count}Q", *table),
            pickled,
        )
    )
    return SerializedValue(head, placed, position, contained)


# ---------------------------------------------------------------- reading


class BadValueError(ValueError):
    """Bytes that are no value."""


def deserialize(data: Any) -> Any:
    """The value in `data`, bytes or a memoryview whose life the value's own buffers prolong.

    Buffers are as writable as `data` is. Whatever unpickling raises goes through.
    """
    if type(data) is bytes and data[:8] == _PLAIN_PREFIX and data[16:24] == _NO_BUFFERS:
        return _loads(data[24:])
    view = memoryview(data)
    if view.nbytes < _HEADER_BYTES:
        raise BadValueError(f"expected a value of at least {_HEADER_BYTES} bytes, got {view.nbytes}")
    magic, kind, pickle_bytes, count = _HEADER.unpack_from(view)
    if magic != MAGIC or kind not in (KIND_PICKLE, KIND_RAW):
        raise BadValueError(f"expected value bytes, got some that begin with {bytes(view[:8])!r}")
    start = _HEADER_BYTES + _ENTRY_BYTES * count
    if start + pickle_bytes > view.nbytes:
        raise BadValueError(f"a value of {view.nbytes} bytes is cut off")
    if kind == KIND_RAW:
        return bytes(view[start : start + pickle_bytes])
    if not count:
        return _loads(view[start : start + pickle_bytes])
    table = struct.unpack_from(f"<{2 * count}Q", view, _HEADER_BYTES)
    buffers = []
    for number in range(0, 2 * count, 2):
        offset, size = table[number], table[number + 1]
        if offset + size > view.nbytes:
            raise BadValueError(f"a value of {view.nbytes} bytes is cut off")
        buffers.append(view[offset : offset + size])
    return _loads(view[start : start + pickle_bytes], buffers=buffers)


def copy_of(value: SerializedValue, writable: bool) -> Any:
    """The value once more: its buffers are the original's, read-only, or with `writable` its own."""
    head = value.head
    magic, kind, pickle_bytes, count = _HEADER.unpack_from(head)
    if kind == KIND_RAW:
        return bytes(value.buffers[0][1])
    start = _HEADER_BYTES + _ENTRY_BYTES * count
    buffers = [bytearray(b) if writable else b.toreadonly() for _, b in value.buffers]
    return _loads(memoryview(head)[start : start + pickle_bytes], buffers=buffers)


def deserialize_writable(data: Any) -> Any:
    """As deserialize, with buffers of their own that may be written to."""
    if type(data) is bytes and data[16:24] == _NO_BUFFERS:
        return deserialize(data)
    return deserialize(memoryview(bytearray(data)))
