"""After a thousand graphs with callbacks, persists and errors, all that they held is as it was before."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import time
from operator import add
from pathlib import Path

import dask.array as da
import numpy as np
import psutil
import pytest
from dask.callbacks import Callback
from dask.diagnostics import Profiler

import ray
from ray.util.dask import RayDaskCallback, enable_dask_on_ray, ray_dask_get

GRAPHS = 1000
SETTLED_S = 20
# By how much these may differ between two looks at the same: a worker that waits for tasks may hold its last
# call's small result, calls of an actor are let go of by the thousand, and gRPC opens a few sockets, in the
# driver and in whom it asks. What a thousand graphs leave would be more, if each left anything.
ALLOWED = {
    "values": 2 << 10, "argument bytes": 128 << 10, "driver's sockets": 16, "rayletd's descriptors": 4,
    "gcs's descriptors": 4, "plasma-store's descriptors": 4,
}


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


def of_driver(session):
    """What this process holds: references, views, descriptors."""
    gc.collect()
    session.flush()
    files = sockets = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the directory itself
            continue
        ours = not target.startswith(("anon_inode", "socket"))
        files += ours
        sockets += not ours
    return {
        "references": len(session.references._counts), "views": session.references.pins,
        "watched graphs": len(session._watchers), "driver's files": files, "driver's sockets": sockets,
        "callbacks": len(RayDaskCallback.ray_active) + len(Callback.active),
    }


def of_raylet(session):
    """What the raylet and the store hold for everybody: graphs, objects, bytes."""
    status = ray._cluster.status()
    (driver,) = [one for one in status.drivers if one.job == session.job.hex()]
    return {
        "held objects": driver.held_objects, "graphs": len(status.graphs), "actors": len(status.actors),
        "objects": status.store.object_count, "bytes": status.store.sealed_bytes,
        "values": status.inline_value_bytes, "argument bytes": status.graph_bytes,
    }


def of_processes(description):
    """How many processes the node has, and the descriptors of the one of each program that has most."""
    supervisor = psutil.Process(description["pids"]["supervisor"])
    processes = [supervisor, *supervisor.children(recursive=True)]
    found = {"processes": len(processes)}
    for process in processes:
        try:
            what = f"{process.name()}'s descriptors"
            found[what] = max(found.get(what, 0), process.num_fds())
        except psutil.Error:  # it has just ended
            continue
    return found


def of_redis(description):
    """Redis' keys, and the records in each."""
    def says(*command):
        command = ["redis-cli", "-s", description["redis_socket"], *command]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.split()

    keys = says("KEYS", "*")
    assert keys, "the head keeps its state in Redis"
    records = sum([int(says("HLEN", key)[0]) for key in keys if says("TYPE", key) == ["hash"]])
    return {"keys in Redis": len(keys), "records in Redis": records}


def held(session):
    """Everything that this process and the node hold at the moment."""
    description = json.loads(Path(session.info.session_directory, "node.json").read_text())
    return {
        **of_driver(session), **of_raylet(session), **of_processes(description), **of_redis(description),
    }


def grown(before, after):
    """What there is more of than before, and is not allowed for."""
    return {
        what: (before.get(what, 0), now) for what, now in after.items()
        if now > before.get(what, 0) + ALLOWED.get(what, 0)
    }


def settled(session):
    """What is held once nothing changes any more."""
    limit = time.monotonic() + SETTLED_S
    last = held(session)
    while time.monotonic() < limit:
        time.sleep(0.5)
        now = held(session)
        if not grown(last, now) and not grown(now, last):
            break
        last = now
    return last


@pytest.mark.timeout(150)
def test_a_thousand_graphs_leave_nothing_behind(cluster, monkeypatch):
    session = ray._runtime.current_session()
    made = []
    new_graph_id = session.new_graph_id
    monkeypatch.setattr(session, "new_graph_id", lambda: made.append(1) or new_graph_id())
    counter = Counter.remote()
    for _ in range(5):  # pools, slabs and modules are there after these
        a_round(counter)
    assert ray.get(counter.get.remote()) > 0
    before = settled(session)
    del made[:]
    while len(made) < GRAPHS:
        a_round(counter)
    ray.get(counter.get.remote())
    limit = time.monotonic() + SETTLED_S
    while time.monotonic() < limit and grown(before, held(session)):
        time.sleep(0.5)
    assert not grown(before, held(session))


def test_drivers_that_come_and_go_leave_nothing_behind(shared_node):
    def drive():
        ray.init(str(shared_node.directory))
        a_round(Counter.remote())
        ray.shutdown()

    def of_node():
        ray.init(str(shared_node.directory))
        try:
            return held(ray._runtime.current_session())
        finally:
            ray.shutdown()

    for _ in range(2):
        drive()
    before = of_node()
    for _ in range(6):
        drive()
    limit = time.monotonic() + SETTLED_S
    while time.monotonic() < limit and grown(before, of_node()):
        time.sleep(0.5)
    assert not grown(before, of_node())
