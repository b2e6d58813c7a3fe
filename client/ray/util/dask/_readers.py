"""Readers: which tasks of a graph read a key, as far as it matters for making its value within its only reader."""

from __future__ import annotations

from typing import Any, Dict, Hashable, List, Mapping, Set

from ray.util.dask._nodes import GraphNode
from ray.util.dask._shuffle_tasks import key_of

# Dask's own keys_in_tasks looks into no tuples and sets but tasks; the Converter finds references there, too.
_SEARCHED = (list, tuple, set, frozenset)


class Readers:
    """Of all keys of one graph, found in one pass over it. May count one too many, never one too few."""

    def __init__(self, graph: Mapping) -> None:
        self._needs: Dict[Hashable, List[int]] = {}  # by what is read: how much each of its readers reads
        for value in graph.values():
            read = _read_by(value, graph)
            for key in read:
                self._needs.setdefault(key, []).append(len(read))

    def is_single(self, key: Hashable, needs_max: int) -> bool:
        """Whether one task alone reads this key, and that one reads at most `needs_max` keys."""
        needs = self._needs.get(key, ())
        return len(needs) == 1 and needs[0] <= needs_max


def _read_by(value: Any, graph: Mapping) -> Set[Hashable]:
    """The keys that are read by the task (or whatever else it is) that is the value of a key."""
    found: Set[Hashable] = set()
    stack = [value]
    while stack:
        one = key_of(stack.pop())
        if isinstance(one, GraphNode):
            found |= one.dependencies
            continue
        try:
            is_key = one in graph
        except TypeError:  # something that has no hash
            is_key = False
        if is_key:
            found.add(one)
        elif isinstance(one, _SEARCHED):
            stack += one
        elif type(one) is dict:
            stack += one.values()
    return found
