"""What Dask hands to a scheduler: graphs of every form as a plain mapping, and nested keys as a list."""

from __future__ import annotations

from typing import Any, Dict, Hashable, List, Mapping

import dask
from dask.core import flatten

from ray.util.dask._nodes import Alias


def fused_graph_of(dsk: Any, wanted: List[Hashable]) -> Mapping:
    """As graph_of; of data frames with what is done partition by partition in one task.

    Dask itself leaves that to the scheduler, and each task less is a partition less in the store.
    """
    if not is_sequence_of_expressions(dsk) or dask.config.get("optimization.fuse.active", None) is False:
        return graph_of(dsk)
    fused = type(dsk)(*[operand.fuse() for operand in dsk.operands])
    graph = dict(graph_of(fused))
    for key, new in zip(flatten(dsk.__dask_keys__()), flatten(fused.__dask_keys__())):
        graph.setdefault(key, Alias(key, new))
    return graph if all(key in graph for key in wanted) else graph_of(dsk)


def is_sequence_of_expressions(dsk: Any) -> bool:
    """Whether Dask passes data frames, each an expression of its own."""
    return type(dsk).__name__ == "_ExprSequence" and all(hasattr(op, "fuse") for op in dsk.operands)


def graph_of(dsk: Any) -> Mapping:
    """The plain mapping in whatever Dask passes: expressions, HighLevelGraphs, dicts."""
    if isinstance(dsk, dict):
        return dsk
    if hasattr(type(dsk), "to_dict"):  # asked of the class: a Delayed has every attribute
        return dsk.to_dict()
    if hasattr(dsk, "__dask_graph__"):
        return graph_of(dsk.__dask_graph__())
    if isinstance(dsk, Mapping):
        return dsk
    raise TypeError(
        f"expected a Dask graph (a dict, a HighLevelGraph or an expression), got {type(dsk).__name__}"
    )


def flat_keys(keys: Any) -> List[Hashable]:
    """Every key once, in order, out of nested lists."""
    found: Dict[Hashable, None] = {}
    stack = [keys]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(reversed(item))
        else:
            found[item] = None
    return list(found)


def nested(keys: Any, values: Dict[Hashable, Any]) -> Any:
    """The values of keys, nested as the keys are, in tuples."""
    if isinstance(keys, list):
        return tuple([nested(key, values) for key in keys])
    return values[keys]


def name_of(wanted: List[Hashable]) -> str:
    """What the graph is called in `raylet status`."""
    if not wanted:
        return "dask"
    first = str(wanted[0])[:60]
    return first if len(wanted) == 1 else f"{first} and {len(wanted) - 1} more"
