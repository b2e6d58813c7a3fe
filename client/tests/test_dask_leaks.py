"""After hundreds of graphs with callbacks, persists and errors, all that they held is as it was before."""

from __future__ import annotations

import gc
import os
import time
from operator import add

import dask.array as da
import numpy as np
import pytest
from dask.callbacks import Callback
from dask.diagnostics import Profiler

import ray
from ray.util.dask import RayDaskCallback, enable_dask_on_ray, ray_dask_get

ROUNDS = 50  # of six graphs each
SETTLED_S = 20


@ray.remote
class Counter:
    def __init__(self):
        self.count = 0

    def add(self):
        self.count += 1

    def get(self):
        return self.count


def fail(x):
    raise OSError("no")


def block(i):
    return np.full(40_000, i)  # over the size of what travels inline


GRAPH = {("x", i): (block, i) for i in range(4)}
GRAPH["sum"] = (sum, [("x", i) for i in range(4)])
GRAPH["mean"] = (np.mean, "sum")


def a_round(counter):
    class Everything(RayDaskCallback):
        def _ray_presubmit(self, task, key, deps):
            if key == "mean":
                assert ray.get(deps["sum"])[0] == 6
            return np.zeros(40_000) if key == ("x", 0) else None

        def _ray_postsubmit(self, task, key, deps, object_ref):
            self.last = object_ref

        def _ray_posttask(self, key, result, pre_state):
            counter.add.remote()

        def _ray_postsubmit_all(self, object_refs, dsk):
            ray.wait([object_refs])

    with Everything() as kept:
        assert ray_dask_get(GRAPH, "mean") == 6
    assert ray.get(kept.last) == 6
    with kept, pytest.raises(OSError):
        ray_dask_get({**GRAPH, "mean": (fail, "sum"), "end": (add, "mean", 1)}, "end")
    with RayDaskCallback(ray_presubmit=fail_at_sum), pytest.raises(LookupError):
        ray_dask_get(GRAPH, "mean")
    with Profiler(), Callback(posttask=lambda key, value, dsk, state, worker: None):
        assert ray_dask_get(GRAPH, "mean") == 6
    with Profiler(), pytest.raises(OSError):
        ray_dask_get({**GRAPH, "mean": (fail, "sum")}, "mean")
    with enable_dask_on_ray(), RayDaskCallback(ray_finish=lambda result: None):
        persisted = (da.ones((200, 400), chunks=100) + 1).persist()
        assert persisted.sum().compute() == 160_000


def fail_at_sum(task, key, deps):
    if key == "sum":
        ray.get(list(deps.values()))
        raise LookupError


def _descriptors():
    """Those of this process, without gRPC's, which comes and goes with the questions below."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the directory itself
            continue
        found += not target.startswith(("anon_inode", "socket"))
    return found


def held(session):
    """What this process and the node hold at the moment: references, views, descriptors, objects and bytes."""
    gc.collect()
    session.flush()
    descriptors = _descriptors()
    status = ray._api._status()
    (driver,) = [one for one in status.drivers if one.job == session.job.hex()]
    return {
        "references": len(session.references._counts), "views": session.references.pins,
        "watched graphs": len(session._watchers), "held objects": driver.held_objects,
        "descriptors": descriptors, "graphs": len(status.graphs),
        "objects": status.store.object_count, "bytes": status.store.sealed_bytes,
        # A worker that waits for tasks may hold its last call's small result; and the calls of an actor
        # are let go of by the thousand. What 300 graphs leave would be more.
        "values": status.inline_value_bytes // (1 << 10),
        "argument bytes": status.graph_bytes // (64 << 10),
        "callbacks": len(RayDaskCallback.ray_active) + len(Callback.active),
    }


def test_three_hundred_graphs_leave_nothing_behind(local_cluster):
    session = ray._runtime.current_session()
    counter = Counter.remote()
    for _ in range(3):  # pools, slabs and modules are there after these
        a_round(counter)
    assert ray.get(counter.get.remote()) > 0
    before = settled(session, None)
    for _ in range(ROUNDS):
        a_round(counter)
    ray.get(counter.get.remote())
    after = settled(session, before)
    grown = {what: (before[what], after[what]) for what in after if after[what] > before[what]}
    assert not grown


def settled(session, goal):
    """What is held once nothing changes any more (or nothing is more than `goal`)."""
    limit = time.monotonic() + SETTLED_S
    last = held(session)
    while time.monotonic() < limit:
        time.sleep(0.5)
        now = held(session)
        if goal is None and now == last:
            break
        if goal is not None and all(now[what] <= goal[what] for what in now):
            break
        last = now
    return last if goal is None else now
