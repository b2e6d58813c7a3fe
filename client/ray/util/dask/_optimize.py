"""Graph optimizers for Dask's configuration: `dataframe_optimize`, what keeps annotations, delayed work.

Before Dask handed expressions to its scheduler (2025.4), a scheduler saw only what the optimizers of arrays
and bags leave: a plain dict, without the annotations of what they fused. enable_dask_on_ray() puts those
here in their place; they fuse layers with annotations no further than Dask's own rules for annotations go,
and are Dask's own for graphs that have none.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any, Callable, Dict, Iterable

import dask
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph
from dask.optimization import cull

_LAYERS_MIN = 500  # where the difference begins to show


def dataframe_optimize(dsk: Any, keys: Iterable, **kwargs: Any) -> Any:
    """Dask's own optimizer of data frames, as far as this Dask has one.

    For `dask.config.set(dataframe_optimize=...)` in scripts written for Dask on Ray. Shuffles need no
    optimizer: they are recognised in the graph.
    """
    try:
        optimize = importlib.import_module("dask.dataframe.optimize").optimize
    except (ImportError, AttributeError):  # data frames are expressions, which are optimized before
        return dsk
    return optimize(dsk, keys, **kwargs)


def annotated(dsk: Any) -> bool:
    """Whether any layer says something of its tasks."""
    layers = dsk.layers.values() if isinstance(dsk, HighLevelGraph) else ()
    return any(layer.annotations for layer in layers)


def _keeping(module: str, unfused: Callable[..., Any]) -> Callable[..., Any]:
    optimize = importlib.import_module(module).optimize

    @functools.wraps(optimize)
    def keep_annotations(dsk: Any, keys: Any, **kwargs: Any) -> Any:
        return (unfused if annotated(dsk) else optimize)(dsk, keys, **kwargs)

    return keep_annotations


def _array_unfused(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    optimize = importlib.import_module("dask.array.optimization").optimize
    with dask.config.set({"optimization.fuse.active": False}):
        return optimize(dsk, keys, **kwargs)


def _bag_unfused(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    return dsk.cull(set(flatten(keys)))


def delayed_optimize(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """As Dask's own optimizer of delayed work, which culls, in time that grows with the graph and no faster.

    Dask's goes over all keys once for each layer, and in delayed work each task is a layer. For Dasks with
    expressions, where annotations are found in the graph as it was built.
    """
    if not isinstance(dsk, HighLevelGraph) or len(dsk.layers) < _LAYERS_MIN:
        return importlib.import_module("dask.delayed").optimize(dsk, keys, **kwargs)
    graph = dsk.to_dict()
    wanted = list(flatten(keys)) if isinstance(keys, (list, set)) else [keys]
    return cull(graph, wanted)[0]


def optimizers() -> Dict[str, Callable[..., Any]]:
    """What to configure on this Dask; not what the user configured otherwise."""
    if hasattr(dask.base, "collections_to_expr"):
        own = dask.config.get("delayed_optimize", None) is None
        return {"delayed_optimize": delayed_optimize} if own else {}
    made: Dict[str, Callable[..., Any]] = {}
    for name, module, unfused in (
        ("array_optimize", "dask.array.optimization", _array_unfused),
        ("bag_optimize", "dask.bag.core", _bag_unfused),
    ):
        if dask.config.get(name, None) is None:
            try:
                made[name] = _keeping(module, unfused)
            except ImportError:  # no NumPy here
                pass
    return made
