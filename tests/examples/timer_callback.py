"""Hooks around tasks: by a subclass, by keywords, for a block, for one call and for good."""

import collections
from timeit import default_timer as timer

import dask
import ray
from ray.util.dask import RayDaskCallback, ray_dask_get

ray.init()


@ray.remote
class Tally:
    """Counts what hooks on the workers tell it."""

    def __init__(self):
        self.times = []

    def add(self, key, seconds):
        self.times.append((str(key), seconds))

    def seen(self):
        return self.times


class TimerCallback(RayDaskCallback):
    def __init__(self, tally):
        self.tally = tally

    def _ray_pretask(self, key, object_refs):
        return timer()

    def _ray_posttask(self, key, result, pre_state):
        ray.get(self.tally.add.remote(key, timer() - pre_state))


def inc(x):
    return x + 1


graph = {"a": 1, "b": (inc, "a"), "c": (inc, "b"), "d": (sum, ["a", "b", "c"])}
tally = Tally.remote()

with TimerCallback(tally):
    print("result:", ray_dask_get(graph, "d"))
seen = ray.get(tally.seen.remote())
print("timed:", sorted(key for key, _ in seen), all(seconds >= 0 for _, seconds in seen))

submitted = collections.Counter()


def presubmit(task, key, deps):
    submitted["before"] += 1


def postsubmit(task, key, deps, object_ref):
    submitted["after"] += 1
    assert isinstance(object_ref, ray.ObjectRef)


def finish(result):
    print("finished with:", result)


with RayDaskCallback(ray_presubmit=presubmit, ray_postsubmit=postsubmit):
    ray_dask_get(graph, "d", ray_callbacks=None)
print("submitted:", submitted["before"], submitted["after"])
print("one call:", ray_dask_get(graph, ["b", "d"], ray_callbacks=[RayDaskCallback(ray_finish=finish)]))
total = dask.delayed(sum)([dask.delayed(inc)(1), dask.delayed(inc)(2)])
with RayDaskCallback(ray_presubmit=presubmit), TimerCallback(tally):
    print("delayed:", total.compute(scheduler=ray_dask_get))
print("submitted since:", submitted["before"] - 3, "timed since:", len(ray.get(tally.seen.remote())) - 3)

for_good = RayDaskCallback(ray_presubmit=lambda task, key, deps: 40 if key == "c" else None)
for_good.register()
print("replaced:", ray_dask_get(graph, ["c", "d"]))
for_good.unregister()
print("as before:", ray_dask_get(graph, "d"))
