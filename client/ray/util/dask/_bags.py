"""Bags are grouped by tasks, and yet as Dask's grouping through a local disk does it.

That one is Dask's own default. The other takes functions only, no index or name to group by, and makes as many
partitions as it got, however many it was asked for.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import inspect
import operator
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Optional

_MODULE = "dask.bag.core"


def install() -> None:
    """Have Bag.groupby do so from here on: at once, or as soon as bags are imported."""
    module = sys.modules.get(_MODULE)
    if module is None:
        sys.meta_path.insert(0, _OnImport())
    else:
        _change(module)


class _OnImport(importlib.abc.MetaPathFinder):
    """Waits for the import of bags, which takes time that most programs need not spend."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _change(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _change(module: Any) -> None:
    dask_groupby = module.Bag.groupby
    if getattr(dask_groupby, "_knows_raylet", False):
        return
    signature = inspect.signature(dask_groupby)

    @functools.wraps(dask_groupby)
    def groupby(self: Any, grouper: Any, *args: Any, **kwargs: Any) -> Any:
        if not callable(grouper):
            grouper = operator.itemgetter(*grouper) if isinstance(grouper, list) else operator.itemgetter(grouper)
        grouped = dask_groupby(self, grouper, *args, **kwargs)
        npartitions = signature.bind(self, grouper, *args, **kwargs).arguments.get("npartitions")
        if npartitions is None or npartitions == grouped.npartitions:
            return grouped
        return grouped.repartition(npartitions=npartitions)

    groupby._knows_raylet = True  # type: ignore[attr-defined]
    module.Bag.groupby = groupby
