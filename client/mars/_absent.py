"""What of Mars is not here, said when it is imported or asked for."""

from __future__ import annotations

import importlib.abc
import sys
from typing import Any, Optional, Sequence

_THERE = (
    "mars.new_session, mars.stop_server, mars.execute, mars.fetch, mars.remote.spawn, "
    "mars.contrib.dask.mars_scheduler and mars.contrib.dask.convert_dask_collection"
)


def explain(name: str) -> str:
    """The message of an error about `name`."""
    return (
        f"{name} is not part of Raylet's `mars`, which has {_THERE}. For arrays, data frames and bags use Dask "
        "with scheduler=mars_scheduler (docs/migrating.md)."
    )


class _Absent(importlib.abc.MetaPathFinder):
    """Asked last, for modules that nobody found."""

    def find_spec(self, fullname: str, path: Optional[Sequence[str]], target: Any = None) -> None:
        # A module's attributes with two underscores are looked for by tools, not by users.
        if fullname.startswith("mars.") and not fullname.rpartition(".")[2].startswith("__"):
            raise ImportError(explain(fullname), name=fullname)
        return None


def install() -> None:
    if not any(isinstance(finder, _Absent) for finder in sys.meta_path):
        sys.meta_path.append(_Absent())
