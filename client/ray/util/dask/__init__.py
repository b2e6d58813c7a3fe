"""Dask on Raylet: a scheduler for every Dask collection.

    import dask
    from ray.util.dask import enable_dask_on_ray, ray_dask_get

    collection.compute(scheduler=ray_dask_get)   # one computation
    enable_dask_on_ray()                         # all of this process, from here on
    with enable_dask_on_ray():                   # all in this block
        ...

Importing this module makes `scheduler="ray"` (and DASK_SCHEDULER=ray) work, and has Dask shuffle by tasks
unless another method was configured. See docs/dask.md.
"""

from __future__ import annotations

from dask.base import named_schedulers as _named_schedulers
from dask.base import normalize_token as _normalize_token

from ray._ref import ObjectRef as _ObjectRef
from ray.util.dask import _bags, _config, _dispatches, _locks, _persist, _tracebacks
from ray.util.dask._config import disable_dask_on_ray, enable_dask_on_ray
from ray.util.dask._optimize import dataframe_optimize
from ray.util.dask._persist import ray_dask_persist, ray_dask_persist_mixin
from ray.util.dask._scheduler import ray_dask_get, ray_dask_get_sync
from ray.util.dask.callbacks import (
    ProgressBarCallback, RayDaskCallback, local_ray_callbacks, unpack_ray_callbacks,
)

__all__ = [
    "ProgressBarCallback", "RayDaskCallback", "dataframe_optimize", "disable_dask_on_ray",
    "enable_dask_on_ray", "local_ray_callbacks", "ray_dask_get", "ray_dask_get_sync", "ray_dask_persist",
    "ray_dask_persist_mixin", "unpack_ray_callbacks",
]

# Collections over references have names, which Dask makes of what is in them.
_normalize_token.register(_ObjectRef, lambda ref: ("ray.ObjectRef", ref.hex()))
_named_schedulers.setdefault("ray", ray_dask_get)
_named_schedulers.setdefault("raylet", ray_dask_get)
_bags.install()
_persist.install()
_dispatches.install()
_locks.install()
_tracebacks.install()
_config.set_defaults()
