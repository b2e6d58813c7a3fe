"""`make demo`: a real node runs real Dask work on real data.

Every result is checked against the same work without Raylet, and shown with its time beside Dask's threads
and Dask's distributed. A worker is killed in the middle, and the answer stays. At the end everything is
stopped, and it is checked that nothing is left. The exit code is 0 only if all of that is true.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator

sys.path.insert(0, str(Path(__file__).resolve().parent))
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
warnings.filterwarnings("ignore", message="The specified chunks separate the stored chunks")
# One thread a task for everybody, as Dask's distributed and Raylet have it in their workers.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

import dask  # noqa: E402
import jobs  # noqa: E402
import pictures  # noqa: E402
from node import DemoNode  # noqa: E402

OUT = Path(__file__).resolve().parents[2] / "build" / "demo"
WORKERS = 2
ROUNDS = 3
SCHEDULERS = ["Raylet", "Dask threads", "Dask distributed"]


@contextmanager
def progress(text: str) -> Iterator[None]:
    """A line that says what is going on, and for how long, until it is done."""
    done = threading.Event()
    start = time.monotonic()
    terminal = sys.stdout.isatty()

    def tick() -> None:
        while not done.wait(0.2):
            print(f"\r  ... {text}  {time.monotonic() - start:.0f} s", end="", flush=True)

    thread = threading.Thread(target=tick, daemon=True)
    if terminal:
        thread.start()
    else:
        print(f"  ... {text}", flush=True)
    try:
        yield
    finally:
        done.set()
        if terminal:
            thread.join()
            print("\r" + " " * (len(text) + 20) + "\r", end="", flush=True)


def run_jobs(scheduler: str) -> dict[str, tuple[Any, float]]:
    """Each job's result and its best time of three, by whatever scheduler Dask is set to use."""
    found = {}
    for job in jobs.JOBS:
        with progress(f"{scheduler}: {job.what}"):
            times = []
            for _ in range(ROUNDS):
                collection = job.make()
                start = time.perf_counter()
                result = job.compute(collection)
                times.append(time.perf_counter() - start)
        found[job.name] = (result, min(times))
    return found


def run_threads() -> dict[str, tuple[Any, float]]:
    with ThreadPoolExecutor(WORKERS) as pool, dask.config.set(scheduler="threads", pool=pool):
        return run_jobs("Dask threads")


def run_distributed() -> dict[str, tuple[Any, float]]:
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        with Client(cluster):
            return run_jobs("Dask distributed")


def show(found: dict[str, dict[str, tuple[Any, float]]]) -> None:
    """The table of times. Raises RuntimeError if two schedulers disagree about a result."""
    print(f"\n  {'':62}" + "".join(f"{name:>18}" for name in SCHEDULERS))
    for job in jobs.JOBS:
        expected = found["Dask threads"][job.name][0]
        for name in SCHEDULERS:
            if not job.equal(found[name][job.name][0], expected):
                raise RuntimeError(f"{job.name}: {name} gives another result than Dask's threads")
        cells = "".join(f"{found[name][job.name][1] * 1e3:>15,.0f} ms" for name in SCHEDULERS)
        print(f"  {job.what:62}{cells}")
    print("  (the best of three; two workers each; every result is the same)\n")


def kill_a_worker(node: DemoNode) -> None:
    """Kills a worker in the middle of a task, shows the status meanwhile, and checks the answer."""
    with tempfile.TemporaryDirectory() as directory:
        diary = str(Path(directory) / "diary")
        Path(diary).touch()
        answer: list[Any] = []
        thread = threading.Thread(target=lambda: answer.append(jobs.slow_squares(diary).compute()))
        thread.start()
        victim = wait_for_busy_worker(node)
        os.kill(victim, signal.SIGKILL)
        print(f"  killed worker {victim} in the middle of a task; the node, right then:\n")
        print("\n".join("    " + line for line in node.raylet("status").splitlines()) + "\n")
        thread.join(60)
        expected = sum(number * number for number in range(jobs.SLOW_TASKS))
        if answer != [expected]:
            raise RuntimeError(f"after a worker was killed: expected {expected}, got {answer}")
        cut_short = jobs.unfinished(diary)
        if not cut_short:
            raise RuntimeError("the killed worker was not in the middle of a task")
        print(f"  the answer is {answer[0]:,}, as it must be; task {cut_short[0]} was begun twice\n")


def wait_for_busy_worker(node: DemoNode) -> int:
    """The pid of a worker that has just begun a slow task."""
    give_up = time.monotonic() + 20
    while time.monotonic() < give_up:
        for worker in node.status()["workers"]:
            begun = worker["running_for_ms"]
            if "slow_square" in worker["running"] and begun < jobs.SLOW_TASK_S * 1000 / 2:
                return worker["pid"]
        time.sleep(0.005)
    raise RuntimeError("no worker ever ran a slow task")


def with_node(found: dict, step: Callable[[str], None]) -> None:
    """All that needs the node; it is stopped by whoever called."""
    node = DemoNode()
    try:
        step("A node")
        print("\n".join("  " + line for line in node.start().splitlines()))
        import ray
        from ray.util.dask import enable_dask_on_ray

        with ray.init(address=str(node.session)), enable_dask_on_ray():
            step("The jobs")
            found["Raylet"] = run_jobs("Raylet")
            show(found)
            step("A worker dies")
            kill_a_worker(node)
            step("Pictures")
            pictures.draw_anomaly(found["Raylet"]["climate"][0], OUT / "anomaly.png")
            print(f"  {OUT / 'anomaly.png'}")
            entries = pictures.read_timeline(f"unix:{node.session}/raylet.grpc")
            count = pictures.draw_timeline(pictures.largest_graph(entries), OUT / "timeline.png")
            print(f"  {OUT / 'timeline.png'} ({count} tasks of one graph)")
    finally:
        node.stop()
    node.check_that_nothing_is_left()


def main() -> int:
    OUT.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()

    def step(text: str) -> None:
        print(f"\n== {text}   ({time.monotonic() - start:.0f} s)", flush=True)

    found: dict[str, dict[str, tuple[Any, float]]] = {}
    try:
        step("The same work without Raylet")
        with progress("writing the flights as Parquet files"):
            jobs.write_flights()
        found["Dask threads"] = run_threads()
        found["Dask distributed"] = run_distributed()
        with_node(found, step)
    except (RuntimeError, AssertionError) as error:
        print(f"\ndemo: FAILED: {error}", file=sys.stderr)
        return 1
    step("Everything is stopped, and nothing is left behind")
    return 0


if __name__ == "__main__":
    sys.exit(main())
