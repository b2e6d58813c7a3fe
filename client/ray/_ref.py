"""ObjectRef: the name of a value that is there, or will be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generator, Optional

from ray._references import References
from ray._serialize import collecting

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures

ID_BYTES = 28


class ObjectRef:
    """A reference to an object. As long as one is alive anywhere in the cluster, so is the object.

    Hashable, comparable, and picklable inside anything that goes through Raylet (arguments, results, puts).
    Pickled by anything else, it can be unpickled in this process until ray.shutdown(), and the object is kept
    until then, since nobody knows who still needs it.

    To Dask it is a future: it has a key, and a value that will be there.
    """

    __slots__ = ("_id", "_references", "__weakref__")

    __dask_future__ = True

    def __init__(self, id: bytes, _references: Optional[References] = None) -> None:
        if not isinstance(id, bytes) or len(id) != ID_BYTES:
            raise ValueError(f"an ObjectRef has {ID_BYTES} bytes, got {id!r:.80}")
        self._id = id
        if _references is None:
            _references = _current_references()
            _references.borrow(id)
        self._references = _references

    def __del__(self) -> None:
        try:
            self._references.dropped.append(self._id)
        except AttributeError:  # the constructor raised
            pass

    def binary(self) -> bytes:
        """The 28 bytes of the id: graph (16), task (8, big-endian), index (4, big-endian)."""
        return self._id

    def hex(self) -> str:
        """The id as 56 hex digits."""
        return self._id.hex()

    def task_id(self) -> str:
        """Graph and task as 48 hex digits; what `raylet explain` also understands with the index."""
        return self._id[:24].hex()

    def is_nil(self) -> bool:
        """Whether it is the one that names nothing."""
        return not any(self._id)

    @classmethod
    def nil(cls) -> "ObjectRef":
        """A reference that names nothing."""
        return adopt(bytes(ID_BYTES), References())

    def __hash__(self) -> int:
        return hash(self._id)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, ObjectRef) and self._id == other._id

    def __ne__(self, other: Any) -> bool:
        return not self == other

    def __repr__(self) -> str:
        return f"ObjectRef({self._id.hex()})"

    def __copy__(self) -> "ObjectRef":
        return self

    def __deepcopy__(self, memo: dict) -> "ObjectRef":
        return self

    def __reduce__(self) -> tuple:
        contained = collecting.contained
        if contained is None:
            self._references.keep(self._id)
            return _kept, (self._id, self._references.token)
        contained.append(self._id)
        return _borrowed, (self._id,)

    @property
    def key(self) -> "RefKey":
        """The name under which Dask's graphs refer to the object; it holds the object as this does."""
        return RefKey(self)

    def result(self, timeout: Optional[float] = None) -> Any:
        """The value, in buffers that may be written to; waits for it, at most `timeout` seconds.

        Raises what its task raised; GetTimeoutError. What tasks warned of until then are warnings here.
        """
        from ray._runtime import current_session
        from ray._values import get_values

        session = current_session()
        with session.warned.delivered():
            return get_values(session, [self], timeout, writable=True)[0]

    def exception(self, timeout: Optional[float] = None) -> Optional[BaseException]:
        """What `result` would raise of its task's, or None; waits as it does. Raises GetTimeoutError."""
        from ray.exceptions import GetTimeoutError

        try:
            self.result(timeout)
        except GetTimeoutError:
            raise
        except Exception as error:
            return error
        return None

    def done(self) -> bool:
        """Whether `result` would return or raise at once."""
        from ray._runtime import current_session

        return bool(current_session().ready([self._id], 1, 0))

    def future(self) -> "concurrent.futures.Future":
        """A concurrent.futures.Future of the value."""
        from ray._runtime import current_session
        from ray._values import future_of

        return future_of(current_session(), self)

    def as_future(self, _internal: bool = False) -> "asyncio.Future":
        """An asyncio future of the value, on the running loop."""
        import asyncio

        return asyncio.wrap_future(self.future())

    def __await__(self) -> Generator:
        return self.as_future().__await__()


class RefKey(str):
    """A key of Dask's for an object. Dask puts the key of a future in the future's place and lets go of that;
    so that the object lives until the graph is sent, its key holds it.
    """

    __slots__ = ("ref",)

    ref: ObjectRef

    def __new__(cls, ref: ObjectRef) -> "RefKey":
        key = super().__new__(cls, repr(ref))
        key.ref = ref
        return key

    def __reduce__(self) -> tuple:
        return RefKey, (self.ref,)


def adopt(id: bytes, references: References) -> ObjectRef:
    """A reference that `references` has counted already."""
    ref = ObjectRef.__new__(ObjectRef)
    ref._id = id
    ref._references = references
    return ref


def _borrowed(id: bytes) -> ObjectRef:
    references = _current_references()
    references.borrow(id)
    return adopt(id, references)


def _kept(id: bytes, token: bytes) -> ObjectRef:
    from ray._runtime import peek

    session = peek()
    if session is None or session.references.token != token:
        raise RuntimeError(
            "this ObjectRef was pickled outside of Raylet, by another process or before ray.shutdown(), and is "
            "worth nothing here. Pass it to a task, return it from one or ray.put what contains it; or ray.get it "
            "and pickle the value."
        )
    return _borrowed(id)


def _current_references() -> References:
    from ray._runtime import current_session

    return current_session().references
