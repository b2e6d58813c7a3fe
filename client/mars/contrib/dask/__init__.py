"""mars.contrib.dask: Dask's collections on Raylet, by Mars' names."""

from __future__ import annotations

from mars import _absent
from mars.contrib.dask._convert import convert_dask_collection, mars_scheduler

__all__ = ["convert_dask_collection", "mars_scheduler"]


def __getattr__(name: str) -> object:
    raise AttributeError(_absent.explain(f"mars.contrib.dask.{name}"))
