"""persist: collections whose chunks are references, made before their tasks have run.

From Dask 2026.1 on, dask.persist asks the scheduler itself (its attribute `persist`). Before that, dask.persist
is wrapped, and what it does with any other scheduler stays as it was.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, List, Sequence

import dask
import dask.base

from ray.util.dask._scheduler import ray_dask_get


def _get_references(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """ray_dask_get, with references for values; as a function of its own, it has no `persist`."""
    kwargs.setdefault("ray_persist", True)
    return ray_dask_get(dsk, keys, **kwargs)


# Dask's own persist, as it was when this module was imported.
_dask_persist: Callable = dask.base.persist


def _persist_collections(
    collections: Sequence[Any], optimize_graph: bool = True, **kwargs: Any
) -> List[Any]:
    """What dask.persist asks of a scheduler: the same collections, running."""
    kwargs.pop("scheduler", None)
    return list(
        _dask_persist(
            *collections, traverse=False, optimize_graph=optimize_graph, scheduler=_get_references, **kwargs
        )
    )


def ray_dask_persist(*args: Any, **kwargs: Any) -> Any:
    """dask.persist on Raylet: returns as soon as the tasks are submitted.

    Gives a tuple of collections over ObjectRefs, to be computed on Raylet. Takes what dask.persist takes, and
    `ray_remote_args`; `scheduler` is ignored. An error in a task is raised by whatever needs its result.
    """
    kwargs.pop("scheduler", None)
    return _dask_persist(*args, scheduler=_get_references, **kwargs)


def ray_dask_persist_mixin(self: Any, **kwargs: Any) -> Any:
    """As ray_dask_persist, for one collection: gives the new one, not a tuple."""
    (result,) = ray_dask_persist(self, traverse=False, **kwargs)
    return result


def install() -> None:
    """Have dask.persist return early when ours is the scheduler."""
    ray_dask_get.persist = _persist_collections  # type: ignore[attr-defined]
    if _asks_scheduler() or getattr(dask.base.persist, "_knows_raylet", False):
        return

    @functools.wraps(_dask_persist)
    def persist(*args: Any, scheduler: Any = None, **kwargs: Any) -> Any:
        chosen = scheduler if scheduler is not None else dask.config.get("scheduler", None)
        if chosen is ray_dask_get or (isinstance(chosen, str) and _is_ours(chosen)):
            scheduler = _get_references
        return _dask_persist(*args, scheduler=scheduler, **kwargs)

    persist._knows_raylet = True  # type: ignore[attr-defined]
    dask.base.persist = persist
    dask.persist = persist


def _asks_scheduler() -> bool:
    """Whether dask.persist looks for a scheduler's own persist."""
    code = getattr(_dask_persist, "__code__", None)
    return code is not None and "hasattr" in code.co_names and "persist" in _strings_of(code)


def _strings_of(code: Any) -> Sequence[Any]:
    return [*code.co_consts, *code.co_names]


def _is_ours(name: str) -> bool:
    return dask.base.named_schedulers.get(name.lower()) is ray_dask_get
