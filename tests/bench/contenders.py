"""Who takes part in the benchmark, each with two workers of one thread, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2


def status_bytes(pid: int, field: str) -> int:
    """VmRSS, VmHWM ... of a process, in bytes; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def private_bytes(pid: int) -> int:
    """What a process alone holds in memory: private pages; shared segments (memfd) aside."""
    total, shared = 0, False
    try:
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            if "-" in line.split(" ", 1)[0]:  # a mapping's head line: addresses first, what is mapped last
                shared = "memfd:" in line
            elif not shared and line.startswith(("Private_Clean:", "Private_Dirty:")):
                total += int(line.split()[1]) * 1024
    except OSError:
        pass
    return total


def descendants(pid: int) -> list[int]:
    """Every process below `pid`."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        for child in parents.get(queue.pop(), []):
            found.append(child)
            queue.append(child)
    return found


class Contender:
    """One way to run a graph. `start` makes it ready; `first` is its first, trivial result."""

    name = ""
    ray: Any = None  # the module, where there is one
    first_result: Any = 2  # of increment(1)
    shuffle_method = "tasks"
    get: Callable[[dict, Any], Any]

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        pass

    def compute(self, collection: Any) -> Any:
        return collection.compute(scheduler=self.get)

    def expected_array_sum(self, expression: Any) -> float:
        """The same expression by Dask's threads, once: random chunks are seeded."""
        if not hasattr(self, "_expected"):
            self._expected = float(expression.compute(scheduler="threads", num_workers=WORKERS))
        return self._expected

    def idle_private_bytes(self) -> int:
        """Private memory of every process that was started, the driver aside."""
        return sum(private_bytes(pid) for pid in descendants(os.getpid()))

    def memory(self, peak: bool = False) -> tuple[int, int]:
        """Bytes of the driver and of the scheduler's process, at this moment or at most."""
        field = "VmHWM" if peak else "VmRSS"
        return status_bytes(os.getpid(), field), 0


class DaskThreads(Contender):
    name = "dask threads"

    def start(self) -> None:
        import dask.threaded

        self.get = lambda graph, key, **_: dask.threaded.get(graph, key, num_workers=WORKERS)

    def compute(self, collection: Any) -> Any:
        return collection.compute(scheduler="threads", num_workers=WORKERS)


class DaskDistributed(Contender):
    name = "distributed"
    shuffle_method = "p2p"
    saturation: Any = None

    def start(self) -> None:
        import dask
        from distributed import Client, LocalCluster

        if self.saturation is not None:
            dask.config.set({"distributed.scheduler.worker-saturation": self.saturation})
        self.cluster = LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs=50
        )
        self.client = Client(self.cluster)
        self.get = self.client.get

    def compute(self, collection: Any) -> Any:
        return self.client.compute(collection).result()

    def stop(self) -> None:
        self.client.close()
        self.cluster.close()


class DaskDistributedSaturated(DaskDistributed):
    name = "distributed, saturation inf"
    saturation = float("inf")


class Raylet(Contender):
    name = "raylet"

    def start(self) -> None:
        import ray
        from ray.util.dask import ray_dask_get

        self.ray = ray
        ray.init(num_cpus=WORKERS, **self.options())
        self.get = ray_dask_get

    def options(self) -> dict:
        return {"object_store_memory": 4 << 30}

    def memory(self, peak: bool = False) -> tuple[int, int]:
        rayletd = 0
        for pid in descendants(os.getpid()):
            try:
                if Path(f"/proc/{pid}/comm").read_text().strip() == "rayletd":
                    rayletd = status_bytes(pid, "VmHWM" if peak else "VmRSS")
            except OSError:
                continue
        return super().memory(peak)[0], rayletd

    def stop(self) -> None:
        self.ray.shutdown()

    def grpc_address(self) -> str:
        """Where this node's rayletd takes RPCs."""
        for pid in descendants(os.getpid()):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if Path(words[0]).name == "rayletd":
                return words[words.index("--listen") + 1]
        raise RuntimeError("this node's rayletd is not among this process' descendants")

    @contextmanager
    def polled(self) -> Iterator[dict]:
        """Meanwhile another process polls the raylet's metrics; afterwards the dict tells how that went."""
        poller = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("poller.py")), self.grpc_address()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        found: dict = {}
        try:
            assert poller.stdout.readline() == "ready\n"
            yield found
        finally:
            out, _ = poller.communicate(timeout=30)
            found.update(json.loads(out))


class NullRaylet(Raylet):
    """The scheduler and the driver's connection alone: workers in name only that answer at once with None."""

    name = "raylet, null workers"
    first_result = None

    def start(self) -> None:
        import ray
        from ray.util.dask import ray_dask_get

        self.ray = ray
        self.session = Path(tempfile.gettempdir()) / f"raylet-bench-{os.getpid()}"
        self.raylet("start", "--head", "--null-workers", "--num-cpus", str(WORKERS), "--python", sys.executable)
        ray.init(address=str(self.session))
        self.get = ray_dask_get

    def raylet(self, *arguments: str) -> None:
        command = [str(ROOT / "bin" / "raylet"), *arguments, "--session-dir", str(self.session)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)

    def stop(self) -> None:
        self.ray.shutdown()
        self.raylet("stop")


class PlainShuffles(Raylet):
    """Raylet with every task of a shuffle as Dask has made it."""

    name = "raylet, Dask's shuffle"

    def start(self) -> None:
        from ray.util.dask import enable_dask_on_ray

        super().start()
        enable_dask_on_ray(use_shuffle_optimization=False)


class RayWheel(Raylet):
    """The Ray of PyPI, in an environment of its own (.venv-ray)."""

    name = "ray wheel"

    def options(self) -> dict:
        return {
            "object_store_memory": 4 << 30, "include_dashboard": False, "log_to_driver": False,
            "configure_logging": False,
        }

    def memory(self, peak: bool = False) -> tuple[int, int]:
        return Contender.memory(self, peak)


CONTENDERS = (Raylet, NullRaylet, DaskThreads, DaskDistributed, DaskDistributedSaturated, PlainShuffles, RayWheel)
ALL = {contender.name: contender for contender in CONTENDERS}


