"""Which calls can't leave the caller's process: those on its memory and on its open files.

`da.store` into a NumPy array, `to_hdf5`, arrays read from an open h5py file: under threads they work, and a
copy of the target in another process would be written to in vain. They are Dask's own functions that read and
write chunks, on objects of h5py, in-memory zarr stores and, for those that write, on anything that is not known
to be storage outside of this process; and all that hold a lock of a class of the caller's own, whose copies in
other processes would exclude nobody. And whatever reads a generator that the caller has begun, calls a function
that changes something of the caller's (ray.util.dask._caller_writes), or is given files that are in its memory.
"""

from __future__ import annotations

import functools
import sys
from types import FunctionType, GeneratorType, MethodType
from typing import Any, Callable, Dict, Mapping, Optional, Sequence

from ray._calls import INPUTS, NODES, Apply, Build
from ray.util.dask._caller_writes import Change, change_by, parts_of
from ray.util.dask._locks import TRAVELLING_LOCKS

# Objects of these write to storage outside of the process, and from several at once. HDF5 can't do that: a file
# that is open in one process is locked for others, so xarray's netCDF files are written where they are open.
_OUTSIDE_MODULES = ("zarr", "tiledb", "xarray.backends.zarr")

_KINDS_KEPT_MAX = 10_000

_READER_NAMES = ("getter", "getter_nofancy", "getter_inline")
_WRITER_NAMES = ("store_chunk", "load_store_chunk", "load_chunk")
_READERS: Dict[int, Callable] = {}
_WRITERS: Dict[int, Callable] = {}
# By id: calls of these are worth a look. Empty until watch() has met dask.array.
WATCHED: Dict[int, Callable] = {}


def watch() -> None:
    """Fill WATCHED if dask.array was imported; if not, no graph has its functions, and it takes long to."""
    core = sys.modules.get("dask.array.core")
    if WATCHED or core is None:
        return
    for names, functions in ((_READER_NAMES, _READERS), (_WRITER_NAMES, _WRITERS)):
        found = [getattr(core, name, None) for name in names]
        functions.update({id(function): function for function in found if function is not None})
        WATCHED.update(functions)


def must_stay(converted: Any, steps: Sequence[Any]) -> bool:
    """Whether a converted task, or a step of it, or a call inside of either has to stay."""
    for function, args, kwargs in steps:
        named = kwargs or {}
        if stays(function, args, named) or any(_holds_one(value) for value in [*args, *named.values()]):
            return True
    return _holds_one(converted)


def _holds_one(node: Any) -> bool:
    if type(node) is Apply:
        if stays(node.function, node.args, node.kwargs):
            return True
        return any(_holds_one(value) for value in [*node.args, *node.kwargs.values()])
    if type(node) is Build:
        return any(_holds_one(item) for item in node.items) if node.items is not INPUTS else False
    return False


def stays(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether this call, whose arguments are converted, has to run in the caller's process."""
    key = id(function)
    if any(type(value) is GeneratorType for value in args):
        return True
    if any(map(is_callers_own, (function, *args, *kwargs.values()))):
        return True
    if key in _READERS:
        return bool(args) and _can_not_leave(args[0]) or _has_own_lock(args, kwargs)
    if key in _WRITERS:
        values = list(args[:2]) + list(kwargs.values())
        return any(_is_memory(value) for value in values) or _has_own_lock(args, kwargs)
    return False


@functools.lru_cache(maxsize=_KINDS_KEPT_MAX)
def may_be_callers_own(kind: type) -> bool:
    """Whether is_callers_own may say so of a value of this class."""
    if kind in (FunctionType, MethodType, functools.partial) or kind.__module__.partition(".")[0] == "fsspec":
        return True
    return type(getattr(kind, "__call__", None)) is FunctionType and not issubclass(kind, type)


def is_callers_own(value: Any) -> bool:
    """Whether a task that calls this, or is given it as an argument, has to run in the caller's process."""
    if not may_be_callers_own(type(value)):
        return False
    return change_by(value) is not None or any(map(_has_files_in_memory, [value, *parts_of(value)]))


def _has_files_in_memory(value: Any) -> bool:
    """Whether it is fsspec's file system of memory:// paths, or something that reads or writes files there."""
    found = getattr(value, "__dict__", {}).get("fs", value)
    return type(found).__name__ == "MemoryFileSystem" and type(found).__module__.startswith("fsspec.")


def change_of(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Optional[Change]:
    """What of the caller's a call changes, if that is why it stays."""
    found = (change_by(value) for value in (function, *args, *kwargs.values()) if may_be_callers_own(type(value)))
    return next((change for change in found if change is not None), None)


def _has_own_lock(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether the call is given a lock that is not one of those that travel (ray.util.dask._locks)."""
    return any(
        hasattr(value, "acquire") and hasattr(value, "release") and type(value) not in TRAVELLING_LOCKS
        and type(value) not in NODES
        for value in [*args[2:], *kwargs.values()]
    )


def _can_not_leave(value: Any) -> bool:
    module = type(value).__module__.partition(".")[0]
    return module == "h5py" or (module == "zarr" and _is_in_memory(value))


def _is_memory(value: Any) -> bool:
    """Whether a writer's argument is a target that lives in this process, as far as anyone can tell."""
    if type(value) in NODES or not hasattr(value, "__setitem__"):
        return False
    module = type(value).__module__
    if any(module == outside or module.startswith(outside + ".") for outside in _OUTSIDE_MODULES):
        return _can_not_leave(value)
    return True


def _is_in_memory(array: Any) -> bool:
    store = getattr(array, "store", None)
    store = getattr(store, "path", store) if type(store).__name__ == "StorePath" else store
    return isinstance(store, dict) or type(store).__name__ in ("MemoryStore", "KVStore", "GpuMemoryStore")
