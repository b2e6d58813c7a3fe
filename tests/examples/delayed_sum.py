"""Delayed work that sleeps: the pieces run at the same time, on different workers.

    python delayed_sum.py FOLDER      FOLDER is where the two that meet leave a sign
"""

import os
import sys
import time

import dask
import ray
from ray.util.dask import ray_dask_get

folder = sys.argv[1]
ray.init(num_cpus=2)


@dask.delayed
def inc(x):
    time.sleep(0.5)
    return x + 1


@dask.delayed
def add(x, y):
    time.sleep(0.1)
    return x + y


total = add(inc(1), inc(2))
print("sum:", total.compute(scheduler=ray_dask_get))
print("in a list:", dask.compute([inc(i) for i in range(4)], scheduler=ray_dask_get))


@dask.delayed
def meet(mine, other):
    """Waits for the other one: alone it would wait for ever."""
    open(os.path.join(folder, mine), "w").close()
    while not os.path.exists(os.path.join(folder, other)):
        time.sleep(0.05)
    return os.getpid()


pids = dask.compute(meet("left", "right"), meet("right", "left"), scheduler=ray_dask_get)
print("workers at the same time:", len(set(pids)))
