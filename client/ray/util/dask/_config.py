"""enable_dask_on_ray and disable_dask_on_ray: Dask's configuration, for good or within a `with`."""

from __future__ import annotations

from typing import Any, Dict

import dask

from ray.util.dask._scheduler import ray_dask_get

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


def enable_dask_on_ray(shuffle: str = "tasks", use_shuffle_optimization: bool = True) -> dask.config.set:
    """Have Raylet run every Dask computation of this process. Use it as a context to undo it at its end.

    `shuffle`: Dask's shuffle method. `use_shuffle_optimization` is accepted so that scripts run unchanged; it
    changes nothing.
    """
    settings: Dict[str, Any] = {"scheduler": ray_dask_get}
    for key, kind in _shuffle_keys().items():
        settings[key] = shuffle if kind == "shuffle" else "tasks"
    return dask.config.set(settings)


def disable_dask_on_ray() -> dask.config.set:
    """Have Dask choose its own scheduler again. Use it as a context to come back at its end.

    Shuffles stay by tasks, so that a later compute(scheduler=ray_dask_get) is right.
    """
    return dask.config.set({"scheduler": None})
