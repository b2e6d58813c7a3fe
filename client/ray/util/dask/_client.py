"""What only a distributed.Client can do is refused, with what to do instead.

Its shuffles run inside of its own workers, and its futures are values that only it can get. distributed is never
imported here: who has not imported it has nothing of it.
"""

from __future__ import annotations

import sys
from typing import Any

# Dask's own functions, by their module's last name, that hand rows to the client's workers.
_HANDING_OVER = {
    "_shuffle": "_shuffle_transfer",
    "_merge": "create_assign_index_merge_transfer.<locals>.assign_index_merge_transfer",
}


def refuse_active_client() -> None:
    """Raises RuntimeError if a distributed.Client is what Dask gives its work to."""
    distributed = sys.modules.get("distributed")
    if distributed is None or not hasattr(distributed, "default_client"):
        return
    try:
        client = distributed.default_client()
    except ValueError:
        return
    raise RuntimeError(
        f"a distributed.Client is active ({client!r:.100}), and Dask gives its work to that. Close it before "
        "enable_dask_on_ray(), or make it with set_as_default=False"
    )


def refuse_distributeds(thing: Any) -> None:
    """Raises RuntimeError for a class or function that means nothing without a distributed.Client."""
    module = getattr(thing, "__module__", None)
    if type(module) is not str:
        return
    if module.startswith("distributed.shuffle") or _hands_over(module, thing):
        raise RuntimeError(
            f"the graph was made for a distributed.Client: it shuffles by its workers ({thing.__qualname__}, "
            '"p2p"). Build it again without one, after enable_dask_on_ray() or '
            'dask.config.set({"dataframe.shuffle.method": "tasks", "array.rechunk.method": "tasks"})'
        )
    if module == "distributed.client":
        raise RuntimeError(
            "the graph has a distributed.Future in it, whose value only its own distributed.Client can "
            "get. Call .result() on it first, or persist the collection again on Raylet"
        )


def _hands_over(module: str, function: Any) -> bool:
    package, _, last = module.rpartition(".")
    name = _HANDING_OVER.get(last)
    return name is not None and package.endswith("dask_expr") and getattr(function, "__qualname__", "") == name
