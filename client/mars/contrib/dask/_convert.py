"""mars_scheduler and convert_dask_collection."""

from __future__ import annotations

from typing import Any, List

import dask

import ray
from mars._object import Object, Source
from ray.util.dask import ray_dask_get


def mars_scheduler(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """A Dask scheduler: `compute(scheduler=mars_scheduler)`, or dask.config.set(scheduler=mars_scheduler).

    As ray.util.dask.ray_dask_get, with the same arguments and errors; but `persist` brings values here, as
    Mars did, so that what was persisted may be computed further by any scheduler.
    """
    return ray_dask_get(dsk, keys, **kwargs)


class _Collection(Source):
    """A Dask collection, computed into one value."""

    def __init__(self, collection: Any) -> None:
        super().__init__(())
        self._collection = collection

    def submit(self, refs: List[ray.ObjectRef]) -> List[ray.ObjectRef]:
        found = _compute_there(self._collection)
        self._collection = None
        # Small plain values come back as they are.
        return [found if isinstance(found, ray.ObjectRef) else ray.put(found)]


def convert_dask_collection(dc: Any) -> Object:
    """A lazy object whose value is what `dc.compute()` gives; for `execute()` and for arguments of spawn.

    `dc`: any Dask collection: delayed, data frame, series, array, bag (which becomes a list). Raises TypeError
    for anything else.
    """
    if not dask.is_dask_collection(dc):
        raise TypeError(
            f"convert_dask_collection expected a Dask collection (delayed, data frame, array, bag), got "
            f"{type(dc).__name__}: {dc!r:.100}"
        )
    return Object(_Collection(dc))


def _compute_there(collection: Any) -> Any:
    """The whole value of a collection, as a reference, its pieces put together by a task."""
    if _finalizes_in_graph():
        # What Dask hands to a scheduler ends in one key for the whole value.
        return dask.compute(collection, scheduler=_references, traverse=False)[0]
    # Asked of the class: a Delayed has every attribute.
    if hasattr(type(collection), "optimize"):
        optimized = collection.optimize()
    else:
        (optimized,) = dask.optimize(collection)
    whole = dask.delayed(optimized)
    return ray_dask_get(whole.__dask_graph__(), whole.key, ray_persist=True)


def _references(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    return ray_dask_get(dsk, keys, ray_persist=True)


def _finalizes_in_graph() -> bool:
    """Whether this Dask (2025.4 and later) puts the pieces together by a task of the graph."""
    try:
        from dask._expr import FinalizeCompute  # noqa: F401
    except ImportError:
        return False
    return True
