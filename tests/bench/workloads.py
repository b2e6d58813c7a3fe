"""What the benchmark runs: each workload is the same work for every contender, and checks its own result.

A workload is given a contender (contenders.py) and yields samples: pairs of a measure's name and a number.
It raises WrongResult when an answer is not right; a fast wrong answer is no result.
"""

from __future__ import annotations

import itertools
import time
from typing import Any, Callable, Iterator

import numpy as np

Sample = tuple[str, float]


class WrongResult(Exception):
    """An answer that is not right."""


def must_equal(got: Any, expected: Any) -> None:
    """Raises WrongResult unless both are equal."""
    if got != expected:
        raise WrongResult(f"expected {str(expected)[:200]}, got {str(got)[:200]}")


rounds = itertools.count()


def fresh(name: str) -> str:
    """A key's name that was never used before: Dask's distributed may still hold the result of an old one."""
    return f"{name}-{next(rounds)}"


def noop(x: Any) -> Any:
    """The cheapest task."""
    return x


def add(x: Any, y: Any) -> Any:
    """One inner node of the tree."""
    return x + y


def increment(x: int) -> int:
    """One hop of the chain."""
    return x + 1


def count(values: list) -> int:
    """What takes many results into one."""
    return len(values)


def pair(x: Any, y: Any) -> int:
    """A reader of two results, one of them everybody's."""
    return len(x) + y


def make_block() -> bytes:
    """A result for many readers."""
    return b"x" * 1000


def fan_in_graph(tasks: int, width: int = 8192) -> tuple[dict, Any]:
    """`tasks` no-ops in blocks of `width`, a task that counts each block, and one that counts blocks."""
    graph: dict = {}
    blocks = []
    leaf, block, last = fresh("noop"), fresh("block"), fresh("all")
    for start in range(0, tasks, width):
        keys = [(leaf, i) for i in range(start, min(tasks, start + width))]
        graph.update({key: (noop, key[1]) for key in keys})
        graph[block, start] = (count, keys)
        blocks.append((block, start))
    graph[last] = (sum, blocks)
    return graph, last


def tree_graph(leaves: int) -> tuple[dict, Any]:
    """A binary tree of `leaves` - 1 additions over the numbers 0 .. leaves - 1."""
    graph: dict = {}
    level: list = list(range(leaves))
    depth, name = 0, fresh("add")
    while len(level) > 1:
        keys = [(name, depth, i) for i in range(len(level) // 2)]
        for i, key in enumerate(keys):
            graph[key] = (add, level[2 * i], level[2 * i + 1])
        level = keys
        depth += 1
    return graph, level[0]


def timed(run: Callable[[], Any], expected: Any) -> float:
    """Seconds that `run` took, having given `expected`."""
    start = time.perf_counter()
    got = run()
    seconds = time.perf_counter() - start
    must_equal(got, expected)
    return seconds


def fan_in(contender: Any, tasks: int) -> Iterator[Sample]:
    graph, key = fan_in_graph(tasks)
    seconds = timed(lambda: contender.get(graph, key), tasks)
    yield "tasks per second", len(graph) / seconds
    yield "µs per task", seconds / len(graph) * 1e6


def polled_fan_in(contender: Any, tasks: int) -> Iterator[Sample]:
    graph, key = fan_in_graph(tasks)
    with contender.polled() as polls:
        seconds = min(timed(lambda: contender.get(graph, key), tasks) for _ in range(5))
    yield "tasks per second", len(graph) / seconds
    yield "longest answer ms", polls["longest_ms"]


def null_fan_in(contender: Any, tasks: int) -> Iterator[Sample]:
    graph, key = fan_in_graph(tasks)
    yield "tasks per second", len(graph) / timed(lambda: contender.get(graph, key), None)


def tree(contender: Any, leaves: int) -> Iterator[Sample]:
    graph, key = tree_graph(leaves)
    seconds = timed(lambda: contender.get(graph, key), leaves * (leaves - 1) // 2)
    yield "tasks per second", len(graph) / seconds


def chain(contender: Any, hops: int) -> Iterator[Sample]:
    hop = fresh("hop")
    graph: dict = {(hop, 0): (increment, 0)}
    graph.update({(hop, i): (increment, (hop, i - 1)) for i in range(1, hops)})
    yield "µs per hop", timed(lambda: contender.get(graph, (hop, hops - 1)), hops) / hops * 1e6


def single(contender: Any, times: int) -> Iterator[Sample]:
    for i in range(times):
        key = fresh("single")
        yield "µs", timed(lambda: contender.get({key: (increment, i)}, key), i + 1) * 1e6


def one_call(contender: Any, times: int) -> Iterator[Sample]:
    remote = contender.ray.remote(increment)
    for i in range(times):
        yield "µs", timed(lambda: contender.ray.get(remote.remote(i)), i + 1) * 1e6


def many_calls(contender: Any, calls: int) -> Iterator[Sample]:
    remote = contender.ray.remote(increment)
    seconds = timed(
        lambda: contender.ray.get([remote.remote(i) for i in range(calls)]), list(range(1, calls + 1))
    )
    yield "calls per second", calls / seconds


def put_and_get(contender: Any, times: int) -> Iterator[Sample]:
    array = np.random.default_rng(0).random(12_500_000)  # 100 MB
    target = np.empty_like(array)
    target[:] = 0
    memcpy = min(timed(lambda: np.copyto(target, array), None) for _ in range(5))
    yield "memcpy GB/s", array.nbytes / memcpy / 1e9
    for i in range(times):
        start = time.perf_counter()
        ref = contender.ray.put(array)
        middle = time.perf_counter()
        got = contender.ray.get(ref)
        end = time.perf_counter()
        must_equal((got.shape, float(got[0]), float(got[-1])), (array.shape, float(array[0]), float(array[-1])))
        speed = array.nbytes / (middle - start) / 1e9
        if i == 0:
            yield "first put GB/s", speed
        yield "put GB/s", speed
        yield "put / memcpy", memcpy / (middle - start)
        yield "get µs", (end - middle) * 1e6
        del ref, got


def array_expression(contender: Any, side: int) -> Iterator[Sample]:
    import dask.array as da

    x = da.random.default_rng(7).random((side, side), chunks=(500, 500))
    expression = (x + x.T - x.mean(axis=0)).sum()
    expected = contender.expected_array_sum(expression)
    start = time.perf_counter()
    got = contender.compute(expression)
    seconds = time.perf_counter() - start
    if not np.isclose(got, expected, rtol=1e-9):
        raise WrongResult(f"expected {expected}, got {got}")
    yield "s", seconds


def make_partition(number: int, rows: int) -> Any:
    """One partition of random rows, 32 bytes each."""
    import pandas as pd

    rng = np.random.default_rng(number)
    return pd.DataFrame(
        {"a": rng.random(rows), "b": rng.random(rows), "c": rng.integers(0, 1000, rows), "d": rng.random(rows)}
    )


def summary(part: Any) -> Any:
    """What is checked of a partition."""
    import pandas as pd

    index = part.index
    return pd.DataFrame(
        {"rows": [len(part)], "low": [index.min()], "high": [index.max()],
         "sorted": [index.is_monotonic_increasing]}
    )


def set_index(contender: Any, size: tuple[int, int]) -> Iterator[Sample]:
    """Sort (MiB, partitions) of random rows by a column, with divisions that are known."""
    import dask
    import dask.dataframe as dd

    mebibytes, partitions = size
    rows = (mebibytes << 20) // 32 // partitions
    with dask.config.set({"dataframe.shuffle.method": contender.shuffle_method}):
        frame = dd.from_map(make_partition, range(partitions), rows=rows, meta=make_partition(0, 1).iloc[:0])
        ordered = frame.set_index("a", divisions=[i / partitions for i in range(partitions + 1)])
        meta = {"rows": "i8", "low": "f8", "high": "f8", "sorted": "?"}
        work = ordered.map_partitions(summary, meta=meta)
        start = time.perf_counter()
        got = contender.compute(work)
        seconds = time.perf_counter() - start
    must_equal((int(got.rows.sum()), len(got), bool(got.sorted.all())), (rows * partitions, partitions, True))
    must_equal(bool((got.low.values[1:] >= got.high.values[:-1]).all()), True)
    yield "s", seconds
    yield "MiB per second", mebibytes / seconds


def many_inputs(contender: Any, inputs: int) -> Iterator[Sample]:
    leaf, last = fresh("in"), fresh("all")
    graph: dict = {(leaf, i): (noop, i) for i in range(inputs)}
    graph[last] = (count, [(leaf, i) for i in range(inputs)])
    yield "ms", timed(lambda: contender.get(graph, last), inputs) * 1e3


def many_readers(contender: Any, readers: int) -> Iterator[Sample]:
    one, reader, last = fresh("one"), fresh("reader"), fresh("all")
    graph: dict = {one: (make_block,)}
    graph.update({(reader, i): (pair, one, i) for i in range(readers)})
    graph[last] = (sum, [(reader, i) for i in range(readers)])
    expected = 1000 * readers + readers * (readers - 1) // 2
    yield "ms", timed(lambda: contender.get(graph, last), expected) * 1e3


def million(contender: Any, tasks: int) -> Iterator[Sample]:
    graph, key = fan_in_graph(tasks)
    driver_before, node_before = contender.memory()
    seconds = timed(lambda: contender.get(graph, key), tasks)
    driver_after, node_after = contender.memory(peak=True)
    yield "tasks per second", len(graph) / seconds
    yield "µs per task", seconds / len(graph) * 1e6
    yield "driver bytes per task", max(0, driver_after - driver_before) / len(graph)
    yield "raylet bytes per task", max(0, node_after - node_before) / len(graph)
