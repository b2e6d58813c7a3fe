"""Records graph shapes of real Dask collections, and how many outputs dask.order keeps alive on them.

Writes tests/support/order_shapes.txt, which //daemons/raylet/core:order_test reads and judges our own order
by. Run it again (`.venv/bin/python tests/bench/order_shapes.py`) when shapes are added; the result depends
on Dask's version, which the first line names.

The file: lines of words. Per shape

    shape NAME TASKS EDGES DASK_PEAK_OUTPUTS DASK_PEAK_BYTES
    sizes  one size in bytes per task (of its real output: the graph is run once)
    counts one number of dependencies per task
    deps   task numbers, in the order of the tasks

and every list is run-length coded: `VALUE*COUNT` for COUNT times VALUE; deps are differences to the task's
own number. Tasks are numbered in the order of the graph's mapping, which is not an execution order.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask._task_spec import Alias, DataNode, convert_legacy_graph
from dask.base import collections_to_expr
from dask.order import order
from dask.sizeof import sizeof

FIXTURE = Path(__file__).resolve().parent.parent / "support" / "order_shapes.txt"


def source(side: int, chunk: int) -> da.Array:
    """A square array of float64, side x side, made from nothing chunk by chunk."""
    return da.random.default_rng(1).random((side, side), chunks=(chunk, chunk))


def frame(rows: int, partitions: int) -> dd.DataFrame:
    table = pd.DataFrame({"key": np.arange(rows) * 7919 % rows, "value": np.arange(rows) * 0.5})
    return dd.from_pandas(table, npartitions=partitions)


def chains(count: int, length: int) -> Dict[Any, Any]:
    graph: Dict[Any, Any] = {}
    for c in range(count):
        graph[("chain", c, 0)] = (float, c)
        for i in range(1, length):
            graph[("chain", c, i)] = (float, ("chain", c, i - 1))
    return graph


def tree_of_adds(leaves: int) -> Dict[Any, Any]:
    """A binary tree of additions, level by level, as a plain dict."""
    graph: Dict[Any, Any] = {("add", 0, i): (float, i) for i in range(leaves)}
    level, width = 0, leaves
    while width > 1:
        for i in range(width // 2):
            graph[("add", level + 1, i)] = (max, ("add", level, 2 * i), ("add", level, 2 * i + 1))
        level, width = level + 1, width // 2
    return graph


def anomaly() -> da.Array:
    """Values minus the mean of their month of the year: the shape of a climatology."""
    months = 12
    x = da.random.default_rng(1).random((240, 20, 20), chunks=(1, 10, 10))
    means = [x[m::months].mean(axis=0) for m in range(months)]
    parts = [x[m::months] - means[m] for m in range(months)]
    return da.concatenate(parts).std(axis=0)


def moments() -> List[da.Array]:
    x = da.random.default_rng(1).random((2000, 6), chunks=(10, 6))
    y = da.random.default_rng(2).random((2000, 6), chunks=(10, 6))
    return [(x * x).mean(0), (y * y).mean(0), (x * y).mean(0)]


SHAPES: Dict[str, Callable[[], Any]] = {
    "tree_reduction": lambda: source(240, 8).sum(split_every=2),
    "tree_of_adds": lambda: tree_of_adds(1024),
    "rechunk": lambda: da.random.default_rng(1).random((600, 600), chunks=(15, 600))
    .rechunk((600, 15), block_size_limit=100_000),
    "rechunk_stages": lambda: da.random.default_rng(1).random((480, 480), chunks=(12, 12))
    .rechunk((20, 20)),
    "rechunk_sum": lambda: source(320, 10).rechunk((320, 10)).sum(axis=0),
    "shuffle": lambda: frame(4096, 64).shuffle("key", shuffle_method="tasks", npartitions=64),
    "shuffle_groupby": lambda: frame(4096, 40)
    .shuffle("key", shuffle_method="tasks").groupby("key").value.sum(),
    "map_overlap": lambda: source(160, 10).map_overlap(lambda b: b * 2, depth=1, boundary="none"),
    "map_overlap_sum": lambda: source(200, 10).map_overlap(lambda b: b * 2, depth=1, boundary="none").sum(),
    "qr": lambda: list(da.linalg.qr(da.random.default_rng(1).random((3000, 6), chunks=(10, 6)))),
    "qr_sum": lambda: da.linalg.qr(da.random.default_rng(1).random((3000, 6), chunks=(10, 6)))[0].sum(),
    "svd": lambda: list(da.linalg.svd(da.random.default_rng(1).random((2000, 6), chunks=(10, 6)))),
    "chains": lambda: chains(400, 8),
    "symmetric_minus_mean": lambda: (lambda x: x + x.T - x.mean(axis=0))(source(200, 10)),
    "symmetric_minus_mean_sum": lambda: (lambda x: (x + x.T - x.mean(axis=0)).sum())(source(200, 10)),
    "matmul": lambda: (lambda x: x @ x.T)(source(90, 10)),
    "anomaly": anomaly,
    "moments": moments,
    "cumsum": lambda: da.random.default_rng(1).random((4000,), chunks=(10,)).cumsum(axis=0),
}


def materialise(made: Any) -> Dict[Any, Any]:
    """The optimised graph that a scheduler would be handed, as a dict of Dask's task nodes."""
    if isinstance(made, dict):
        return convert_legacy_graph(made)
    collections = made if isinstance(made, list) else [made]
    expression = collections_to_expr(collections).optimize()
    return convert_legacy_graph(dict(expression.__dask_graph__()))


def without_free_nodes(graph: Dict[Any, Any]) -> Dict[Any, List[Any]]:
    """Task -> tasks it depends on; aliases are looked through and literals left out: neither is a task."""

    def resolve(key: Any) -> Any:
        while isinstance(graph[key], Alias):
            key = graph[key].target
        return key

    tasks: Dict[Any, List[Any]] = {}
    for key, node in graph.items():
        if isinstance(node, (Alias, DataNode)):
            continue
        # Sorted, because a set's order differs from run to run.
        wanted = sorted({resolve(d) for d in node.dependencies}, key=str)
        tasks[key] = [d for d in wanted if not isinstance(graph[d], DataNode)]
    return tasks


def peak(tasks: Dict[Any, List[Any]], rank: Dict[Any, Any], size: Dict[Any, int]) -> int:
    """Most bytes alive when tasks run one by one by rank; outputs nobody reads stay to the end."""
    readers = {key: 0 for key in tasks}
    for deps in tasks.values():
        for dep in deps:
            readers[dep] += 1
    alive = highest = 0
    for key in sorted(tasks, key=rank.__getitem__):
        alive += size[key]
        highest = max(highest, alive)
        for dep in tasks[key]:
            readers[dep] -= 1
            if readers[dep] == 0:
                alive -= size[dep]
    return highest


def run_lengths(numbers: Sequence[int]) -> str:
    words: List[str] = []
    at = 0
    while at < len(numbers):
        end = at
        while end < len(numbers) and numbers[end] == numbers[at]:
            end += 1
        words.append(str(numbers[at]) + (f"*{end - at}" if end - at > 1 else ""))
        at = end
    return " ".join(words)


def record(name: str, made: Any) -> Tuple[str, str]:
    graph = materialise(made)
    tasks = without_free_nodes(graph)
    keys = list(tasks)
    number = {key: i for i, key in enumerate(keys)}
    values = dask.get(graph, keys)
    size = {key: max(1, int(v.nbytes) if isinstance(v, np.ndarray) else sizeof(v))
            for key, v in zip(keys, values)}
    rank = order(graph)
    peak_outputs = peak(tasks, rank, dict.fromkeys(keys, 1))
    peak_bytes = peak(tasks, rank, size)
    edges = [number[d] - number[key] for key in keys for d in tasks[key]]
    lines = [
        f"shape {name} {len(keys)} {len(edges)} {peak_outputs} {peak_bytes}",
        "sizes " + run_lengths([size[key] for key in keys]),
        "counts " + run_lengths([len(tasks[key]) for key in keys]),
        "deps " + run_lengths(edges),
    ]
    said = f"{name:26} {len(keys):6} tasks {len(edges):6} edges  dask.order keeps {peak_outputs} outputs alive"
    return "\n".join(lines) + "\n", said


def main() -> None:
    with dask.config.set({"dataframe.shuffle.method": "tasks", "scheduler": "sync"}):
        text = f"# dask {dask.__version__}; made by tests/bench/order_shapes.py\n"
        for name, make in SHAPES.items():
            lines, said = record(name, make())
            text += lines
            print(said, file=sys.stderr)
    FIXTURE.write_text(text)
    print(f"{FIXTURE}: {len(text)} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
