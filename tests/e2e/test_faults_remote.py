"""Drivers over gRPC that die, and batches that are taken back from busy workers."""

from __future__ import annotations

import os
import signal

import pytest
from conftest import Node, wait_until
from test_faults_daemons import EXPECTED, GRAPH, store_pid
from test_faults_drivers import is_at_rest


def remote_door(node: Node) -> str:
    """Through it a driver has no raylet session and no shared memory."""
    return f"unix:{node.session}/raylet.grpc"


@pytest.mark.timeout(90)
def test_a_killed_driver_over_grpc_leaves_nothing(node: Node, drive) -> None:
    wait_until(lambda: is_at_rest(node.status()), "the node to be at rest", 20)
    driver = drive("import numpy as np\nbig = ray.put(np.ones(2_000_000))\n" + GRAPH, remote_door(node))
    driver.pids_at("stay", 2)
    assert node.status()["drivers"][0]["carrier"] == "grpc"
    assert not is_at_rest(node.status())
    driver.process.kill()
    driver.process.wait()
    wait_until(lambda: is_at_rest(node.status()), f"the node to be at rest: {node.status()}", 30)


@pytest.mark.timeout(90)
def test_a_graph_over_grpc_outlives_the_kill_of_a_worker_and_the_store(node: Node, drive) -> None:
    driver = drive(GRAPH + """
value = np.arange(3_000_000)
print(bool((ray.get(ray.put(value)) == value).all()))
""", remote_door(node))
    worker, _ = driver.pids_at("stay", 2)
    os.kill(store_pid(node), signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
    driver.go()
    assert driver.output().split() == EXPECTED + ["True"]


@pytest.mark.timeout(90)
def test_a_driver_over_grpc_notices_a_killed_raylet(node: Node, drive_staying) -> None:
    driver, _ = drive_staying(remote_door(node))
    os.kill(node.pid("rayletd"), signal.SIGKILL)
    assert driver.output().split()[0] == "LocalRayletDiedError"


@pytest.mark.timeout(90)
def test_tasks_behind_a_long_one_are_taken_back_and_run_elsewhere(node: Node, drive) -> None:
    """The raylet has learnt that `quick` is short, so it sends many at once; then one of them is not."""
    driver = drive("""
from ray.util.dask import ray_dask_get

def quick(i):
    if i == "long":
        meet("long")
    else:
        with open(here / "ran", "a") as file:
            file.write("x")
    return 1

warm = {("w", i): (quick, i) for i in range(2_000)}
warm["sum"] = (sum, [("w", i) for i in range(2_000)])
print(ray_dask_get(warm, "sum"))
mixed = {("m", i): (quick, "long" if i == 10 else i) for i in range(2_000)}
mixed["sum"] = (sum, [("m", i) for i in range(2_000)])
print(ray_dask_get(mixed, "sum"))
""")
    driver.pids_at("long")
    # All others run while the long one stays, but for those in the one batch (at most 256) that its worker has
    # read already.
    wait_until(lambda: (driver.directory / "ran").stat().st_size > 2_000 + 2_000 - 256, "the others to run", 30)
    driver.go()
    assert driver.output().split() == ["2000", "2000"]


@pytest.mark.timeout(90)
def test_a_worker_that_waits_for_others_gives_its_place_away(node: Node, drive) -> None:
    driver = drive("""
@ray.remote
def leaf(i):
    return i

@ray.remote
def tree(depth):
    if depth == 0:
        return ray.get(leaf.remote(1))
    return sum(ray.get([tree.remote(depth - 1), tree.remote(depth - 1)]))

print(ray.get(tree.remote(4)))
""")
    assert driver.output(80).strip() == "16"
    wait_until(lambda: node.status()["available"].get("CPU") == 2, "both CPUs to be free", 20)


@pytest.mark.timeout(90)
def test_a_stop_in_mid_task_ends_within_its_limit(node: Node, drive) -> None:
    """Also while a worker sits in a call that no signal handler of Python can interrupt."""
    driver = drive("""
import ctypes

@ray.remote
def deaf():
    (here / f"deaf.{os.getpid()}").touch()
    ctypes.PyDLL(None).sleep(1000)     # holds the interpreter's lock

ray.get(deaf.remote())
""")
    driver.pids_at("deaf")
    raylet = node.pid("rayletd")
    os.kill(raylet, signal.SIGTERM)
    wait_until(lambda: not os.path.exists(f"/proc/{raylet}"), "the raylet to end", 10)
    wait_until(lambda: not node.processes() or all("python" in c and "-c" in c for c in node.processes().values()),
               f"nothing but the driver to stay: {node.processes()}", 10)
