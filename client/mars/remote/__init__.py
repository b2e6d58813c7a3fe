"""mars.remote: lazy calls on Raylet's workers."""

from __future__ import annotations

from mars import _absent
from mars._object import ExecutableTuple, Object, spawn

__all__ = ["ExecutableTuple", "Object", "spawn"]


def __getattr__(name: str) -> object:
    raise AttributeError(_absent.explain(f"mars.remote.{name}"))
