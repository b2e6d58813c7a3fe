"""Drivers that die or are interrupted leave nothing behind: no process, memory, file or Redis key."""

from __future__ import annotations

import signal
import subprocess

import pytest
from conftest import Node, wait_until


def redis_keys(node: Node) -> set[str]:
    """Every key of the node's Redis."""
    done = subprocess.run(
        ["redis-cli", "-s", str(node.session / "redis.sock"), "--scan"],
        capture_output=True, text=True, timeout=10,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def is_at_rest(status: dict, cpus: float = 2) -> bool:
    return (
        not status.get("drivers") and not status.get("graphs") and not status.get("actors")
        and status["available"].get("CPU") == cpus
        and int(status.get("store", {}).get("sealed_bytes", 0)) == 0
        and int(status.get("store", {}).get("slab_bytes", 0)) == 0
        and int(status.get("inline_value_bytes", 0)) == 0 and int(status.get("graph_bytes", 0)) == 0
    )


@pytest.mark.timeout(90)
def test_a_killed_driver_leaves_nothing(node: Node, drive) -> None:
    wait_until(lambda: is_at_rest(node.status()), "the node to be at rest", 20)
    wait_until(lambda: any(key.endswith(":nodes") for key in redis_keys(node)), "the node to be recorded", 20)
    keys = redis_keys(node)
    files = sorted(path.name for path in node.session.iterdir())
    driver = drive("""
import numpy as np
from ray.util.dask import ray_dask_get

@ray.remote
class Counter:
    def ping(self):
        return os.getpid()

counter = Counter.options(num_cpus=0).remote()
ray.get(counter.ping.remote())
big = ray.put(np.ones(4_000_000))

def block(i):
    return np.full(200_000, i)

def stay(x):
    meet("stay")
    return x

graph = {("block", i): (block, i) for i in range(16)}
graph.update({("stay", i): (stay, ("block", i)) for i in range(16)})
graph["end"] = (len, [("stay", i) for i in range(16)])
ray_dask_get(graph, "end")
""")
    driver.pids_at("stay", 2)
    wait_until(lambda: redis_keys(node) > keys, "the graph to be recorded", 20)
    assert not is_at_rest(node.status())
    driver.process.kill()
    driver.process.wait()
    wait_until(lambda: is_at_rest(node.status()), f"the node to be at rest: {node.status()}", 20)
    wait_until(lambda: redis_keys(node) == keys, f"no key to stay of {redis_keys(node) - keys}", 20)
    assert sorted(path.name for path in node.session.iterdir()) == files
    bound = [worker for worker in node.status().get("workers", []) if worker.get("job")]
    wait_until(lambda: not [w for w in node.status().get("workers", []) if w.get("job")],
               f"no worker of {bound}", 20)


@pytest.mark.timeout(90)
def test_another_driver_does_not_notice_the_kill_of_one(node: Node, drive) -> None:
    victim = drive("""
@ray.remote
def stay():
    meet("victim")

ray.get([stay.remote() for _ in range(4)])
""")
    victim.pids_at("victim", 2)
    other = drive("""
@ray.remote
def add(a, b):
    return a + b

total = 0
for i in range(300):
    total = ray.get(add.remote(total, i))
print(total)
""")
    victim.process.kill()
    assert other.output().strip() == str(sum(range(300)))


@pytest.mark.timeout(90)
def test_ctrl_c_in_a_graph_gives_the_prompt_back_and_the_next_one_works(node: Node, drive) -> None:
    driver = drive("""
from ray.util.dask import ray_dask_get

def stay(i):
    meet("stay")
    return i

graph = {("stay", i): (stay, i) for i in range(4)}
graph["sum"] = (sum, [("stay", i) for i in range(4)])
try:
    ray_dask_get(graph, "sum")
except KeyboardInterrupt:
    at = time.monotonic()
    print("interrupted", flush=True)
print(ray_dask_get({"x": (int, 5), "y": (sum, ["x", 10])}, "y"))
""")
    driver.pids_at("stay", 2)
    driver.process.send_signal(signal.SIGINT)
    assert driver.output().split() == ["interrupted", "15"]


@pytest.mark.timeout(90)
def test_a_driver_that_reads_nothing_does_not_fill_the_raylet(node: Node) -> None:
    """It is closed once too much waits for it, and the node goes on."""
    script = """
import os, socket, sys, time
from ray._packets import send_packet, wait_for_packet
from ray._wire import session_pb2 as wire
import cloudpickle, platform
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.connect(sys.argv[1])
send_packet(sock, wire.ClientFrame(hello=wire.Hello(
    protocol_version=1, role=wire.Hello.DRIVER, python_version=platform.python_version(),
    cloudpickle_version=cloudpickle.__version__, job=os.urandom(16), pid=os.getpid())).SerializeToString())
wait_for_packet(sock)
value = b"v" * 60_000
ids = []
for i in range(16):
    ids.append(b"g" * 16 + i.to_bytes(8, "big") + bytes(4))
    send_packet(sock, wire.ClientFrame(put=wire.Put(id=ids[-1], inline_value=value)).SerializeToString())
closed = False
for request in range(1, 2_000_000):
    try:
        get = wire.Get(request=request, ids=b"".join(ids), values=True)
        send_packet(sock, wire.ClientFrame(get=get).SerializeToString())
    except Exception:
        closed = True
        break
print("closed" if closed else "not closed", request)
"""
    import sys

    done = subprocess.run(
        [sys.executable, "-c", script, str(node.session / "raylet.sock")],
        env=node.environment, capture_output=True,
        text=True, timeout=80,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[0] == "closed"
    assert node.python("import ray; ray.init(); print(ray.get(ray.put(3)))").strip() == "3"
