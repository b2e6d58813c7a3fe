"""An actor that keeps what took long to compute: the next computation takes it from there.

    python cache_actor.py FILE      each task that runs adds its name to FILE
"""

import sys
import time
from timeit import default_timer as timer

import dask
import ray
from ray.util.dask import RayDaskCallback, ray_dask_get

log = sys.argv[1]
ray.init()


@ray.remote
class CacheActor:
    def __init__(self):
        self.cache = {}

    def get(self, key):
        # A KeyError for what is not there; the actor lives on.
        return self.cache[key]

    def put(self, key, value):
        self.cache[key] = value


class CacheCallback(RayDaskCallback):
    def __init__(self, cache, threshold):
        self.cache = cache
        self.threshold = threshold

    def _ray_presubmit(self, task, key, deps):
        try:
            return ray.get(self.cache.get.remote(str(key)))
        except KeyError:
            return None

    def _ray_pretask(self, key, object_refs):
        return timer()

    def _ray_posttask(self, key, result, pre_state):
        if timer() - pre_state > self.threshold:
            ray.get(self.cache.put.remote(str(key), result))


def ran(name):
    with open(log, "a") as file:
        file.write(name + "\n")


@dask.delayed
def slow(x):
    ran("slow")
    time.sleep(3)
    return x + 1


@dask.delayed
def quick(x):
    ran("quick")
    time.sleep(1)
    return x * 10


total = dask.delayed(lambda a, b: a + b)(slow(1), quick(2))
with CacheCallback(CacheActor.remote(), threshold=2):
    print("first:", total.compute(scheduler=ray_dask_get))
    print("second:", total.compute(scheduler=ray_dask_get))
