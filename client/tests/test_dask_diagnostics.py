"""Dask's own callbacks and diagnostics: what they are told, and show, of tasks that ran elsewhere."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from operator import add
from timeit import default_timer

import dask.array as da
import numpy as np
import pytest
from dask.callbacks import Callback
from dask.diagnostics import CacheProfiler, Profiler, ProgressBar, ResourceProfiler
from dask.threaded import get as threaded_get

import ray
from ray.util.dask import RayDaskCallback, ray_dask_get

GRAPH = {"a": 1, "b": (add, "a", 1), "c": (add, "b", 10), "d": (add, "c", "b")}


@pytest.fixture(autouse=True)
def node(cluster):
    yield
    assert not Callback.active


class Note(Callback):
    def __init__(self):
        self.calls = []

    def _start(self, dsk):
        self.calls.append(("start", set(dsk)))

    def _start_state(self, dsk, state):
        self.calls.append(("start_state", _copy(state)))

    def _pretask(self, key, dsk, state):
        assert key in state["running"] and key not in state["finished"]
        self.calls.append(("pretask", key))

    def _posttask(self, key, value, dsk, state, worker_id):
        assert key in state["finished"] and key not in state["running"]
        assert isinstance(worker_id, int)
        self.calls.append(("posttask", key, value, _copy(state)))

    def _finish(self, dsk, state, errored):
        self.calls.append(("finish", errored))


def _copy(state):
    """What of a state is said of tasks; literals count as tasks in some versions of Dask."""
    tasks = {"b", "c", "d"}
    return {
        "waiting": {k: set(v) for k, v in state["waiting"].items()},
        "dependencies": {k: set(v) - {"a"} for k, v in state["dependencies"].items() if k in tasks},
        "dependents": {k: set(v) for k, v in state["dependents"].items() if k in tasks},
        "finished": set(state["finished"]) & tasks,
        "released": set(state["released"]) & tasks,
        "cached": set(state["cache"]) & tasks,
    }


def test_the_five_hooks_get_what_dasks_threads_give_them():
    ours, theirs = Note(), Note()
    with ours:
        assert ray_dask_get(GRAPH, "d") == 14
    with theirs:
        assert threaded_get(GRAPH, "d", num_workers=1) == 14
    assert ours.calls[0] == ("start", set(GRAPH))
    of_tasks = [call for call in theirs.calls[1:] if call[1] != "a"]
    assert ours.calls[1:] == of_tasks
    assert ours.calls[-1] == ("finish", False)


def test_other_names_of_a_task_count_as_tasks_that_end_when_it_has_ended():
    graph = {"b": (add, 1, 1), "other": "b", "another": "other", "c": (add, "another", 10)}
    ours, theirs = Note(), Note()
    with ours:
        assert ray_dask_get(graph, ["c", "another"]) == (12, 2)
    with theirs:
        assert threaded_get(graph, ["c", "another"], num_workers=1) == (12, 2)
    for kind in ("pretask", "posttask"):
        expected = {call[:3] for call in theirs.calls if call[0] == kind}
        assert {call[:3] for call in ours.calls if call[0] == kind} == expected
        assert len(expected) == 4
    order = [call[1] for call in ours.calls if call[0] == "posttask"]
    assert order.index("b") < min(order.index("other"), order.index("another"))
    with Profiler() as profiler:
        ray_dask_get(graph, ["c", "another"])
    assert {task.key for task in profiler.results} == set(graph)


def test_hooks_are_called_in_the_order_of_completion_and_say_which_worker():
    workers = {}
    ended = []

    class Order(Callback):
        def _posttask(self, key, value, dsk, state, worker_id):
            workers[key] = worker_id
            ended.append(key)
            assert value == os.getpid() or key == "all" or value == worker_id

    def slow():
        time.sleep(0.3)
        return os.getpid()

    graph = {"slow": (slow,), "fast": (os.getpid,), "all": (max, ["slow", "fast"])}
    with Order():
        ray_dask_get(graph, "all")
    assert ended == ["fast", "slow", "all"]
    assert os.getpid() not in workers.values()


def test_values_of_every_size_reach_posttask():
    sums = {}

    class Sums(Callback):
        def _posttask(self, key, value, dsk, state, worker_id):
            sums[key] = value.sum()

    with Sums():
        ray_dask_get({("x", i): (np.ones, 10 ** i) for i in range(7)}, [("x", 6)])
        x = ray_dask_get({("x", i): (np.ones, 10 ** i) for i in range(7)}, [("x", i) for i in range(7)])
    assert sums == {("x", i): 10 ** i for i in range(7)}
    x[6][0] = 5  # results may be written to all the same


def test_callbacks_given_to_one_call_are_called():
    note = Note()
    ray_dask_get(GRAPH, "c", callbacks=[note])
    assert note.calls[-1] == ("finish", False) and len(note.calls) == 7
    keys = []
    ray_dask_get(GRAPH, "c", callbacks=(None, None, lambda key, dsk, state: keys.append(key), None, None))
    assert keys == ["b", "c"]


def test_an_error_ends_with_finish_and_later_tasks_have_no_posttask():
    def fail(x):
        raise OSError("no")

    note = Note()
    with note, pytest.raises(OSError, match="no"):
        ray_dask_get({"b": (add, 1, 1), "c": (fail, "b"), "d": (add, "c", 1)}, "d")
    assert [call[:2] for call in note.calls if call[0] == "posttask"] == [("posttask", "b")]
    assert note.calls[-1] == ("finish", True)
    assert ray_dask_get(GRAPH, "d") == 14


def test_the_profiler_shows_when_and_where_the_workers_ran():
    def nap(seconds):
        time.sleep(seconds)
        return os.getpid()

    before = default_timer()
    with Profiler() as profiler:
        graph = {"one": (nap, 0.2), "two": (nap, 0.2), "last": (add, "one", "two")}
        pids = ray_dask_get(graph, ["one", "two", "last"])
    after = default_timer()
    data = {entry.key: entry for entry in profiler.results}
    assert set(data) == {"one", "two", "last"} and data["one"].task == (nap, 0.2)
    assert (data["one"].worker_id, data["two"].worker_id) == pids[:2]
    for entry in data.values():
        assert before < entry.start_time <= entry.end_time < after
    for key in ("one", "two"):
        assert 0.19 < data[key].end_time - data[key].start_time
        assert data["last"].start_time >= data[key].end_time
    assert data["last"].end_time - data["last"].start_time < 0.19


def test_the_cache_profiler_sees_values_come_and_go():
    with CacheProfiler() as counts:
        assert ray_dask_get(GRAPH, "d") == 14
    assert [(entry.key, entry.metric) for entry in counts.results] == [("c", 1), ("b", 1), ("d", 1)] or [
        entry.key for entry in counts.results] == ["b", "c", "d"]
    with CacheProfiler(metric=lambda value: value.nbytes, metric_name="nbytes") as sizes:
        ray_dask_get({"x": (np.ones, 1000), "y": (np.negative, "x")}, "y")
    assert {entry.key: entry.metric for entry in sizes.results} == {"x": 8000, "y": 8000}


def test_the_resource_profiler_sees_the_workers():
    def burn():
        block = bytearray(os.urandom(1 << 20) * 200)
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            pass
        return len(block)

    with ResourceProfiler(dt=0.1) as profiler:
        assert ray_dask_get({"burn": (burn,)}, "burn") == 200 << 20
    assert len(profiler.results) > 3
    megabytes = [entry.mem for entry in profiler.results]
    assert max(megabytes) - min(megabytes) > 150


def test_the_progress_bar_and_profilers_work_together_on_a_collection(capsys):
    x = da.ones((200, 200), chunks=20)
    with ProgressBar(dt=0.01) as bar, Profiler() as profiler, CacheProfiler() as cache:
        assert (x + 1).sum().compute(scheduler=ray_dask_get) == 80_000
    assert "100%" in capsys.readouterr().out and bar.last_duration > 0
    assert len(profiler.results) == len(cache.results) > 20


def test_persisted_inputs_are_there_from_the_beginning():
    seen = []

    class States(Callback):
        def _start_state(self, dsk, state):
            seen.append([value for value in state["cache"].values() if isinstance(value, ray.ObjectRef)])

    x = da.ones((20, 20), chunks=10).persist(scheduler=ray_dask_get)
    with States(), Profiler() as profiler:
        assert (x + 1).sum().compute(scheduler=ray_dask_get) == 800
    assert len(set(seen[-1])) == 4 and len(profiler.results) >= 5


def test_diagnostics_and_hooks_of_tasks_that_run_in_this_process():
    sent, ended = [], []
    hooks = RayDaskCallback(
        ray_postsubmit=lambda task, key, deps, ref: sent.append((key, deps)),
        ray_posttask=lambda key, result, state: None,
        ray_postsubmit_all=lambda refs, dsk: sent.append("all"), ray_finish=lambda result: sent.append("end"),
    )
    for callbacks in ((ProgressBar(out=None),), (Profiler(), CacheProfiler()), (Callback(), hooks)):
        target = np.zeros((40, 40))
        note = Callback(posttask=lambda key, value, dsk, state, worker: ended.append(key))
        with ExitStack() as stack:
            for callback in (*callbacks, note):
                stack.enter_context(callback)
            da.store(da.ones((40, 40), chunks=10) + 1, target, lock=False, scheduler=ray_dask_get)
        assert (target == 2).all()
    assert ended and sent[-2:] == ["all", "end"]


def test_opportunistic_caching_works():
    cachey = pytest.importorskip("cachey")
    from dask.cache import Cache

    ran = []

    class Count(Callback):
        def _posttask(self, key, value, dsk, state, worker_id):
            ran.append(key)

    def slow():
        time.sleep(0.1)
        return np.ones(1000)

    class Durations(Cache):
        def _finish(self, dsk, state, errored):
            took.update(self.durations)
            super()._finish(dsk, state, errored)

    took = {}
    with Durations(cachey.Cache(1e9)), Count():
        for _ in range(2):
            assert ray_dask_get({"slow": (slow,), "sum": (np.sum, "slow")}, "sum") == 1000
    assert ran == ["slow", "sum"]
    assert took["slow"] >= 0.1


def test_diagnostics_hold_no_results_that_the_graph_is_through_with():
    session = ray._runtime.current_session()
    graph = {("x", i): (np.ones, 200_000) for i in range(50)}
    graph["last"] = (len, [("x", i) for i in range(50)])
    with Profiler():
        for _ in range(3):
            assert ray_dask_get(graph, "last") == 50
    session.flush()
    assert not session.references.active()
