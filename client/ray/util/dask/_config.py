"""enable_dask_on_ray and disable_dask_on_ray: Dask's configuration, for good or within a `with`."""

from __future__ import annotations

from typing import Any, Dict, Optional

import dask

from ray.util.dask._client import refuse_active_client
from ray.util.dask._optimize import optimizers
from ray.util.dask._scheduler import NATIVE_SHUFFLE_KEY, ray_dask_get

# Without a distributed client Dask shuffles and rechunks through files on a local disk, which loses rows on
# more than one node.
_OLD_SHUFFLE_KEY = "shuffle"


def _knows(key: str) -> bool:
    missing = object()
    return dask.config.get(key, missing) is not missing


def _shuffle_keys() -> Dict[str, str]:
    """Where this Dask looks for the shuffle method."""
    if _knows("dataframe.shuffle.method"):
        return {"dataframe.shuffle.method": "shuffle", "array.rechunk.method": "rechunk"}
    if _knows("dataframe.shuffle.algorithm"):
        return {"dataframe.shuffle.algorithm": "shuffle"}
    return {_OLD_SHUFFLE_KEY: "shuffle"}


def set_defaults() -> None:
    """Have Dask shuffle by tasks unless the user chose something else."""
    for key in _shuffle_keys():
        if dask.config.get(key, None) is None:
            dask.config.set({key: "tasks"})


def enable_dask_on_ray(
    shuffle: Optional[str] = "tasks", use_shuffle_optimization: bool = True
) -> dask.config.set:
    """Have Raylet run every Dask computation of this process. Use it as a context to undo it at its end.

    `shuffle`: Dask's shuffle method; None is "tasks". With `use_shuffle_optimization`, a shuffle by tasks is
    recognised in the graph and run natively; without, its tasks run one by one as Dask has made them.

    Raises TypeError for a distributed.Client in place of a method, and RuntimeError while one is Dask's
    default: its shuffles and futures can't be computed here.
    """
    if shuffle is not None and not isinstance(shuffle, str):
        kind = type(shuffle).__name__
        hint = (
            "; Raylet needs no distributed.Client: call enable_dask_on_ray() without it"
            if "Client" in kind else ""
        )
        raise TypeError(f'shuffle must be the name of a shuffle method, "tasks" or "disk", got a {kind}{hint}')
    refuse_active_client()
    settings: Dict[str, Any] = {
        "scheduler": ray_dask_get, NATIVE_SHUFFLE_KEY: bool(use_shuffle_optimization), **optimizers(),
    }
    for key, kind in _shuffle_keys().items():
        settings[key] = (shuffle or "tasks") if kind == "shuffle" else "tasks"
    return dask.config.set(settings)


def disable_dask_on_ray() -> dask.config.set:
    """Have Dask choose its own scheduler again. Use it as a context to come back at its end.

    Shuffles stay by tasks, so that a later compute(scheduler=ray_dask_get) is right.
    """
    return dask.config.set({"scheduler": None})
