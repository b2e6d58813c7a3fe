"""Dask's node classes, by which the newer grammar of graphs says what is a task, a reference and a value.

A Dask that has none gets empty classes in their place, so that nobody else has to ask.
"""

from __future__ import annotations

try:
    from dask._task_spec import (
        Alias, DataNode, GraphNode, NestedContainer, Task, TaskRef, _execute_subgraph as execute_subgraph,
    )

    HAS_NODES = True
except ImportError:  # Dask before 2024.9
    HAS_NODES = False

    class GraphNode:  # type: ignore[no-redef]
        """No value is one."""

    Alias = DataNode = NestedContainer = Task = TaskRef = GraphNode
    execute_subgraph = None
