"""Who takes part in the benchmark, each with two workers of one thread, each in a process of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable

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
    """What a process alone holds in memory: private pages, shared segments aside."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(("Private_Clean:", "Private_Dirty:")):
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


ALL = {c.name: c for c in (Raylet, DaskThreads, DaskDistributed, DaskDistributedSaturated, RayWheel)}


