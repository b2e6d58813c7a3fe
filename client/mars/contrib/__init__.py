"""mars.contrib: what of Mars works with others; here, Dask."""

from __future__ import annotations

from mars import _absent
from mars.contrib import dask

__all__ = ["dask"]


def __getattr__(name: str) -> object:
    raise AttributeError(_absent.explain(f"mars.contrib.{name}"))
