"""Workers and tasks that go wrong, with real processes: the node stays as it was."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from conftest import Node, wait_until


@pytest.mark.timeout(60)
def test_the_task_of_a_killed_worker_runs_again(node: Node, drive) -> None:
    driver = drive("""
@ray.remote
def slow(x):
    meet("slow")
    return x * 2

print(ray.get(slow.remote(21)))
""")
    (first,) = driver.pids_at("slow")
    os.kill(first, signal.SIGKILL)
    pids = driver.pids_at("slow", 2)
    assert len(set(pids)) == 2
    driver.go()
    assert driver.output().strip() == "42"


@pytest.mark.timeout(60)
def test_a_task_that_kills_every_worker_ends_with_its_name_and_signal(node: Node, drive) -> None:
    driver = drive("""
import signal
runs = here / "runs"

@ray.remote(max_retries=2)
def deadly():
    with open(runs, "a") as file:
        file.write("x")
    os.kill(os.getpid(), signal.SIGSEGV)

@ray.remote
def fine():
    return "fine"

try:
    ray.get(deadly.remote())
except ray.exceptions.WorkerCrashedError as error:
    print("deadly" in str(error), "signal 11" in str(error), len(runs.read_text()))
print(ray.get(fine.remote()))
""")
    assert driver.output().split() == ["True", "True", "3", "fine"]


@pytest.mark.timeout(60)
def test_a_worker_that_exits_in_mid_task_is_a_crash_with_its_status(node: Node, drive) -> None:
    driver = drive("""
@ray.remote(max_retries=0)
def leaves():
    os._exit(7)

try:
    ray.get(leaves.remote())
except ray.exceptions.WorkerCrashedError as error:
    print("leaves" in str(error), "status 7" in str(error))
""")
    assert driver.output().split() == ["True", "True"]


@pytest.mark.timeout(60)
def test_a_graph_survives_the_kill_of_both_workers(node: Node, drive) -> None:
    driver = drive("""
from ray.util.dask import ray_dask_get

def leaf(i):
    if i in (3, 40):
        meet("leaf")
    return i

graph = {("leaf", i): (leaf, i) for i in range(64)}
graph["sum"] = (sum, [("leaf", i) for i in range(64)])
print(ray_dask_get(graph, "sum"))
""")
    for pid in driver.pids_at("leaf", 2):
        os.kill(pid, signal.SIGKILL)
    driver.go()
    assert driver.output().strip() == str(sum(range(64)))


@pytest.mark.timeout(60)
def test_what_a_dead_worker_started_dies_too(node: Node, drive) -> None:
    driver = drive("""
import subprocess

@ray.remote(max_retries=0)
def parent():
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    (here / "child").write_text(str(child.pid))
    meet("parent")

try:
    ray.get(parent.remote())
except ray.exceptions.WorkerCrashedError:
    print("crashed")
""")
    (worker,) = driver.pids_at("parent")
    child = int((driver.directory / "child").read_text())
    os.kill(worker, signal.SIGKILL)
    assert driver.output().strip() == "crashed"
    wait_until(lambda: not Path(f"/proc/{child}").exists(), "the orphan to die", 5)


@pytest.mark.timeout(60)
def test_a_zygote_that_is_killed_is_started_again(node: Node, drive) -> None:
    def zygotes() -> list[int]:
        named = [pid for pid, command in node.processes().items() if "ray._worker.zygote" in command]
        return [pid for pid in named if Path(f"/proc/{pid}/comm").read_text().strip() != "ray-worker"]

    wait_until(lambda: len(node.status().get("workers", [])) == 2 and len(zygotes()) == 1,
               "a zygote and its workers")
    (zygote,) = zygotes()
    os.kill(zygote, signal.SIGKILL)
    driver = drive("""
@ray.remote(max_retries=3)
def pid_of(k):
    if k == 0:
        meet("first")
    return os.getpid()

ref = pid_of.remote(0)
first = ray.get(ref)
print(first)
""")
    (worker,) = driver.pids_at("first")
    os.kill(worker, signal.SIGKILL)  # the one that takes its place needs a zygote
    driver.pids_at("first", 2)
    driver.go()
    assert int(driver.output()) != worker


@pytest.mark.timeout(60)
def test_a_task_that_raises_cancels_its_graph_and_nothing_else(node: Node, drive) -> None:
    driver = drive("""
from ray.util.dask import ray_dask_get

def fails():
    raise ValueError("this one")

def late(x):
    (here / "late").touch()

@ray.remote
def other():
    meet("other")
    return "unharmed"

ref = other.remote()
graph = {"a": (fails,), "b": (late, "a")}
try:
    ray_dask_get(graph, "b")
except ValueError as error:
    print(str(error) == "this one", "in fails" in error.traceback_str, (here / "late").exists())
(here / "go").touch()
print(ray.get(ref))
""")
    assert driver.output().split() == ["True", "True", "False", "unharmed"]


@pytest.mark.timeout(60)
def test_what_cannot_be_pickled_is_named(node: Node, drive) -> None:
    driver = drive("""
import threading

@ray.remote
def lock():
    return threading.Lock()

try:
    ray.get(lock.remote())
except Exception as error:
    print("lock" in str(error), "pickle" in str(error))

try:
    def holds(lock=threading.Lock()):
        return lock
    ray.remote(holds).remote()
    print("not refused")
except TypeError as error:
    print("holds" in str(error), "pickle" in str(error))
""")
    assert driver.output().split() == ["True", "True", "True", "True"]


@pytest.mark.timeout(60)
def test_a_module_that_the_worker_lacks_is_named(node: Node, drive) -> None:
    driver = drive("""
import sys, types
module = types.ModuleType("only_in_the_driver")
exec("def f():\\n    return 1", module.__dict__)
module.f.__module__ = "only_in_the_driver"
sys.modules["only_in_the_driver"] = module

try:
    ray.get(ray.remote(module.f).remote())
    print("ran")
except Exception as error:
    print("only_in_the_driver" in str(error))
""")
    assert driver.output().strip() == "True"


@pytest.mark.timeout(60)
def test_a_task_that_no_node_can_run_waits_with_a_warning_and_can_be_cancelled(node: Node, drive) -> None:
    driver = drive("""
@ray.remote(num_gpus=3)
def greedy():
    return 1

@ray.remote
def modest():
    return "others run"

ref = greedy.remote()
print(ray.get(modest.remote()))
ready, waiting = ray.wait([ref], timeout=1)
print(len(ready), len(waiting))
ray.cancel(ref)
try:
    ray.get(ref, timeout=20)
except ray.exceptions.TaskCancelledError:
    print("cancelled")
""")
    said, errors = driver.process.communicate(timeout=40)
    assert driver.process.returncode == 0, errors[-4000:]
    assert said.split("\n")[:3] == ["others run", "0 1", "cancelled"]
    assert "greedy" in errors and "GPU" in errors  # the warning


@pytest.mark.timeout(60)
def test_a_cancelled_task_is_interrupted_and_its_worker_goes_on(node: Node, drive) -> None:
    driver = drive("""
@ray.remote
def endless():
    meet("endless")
    return os.getpid()

@ray.remote
def pid():
    return os.getpid()

ref = endless.remote()
while not list(here.glob("endless.[0-9]*")):
    time.sleep(0.005)
ray.cancel(ref)
try:
    ray.get(ref, timeout=20)
except ray.exceptions.TaskCancelledError:
    print("cancelled")
print(len(ray.get([pid.remote() for _ in range(10)])))
""")
    assert driver.output().split() == ["cancelled", "10"]


@pytest.mark.timeout(60)
def test_output_of_tasks_reaches_the_driver_with_name_and_pid(node: Node, drive) -> None:
    driver = drive("""
@ray.remote
def speaks():
    print("heard in the driver")
    return os.getpid()

pid = ray.get(speaks.remote())
deadline = time.monotonic() + 10
time.sleep(0.5)
print("pid", pid)
""")
    said, errors = driver.process.communicate(timeout=40)
    assert driver.process.returncode == 0, errors[-4000:]
    pid = said.split("pid ")[-1].strip()
    (line,) = [line for line in (said + errors).splitlines() if "heard in the driver" in line]
    assert "speaks" in line and pid in line
