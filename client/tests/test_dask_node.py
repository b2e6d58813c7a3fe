"""Dask on a real node: errors, interrupts, persist that runs on, progress, and graphs of many tasks."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback

import dask
import dask.array as da
import numpy as np
import pytest
from dask.callbacks import Callback
from dask.utils_test import add, inc

import ray
from ray.util.dask import enable_dask_on_ray, ray_dask_get, ray_dask_persist

try:
    from dask.utils_test import GetFunctionTestMixin
except ImportError:

    class GetFunctionTestMixin:
        pass


STORE_BYTES = 256 << 20


@pytest.fixture(scope="module", autouse=True)
def node():
    with ray.init(num_cpus=2, object_store_memory=STORE_BYTES):
        yield


class TestDasksOwn(GetFunctionTestMixin):
    get = staticmethod(ray_dask_get)


def wait_for(path, seconds=20):
    limit = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < limit, f"{path} did not appear"
        time.sleep(0.01)


def interrupt():
    """Ctrl-C."""
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def works():
    return ray_dask_get({"a": (inc, 1), "b": (add, "a", "a")}, "b") == 4


# ------------------------------------------------------------ errors


def test_an_error_is_itself_and_tells_key_and_place():
    def fail(x):
        raise KeyError(f"no {x}")

    with pytest.raises(KeyError) as caught:
        ray_dask_get({"a": (inc, 1), ("the-key", 3): (fail, "a"), "c": (inc, ("the-key", 3))}, "c")
    error = caught.value
    assert isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, KeyError)
    assert str(error) == str(KeyError("no 2")) and "in fail" in error.traceback_str
    shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert ", in fail" in shown and error.function_name == "('the-key', 3)"
    if sys.version_info >= (3, 11):
        assert f"raised by ('the-key', 3) (pid={error.pid})" in shown
    assert works()


def test_an_error_cancels_what_has_not_run(tmp_path):
    def fail():
        raise ValueError("first")

    def mark(x, number):
        (tmp_path / str(number)).touch()

    graph = {"fail": (fail,), "slow": (time.sleep, 0.3)}
    graph.update({f"m{i}": (mark, "slow", i) for i in range(10)})
    graph["end"] = (list, ["fail"] + [f"m{i}" for i in range(10)])
    with pytest.raises(ValueError, match="first"):
        ray_dask_get(graph, "end")
    time.sleep(0.6)
    assert not list(tmp_path.iterdir())
    assert works()


def test_a_result_that_cannot_be_pickled_is_named():
    with pytest.raises(TypeError, match="(?s)the-key.*lock"):
        ray_dask_get({"the-key": (threading.Lock,)}, "the-key")
    assert works()


def test_a_task_that_cannot_be_pickled_is_named():
    lazy = (number for number in ())
    with pytest.raises(TypeError, match="(?s)the-key.*generator"):
        ray_dask_get({"a": (inc, 1), "the-key": (lambda x: lazy, "a")}, "the-key")
    assert works()


def test_a_worker_that_dies_has_its_task_run_again(tmp_path):
    def die_once():
        mark = tmp_path / "died"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 5

    assert ray_dask_get({"a": (die_once,), "b": (inc, "a")}, "b") == 6


def test_a_task_that_always_kills_its_worker_is_named():
    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ray.exceptions.WorkerCrashedError, match="the-key"):
        ray_dask_get({"the-key": (die,)}, "the-key", ray_remote_args={"max_retries": 1})
    assert works()


def test_retries_annotated_in_dask_are_done(tmp_path):
    def fail_twice():
        marks = len(list(tmp_path.iterdir()))
        (tmp_path / str(marks)).touch()
        if marks < 2:
            raise OSError("not yet")
        return marks

    with dask.annotate(retries=3):
        task = dask.delayed(fail_twice)()
    assert task.compute(scheduler=ray_dask_get, optimize_graph=False) == 2


# ------------------------------------------------------------ interrupts


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.1, 0.4])
def test_an_interrupt_ends_a_computation_and_the_next_one_works(after_s, tmp_path):
    def slow(i):
        time.sleep(0.2)
        (tmp_path / str(i)).touch()

    graph = {("s", i): (slow, i) for i in range(200)}
    graph["end"] = (list, [("s", i) for i in range(200)])
    timer = threading.Timer(after_s, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            ray_dask_get(graph, "end")
            time.sleep(60)
    finally:
        timer.cancel()
    assert works()
    before = len(list(tmp_path.iterdir()))
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) - before <= 2


def test_an_interrupt_while_a_graph_is_submitted_leaves_nothing_open():
    graph = {("s", i): (inc, i) for i in range(150_000)}
    graph["end"] = (len, [("s", i) for i in range(150_000)])
    timer = threading.Timer(0.15, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            ray_dask_get(graph, "end")
            time.sleep(60)
    finally:
        timer.cancel()
    assert works()


# ------------------------------------------------------------ persist


def test_persist_returns_before_the_tasks_have_run(tmp_path):
    go = tmp_path / "go"

    def hold(x):
        wait_for(go)
        return x + 1

    held = dask.delayed(hold)(1)
    with enable_dask_on_ray():
        (p,) = dask.persist(held)
        (q,) = ray_dask_persist(dask.delayed(add)(p, 10))
        assert not go.exists()
        go.touch()
        assert q.compute() == 12


def test_an_error_in_a_persisted_task_is_raised_where_it_is_needed():
    def fail():
        raise ValueError("later")

    with enable_dask_on_ray():
        (p,) = dask.persist(dask.delayed(fail)())
        with pytest.raises(ValueError, match="later"):
            dask.delayed(inc)(p).compute()
    assert works()


def test_persisted_references_are_arguments_of_remote_functions():
    @ray.remote
    def total(*blocks):
        return sum(float(block.sum()) for block in blocks)

    with enable_dask_on_ray():
        p = da.ones((100, 100), chunks=50).persist()
        refs = [getattr(value, "value", value) for value in dict(p.__dask_graph__()).values()]
        refs = [ref for ref in refs if isinstance(ref, ray.ObjectRef)]
        assert len(refs) == 4
        assert ray.get(total.remote(*refs)) == 10_000
        big = ray.put(np.arange(1_000_000))
        later = total.remote(big)
        assert dask.delayed(add)(later, later).compute() == 2 * float(np.arange(1_000_000).sum())


def test_persisted_data_outlives_the_collection_it_came_from():
    with enable_dask_on_ray():
        p = (da.ones((400, 400), chunks=100) * 2).persist()
        q = p + 1
        del p
        assert q.sum().compute() == 3 * 160_000


# ------------------------------------------------------------ nesting, threads, progress


def test_tasks_may_compute_and_call_remote_functions():
    @ray.remote
    def double(x):
        return 2 * x

    def outer(x):
        inner = da.arange(100, chunks=10).sum().compute(scheduler=ray_dask_get)
        return int(inner) + ray.get(double.remote(x))

    assert ray_dask_get({"a": (outer, 1), "b": (outer, 2), "c": (add, "a", "b")}, "c") == 2 * 4950 + 6


def test_many_threads_compute_at_once():
    results = {}

    def compute(number):
        for _ in range(5):
            graph = {f"x{i}": (add, i, number) for i in range(100)}
            graph["sum"] = (sum, [f"x{i}" for i in range(100)])
            results.setdefault(number, []).append(ray_dask_get(graph, "sum"))

    threads = [threading.Thread(target=compute, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [4950 + 100 * number] * 5 for number in range(8)}


def test_callbacks_hear_of_tasks_while_others_run(tmp_path):
    go = tmp_path / "go"

    class Note(Callback):
        def __init__(self):
            self.keys = []

        def _posttask(self, key, result, dsk, state, worker_id):
            self.keys.append(key)
            if key == "early":
                self.early = result
                go.touch()

    def hold(x):
        wait_for(go)
        return x

    with Note() as note:
        assert ray_dask_get({"early": (inc, 1), "late": (hold, "early")}, "late") == 2
    assert note.keys == ["early", "late"] and note.early == 2


def test_a_progress_bar_fills_up(capsys):
    from dask.diagnostics import ProgressBar

    with ProgressBar(dt=0.01) as bar:
        ray_dask_get({f"a{i}": (time.sleep, 0.01) for i in range(20)}, [f"a{i}" for i in range(20)])
    assert "100%" in capsys.readouterr().out and bar.last_duration > 0.05


# ------------------------------------------------------------ many tasks


def test_a_graph_that_starts_before_it_is_whole():
    count = 120_000
    graph = {("x", i): (inc, i) for i in range(count)}
    for i in range(0, count, 1000):
        graph["s", i] = (sum, [("x", k) for k in range(i, i + 1000)])
    graph["total"] = (sum, [("s", i) for i in range(0, count, 1000)])
    assert ray_dask_get(graph, ["total", ("x", 5)]) == (count * (count + 1) // 2, 6)


def test_results_are_let_go():
    graph = {("x", i): (np.ones, 50_000) for i in range(200)}
    graph["sum"] = (len, [("x", i) for i in range(200)])
    size = 200 * 50_000 * 8
    for _ in range(2 + 3 * STORE_BYTES // size):
        assert ray_dask_get(graph, "sum") == 200
    for _ in range(2 + 3 * STORE_BYTES // size):
        assert sum(a.sum() for a in ray_dask_get(graph, [("x", i) for i in range(200)])) == 200 * 50_000
