"""Longer work of the kind that users bring: many files through xarray, delayed graphs, and the same as calls.

As in workloads.py, each workload is the same for every contender and checks its own result.
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Iterator

import numpy as np
from workloads import Sample, WrongResult, fresh, increment, must_equal

_SHAPE = (24, 180, 360)  # months, latitudes, longitudes: 6 MB a file
_GRAPHS_AT_ONCE = 4
_BLOCK = 20_000


def smooth(block: np.ndarray) -> np.ndarray:
    """Each value's mean with its four neighbours in latitude and longitude."""
    result = block.copy()
    inner = block[:, 1:-1, 1:-1]
    around = block[:, :-2, 1:-1] + block[:, 2:, 1:-1] + block[:, 1:-1, :-2] + block[:, 1:-1, 2:]
    result[:, 1:-1, 1:-1] = (inner + around) / 5
    return result


def make_files(directory: Path, files: int) -> list[Path]:
    """NetCDF files of random temperatures, in kelvin."""
    import xarray as xr

    paths = []
    for number in range(files):
        values = np.random.default_rng(number).normal(288, 10, _SHAPE).astype("float32")
        path = directory / f"{number:03}.nc"
        xr.Dataset({"temperature": (("time", "latitude", "longitude"), values)}).to_netcdf(path, engine="h5netcdf")
        paths.append(path)
    return paths


def climate_files(contender: Any, files: int) -> Iterator[Sample]:
    """Load each file in chunks, smooth it over the chunks' edges, write it to zarr: one graph for each."""
    import xarray as xr

    def one(path: Path) -> Path:
        with xr.open_dataset(path, engine="h5netcdf", chunks={"time": 6, "latitude": 90}) as data:
            temperature = data["temperature"]
            smoothed = temperature.data.map_overlap(smooth, depth=(0, 1, 1), boundary="nearest")
            target = path.with_suffix(f".{fresh('out')}.zarr")
            written = xr.Dataset({"temperature": (temperature.dims, smoothed)}).to_zarr(target, compute=False)
            contender.compute(written)
        return target

    with tempfile.TemporaryDirectory(prefix="raylet-bench-files-") as directory:
        paths = make_files(Path(directory), files)
        one(paths[0])  # whoever imports late does it here
        start = time.perf_counter()
        with ThreadPoolExecutor(_GRAPHS_AT_ONCE) as pool:
            targets = list(pool.map(one, paths))
        seconds = time.perf_counter() - start
        for path, target in zip(paths, targets):
            with xr.open_dataset(path, engine="h5netcdf") as data:
                wanted = smooth(np.pad(data["temperature"].values, ((0, 0), (1, 1), (1, 1)), mode="edge"))
            with xr.open_zarr(target) as data:
                if not np.allclose(data["temperature"].values, wanted[:, 1:-1, 1:-1], rtol=1e-5):
                    raise WrongResult(f"{target.name} is not what {path.name} gives")
    yield "files per second", files / seconds


def delayed_graph(contender: Any, leaves: int) -> Iterator[Sample]:
    """A graph of dask.delayed, as Dask hands it to a scheduler: what Dask does before is not measured."""
    import dask

    name = fresh("add")
    nodes = [dask.delayed(increment)(i, dask_key_name=(f"leaf-{name}", i)) for i in range(leaves)]
    total = dask.delayed(sum)(nodes, dask_key_name=name)
    graph = dict(total.__dask_graph__())
    cpu, start = time.process_time(), time.perf_counter()
    got = contender.get(graph, name)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    must_equal(got, leaves * (leaves + 1) // 2)
    yield "µs per task", seconds / len(graph) * 1e6
    yield "driver's µs per task", cpu / len(graph) * 1e6


def block_sum(number: int) -> float:
    """A task of some 20 µs."""
    return float(np.arange(number, number + _BLOCK, dtype="float64").sum())


def graph_beside_calls(contender: Any, blocks: int) -> Iterator[Sample]:
    """Sums of blocks, 16 into one and all into one: as a Dask graph, and written directly as tasks."""
    expected = float(sum(_BLOCK * n + _BLOCK * (_BLOCK - 1) // 2 for n in range(blocks)))
    leaf, part, last = fresh("block"), fresh("part"), fresh("all")
    graph: dict = {(leaf, i): (block_sum, i) for i in range(blocks)}
    for i in range(0, blocks, 16):
        graph[part, i] = (sum, [(leaf, j) for j in range(i, min(blocks, i + 16))])
    graph[last] = (sum, [(part, i) for i in range(0, blocks, 16)])
    start = time.perf_counter()
    got = contender.get(graph, last)
    as_graph = time.perf_counter() - start
    must_equal(got, expected)

    ray = contender.ray
    one, several = ray.remote(block_sum), ray.remote(lambda *values: sum(values))
    start = time.perf_counter()
    leaves = [one.remote(i) for i in range(blocks)]
    parts = [several.remote(*leaves[i : i + 16]) for i in range(0, blocks, 16)]
    got = ray.get(several.remote(*parts))
    as_calls = time.perf_counter() - start
    must_equal(got, expected)
    yield "s as a graph", as_graph
    yield "s as calls", as_calls
