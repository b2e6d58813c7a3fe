"""Everything that may die dies again and again, by a seed, while graphs run; their results stay right."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from conftest import Node, wait_until
from test_faults_drivers import is_at_rest

WORK = """
import numpy as np
from ray.util.dask import ray_dask_get

def make(i):
    time.sleep(0.002)
    return np.full(20_000, i, dtype=np.int64)    # 160 kB: lies in the store

def small(i):
    return i

def mix(a, b, k):
    return a[:20_000] + b[:20_000] + k

def total(parts):
    return int(sum(int(part[0]) for part in parts))

for round_number in range(6):
    n = 60
    graph = {("make", i): (make, i) for i in range(n)}
    graph.update({("small", i): (small, i) for i in range(n)})
    graph.update({("mix", i): (mix, ("make", i), ("make", (i + 1) % n), ("small", i)) for i in range(n)})
    graph["total"] = (total, [("mix", i) for i in range(n)])
    got = ray_dask_get(graph, "total", ray_remote_args={"max_retries": -1})
    assert got == 3 * sum(range(n)), (round_number, got)
    (here / f"round.{round_number}").touch()
print("right")
"""


def victims(node: Node, kind: str) -> list[int]:
    found = []
    for pid, command in node.processes().items():
        try:
            name = open(f"/proc/{pid}/comm").read().strip()
        except OSError:
            continue
        if kind == "worker" and name == "ray-worker":
            found.append(pid)
        if kind == "store" and name == "plasma-store":
            found.append(pid)
        if kind == "zygote" and "ray._worker.zygote" in command and name != "ray-worker":
            found.append(pid)
        if kind == "gcs" and name == "gcs":
            found.append(pid)
    return found


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_graph_ends_right_while_its_node_is_shot_at(node: Node, drive, seed: int) -> None:
    draw = random.Random(seed)
    driver = drive(WORK)
    shots = 0
    while driver.process.poll() is None and shots < 60:
        kind = draw.choices(["worker", "store", "zygote", "gcs"], [12, 3, 1, 1])[0]
        targets = victims(node, kind)
        if targets:
            try:
                os.kill(draw.choice(targets), signal.SIGKILL)
                shots += 1
            except ProcessLookupError:
                pass
        time.sleep(draw.uniform(0.02, 0.2))
    assert driver.output(120).strip() == "right"
    assert shots >= 10
    wait_until(lambda: is_at_rest(node.status()), f"the node to be at rest: {node.status()}", 30)
