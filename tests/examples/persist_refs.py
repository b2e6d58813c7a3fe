"""persist: the tasks run on, and the collection holds their references.

Older pages show the graph by dask.base.collections_to_dsk, which Dask 2025.4 removed; dict(x.__dask_graph__())
shows the same on every Dask.
"""

import dask.array as da
import ray
from ray.util.dask import enable_dask_on_ray

ray.init()
enable_dask_on_ray()

arr = da.ones(100, chunks=50)
graph = dict(arr.__dask_graph__())
print("before:", sorted({isinstance(value, ray.ObjectRef) for value in graph.values()}))

kept = arr.persist()
graph = dict(kept.__dask_graph__())
refs = [value for value in graph.values() if isinstance(value, ray.ObjectRef)]
print("after:", len(graph), "entries,", len(refs), "references")
print("kinds:", sorted({type(value).__name__ for value in graph.values()}))
ready, waiting = ray.wait(refs, num_returns=len(refs), timeout=60)
print("ready:", len(ready), "first piece:", ray.get(refs[0]).sum())

print("sum:", kept.sum().compute(), "min:", kept.min().compute())
print("again:", (kept + kept.persist()).persist().sum().compute())
