"""A graph as a plain dict, given to the scheduler by hand."""

from operator import add, mul

import ray
from ray.util.dask import ray_dask_get, ray_dask_get_sync


def load(name):
    return list(range(len(name)))


def clean(numbers):
    return [number for number in numbers if number % 2 == 0]


graph = {
    "x": 1,
    "y": 2,
    "z": (add, "x", (mul, "y", 10)),
    "alias": "z",
    "load-one": (load, "some file"),
    "load-two": (load, "another file"),
    "clean-one": (clean, "load-one"),
    "clean-two": (clean, "load-two"),
    "all": (sum, [(sum, "clean-one"), (sum, "clean-two")]),
    ("tuple", 0): (max, ["x", "z"]),
}

print("without a node:", ray_dask_get_sync(graph, "all"), ray.is_initialized())
print("one:", ray_dask_get(graph, "z"))
print("several:", ray_dask_get(graph, ["alias", ["all", ("tuple", 0)]]))
try:
    ray_dask_get(graph, "nothing")
except KeyError as error:
    print("no such key:", error)
