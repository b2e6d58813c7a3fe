"""Limits of the machine: a full store, objects that are too large, many big inputs, a directory that is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Node, wait_until
from test_faults_drivers import is_at_rest


@pytest.mark.timeout(60)
def test_an_object_larger_than_the_store_is_a_clear_error(node: Node, drive) -> None:
    driver = drive("""
import numpy as np
try:
    ray.put(np.zeros(64_000_000))   # 512 MB, the store has 256
except Exception as error:
    print("store" in str(error), "bytes" in str(error))

@ray.remote(max_retries=0)
def huge():
    return np.zeros(64_000_000)

try:
    ray.get(huge.remote())
except Exception as error:
    print("store" in str(error), "bytes" in str(error))
print(ray.get(ray.put(np.ones(1_000_000))).sum())
""")
    assert driver.output(50).split() == ["True", "True", "True", "True", "1000000.0"]


@pytest.mark.timeout(120)
def test_a_graph_of_more_bytes_than_the_store_holds_still_ends(node: Node, drive) -> None:
    """640 MB pass through a store of 256 MiB: roots are held back, what was used is freed."""
    driver = drive("""
import numpy as np
from ray.util.dask import ray_dask_get

def make(i):
    return np.full(1_000_000, i, dtype=np.int64)

def reduce(x):
    return int(x[0])

graph = {("make", i): (make, i) for i in range(80)}
graph.update({("reduce", i): (reduce, ("make", i)) for i in range(80)})
graph["sum"] = (sum, [("reduce", i) for i in range(80)])
print(ray_dask_get(graph, "sum"))
""")
    assert driver.output(110).strip() == str(sum(range(80)))
    wait_until(lambda: is_at_rest(node.status()), f"the node to be at rest: {node.status()}", 20)


@pytest.mark.timeout(120)
def test_a_store_that_its_driver_fills_refuses_the_next_put_and_recovers(node: Node, drive) -> None:
    driver = drive("""
import numpy as np
held = []
try:
    for i in range(40):
        held.append(ray.put(np.full(1_250_000, i, dtype=np.int64)))   # 10 MB each
    print("no error")
except ray.exceptions.ObjectStoreFullError as error:
    print("full", len(held) >= 20)
print(all(int(ray.get(ref)[5]) == i for i, ref in enumerate(held)))
held.clear()
deadline = time.monotonic() + 20
while True:
    try:
        print(int(ray.get(ray.put(np.full(5_000_000, 3)))[0]))
        break
    except ray.exceptions.ObjectStoreFullError:
        if time.monotonic() > deadline:
            raise
""")
    assert driver.output(110).split() == ["full", "True", "True", "3"]


@pytest.mark.timeout(60)
def test_one_task_with_many_inputs_and_one_result_with_many_readers(node: Node, drive) -> None:
    driver = drive("""
from ray.util.dask import ray_dask_get
wide = {("in", i): (int, i) for i in range(10_000)}
wide["sum"] = (sum, [("in", i) for i in range(10_000)])
print(ray_dask_get(wide, "sum"))
fan = {"one": (int, 1)}
fan.update({("out", i): (lambda x, i: x + i, "one", i) for i in range(10_000)})
fan["sum"] = (sum, [("out", i) for i in range(10_000)])
print(ray_dask_get(fan, "sum"))
""")
    assert driver.output(50).split() == [str(sum(range(10_000))), str(sum(range(1, 10_001)))]


def rayletd(directory: str, **changes: str) -> subprocess.CompletedProcess:
    flags = {
        "session-dir": directory, "head": f"unix:{directory}/gcs.grpc", "socket": f"{directory}/raylet.sock",
        "listen": f"unix:{directory}/raylet.grpc", "python": sys.executable,
        "store-binary": str(ROOT / "bin" / "plasma-store"), "object-store-memory": "67108864",
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    arguments = [part for name, value in flags.items() for part in (f"--{name}", value)]
    return subprocess.run([str(ROOT / "bin" / "rayletd"), *arguments], capture_output=True, text=True, timeout=20)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("changes, said", [
    ({"session_dir": "/proc/nowhere"}, "/proc/nowhere"),
    ({"socket": "/proc/raylet.sock"}, "/proc/raylet.sock"),
    ({"socket": "/tmp/" + "x" * 120}, "107"),
    ({"store_binary": "/nowhere/plasma-store"}, "/nowhere/plasma-store"),
    ({"listen": "nonsense"}, "nonsense"),
    ({"metrics_http": "256.0.0.1:1"}, "256.0.0.1"),
])
def test_a_raylet_that_cannot_start_says_why(tmp_path, changes: dict, said: str) -> None:
    done = rayletd(str(tmp_path), **changes)
    assert done.returncode == 1
    assert said in done.stderr


@pytest.mark.timeout(60)
def test_a_raylet_whose_disk_is_full_says_so(tmp_path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    (tmp_path / "node_id").symlink_to("/dev/full")
    done = rayletd(str(tmp_path))
    assert done.returncode == 1
    assert "node_id" in done.stderr and "No space left" in done.stderr


def on_a_disk_of(options: str, directory: Path, command: list[str], node: Node) -> subprocess.CompletedProcess:
    """`command`, with a disk of its own at `directory`: a tmpfs that nobody else sees and that goes with it."""
    alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    mount = ["sh", "-c", 'mount -t tmpfs -o "$1" small "$2" && shift 2 && exec "$@"',
             "mount", options, str(directory)]
    try:
        tried = subprocess.run([*alone, *mount, "true"], capture_output=True, text=True, timeout=20)
    except FileNotFoundError:
        pytest.skip("NOT TESTED: a full disk; util-linux's unshare is not here")
    if tried.returncode != 0:
        pytest.skip(f"NOT TESTED: a full disk; this machine does not let us mount one: {tried.stderr.strip()}")
    return subprocess.run([*alone, *mount, *command], capture_output=True, text=True, timeout=40,
                          env=node.environment, stdin=subprocess.DEVNULL)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("options, said", [
    ("size=8m", "is full"),                             # too little room for Redis and the logs
    ("size=200m,nr_inodes=1", "No space left on device"),  # not even a directory can be made
])
def test_a_node_whose_disk_is_full_does_not_start_and_says_so(idle_node: Node, options: str, said: str) -> None:
    disk = idle_node.directory / "disk"
    disk.mkdir()
    session = disk / "session"
    done = on_a_disk_of(options, disk, [str(ROOT / "bin" / "raylet"), "start", "--head", "--num-cpus", "1",
                                        "--session-dir", str(session), "--python", sys.executable], idle_node)
    assert done.returncode != 0
    assert said in done.stderr, done.stderr
    assert str(session) in done.stderr and "free some space" in done.stderr and "--session-dir" in done.stderr
    assert "Traceback" not in done.stderr
    wait_until(lambda: not idle_node.processes(), f"no process to be left of {idle_node.processes()}", 20)


@pytest.mark.timeout(60)
def test_a_second_raylet_at_the_same_socket_is_refused(node: Node) -> None:
    done = rayletd(str(node.directory), socket=str(node.session / "raylet.sock"))
    assert done.returncode == 1
    assert "raylet.sock" in done.stderr and "another process" in done.stderr
    assert node.python("import ray; ray.init(); print(ray.get(ray.put(1)))").strip() == "1"


@pytest.mark.timeout(60)
def test_metrics_and_timeline_follow_what_runs(idle_node: Node) -> None:
    """Prometheus text, also while tasks run; the figures move."""
    idle_node.start()
    sys.path.insert(0, str(ROOT / "client"))
    import grpc
    from ray._wire import raylet_pb2, raylet_pb2_grpc

    with grpc.insecure_channel(f"unix:{idle_node.session}/raylet.grpc") as channel:
        stub = raylet_pb2_grpc.RayletStub(channel)

        def figure(name: str) -> float:
            text = stub.GetMetrics(raylet_pb2.GetMetricsRequest(), timeout=10).prometheus_text
            (line,) = [line for line in text.splitlines() if line.startswith(name + " ")]
            return float(line.rsplit(" ", 1)[1])

        before = figure("raylet_tasks_finished_total")
        idle_node.python("import ray; ray.init(); f = ray.remote(lambda: 1); "
                         "ray.get([f.remote() for _ in range(50)])")
        wait_until(lambda: figure("raylet_tasks_finished_total") == before + 50, "the counter to move")
        assert figure("raylet_store_up") == 1
        entries = stub.GetTimeline(raylet_pb2.GetTimelineRequest(), timeout=10).entries
        assert len(entries) == 50 and all(entry.status == "ok" and entry.pid for entry in entries)
        assert len({entry.task for entry in entries}) == 50
