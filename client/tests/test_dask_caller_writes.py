"""Tasks whose functions change something of their caller's, which run in its process, as under Dask's threads."""

import functools
import itertools
import logging
import os
import signal
import threading
import weakref

import dask
import dask.array as da
import dask.bag as db
import numpy as np
import pandas as pd
import pytest
from dask.callbacks import Callback

import ray
from ray.util.dask import RayDaskCallback, enable_dask_on_ray, ray_dask_get

pytestmark = pytest.mark.usefixtures("cluster")

TOTAL = 0


def compute(*collections, **kwargs):
    return dask.compute(*collections, scheduler=ray_dask_get, **kwargs)


def here(x):
    return x, os.getpid()


class Meter:
    def __init__(self, factor=1):
        self.factor = factor
        self.calls = 0
        self.fitted = None

    def scale(self, x):
        self.calls += 1
        return x * self.factor

    def fit(self, x):
        self.fitted = x
        return self.fitted, os.getpid()


# ------------------------------------------------------------ what is changed


def test_a_variable_of_the_enclosing_function_counts_the_calls_of_many_tasks():
    calls = 0

    def count(x):
        nonlocal calls
        calls += 1
        return x + 1

    parts = [dask.delayed(count)(dask.delayed(abs)(-n)) for n in range(20)]
    assert compute(dask.delayed(sum)(parts)) == (sum(range(20)) + 20,)
    assert calls == 20


def test_a_variable_is_set_by_a_function_within_a_partial_an_apply_or_a_lambda():
    seen_by = []

    def note(name, x):
        seen_by.append(name)
        return x

    graph = {
        "a": (functools.partial(note, "partial"), 1),
        "b": (dask.utils.apply, note, ["apply", "a"]),
        "c": (lambda x: note("lambda", x), "b"),
        "d": (sum, [(note, "nested", "c"), 1]),
        "e": (dask.utils.apply, note, [], {"name": "keywords", "x": 3}),
        "f": (map, functools.partial(note, "lazy"), [1, 2]),
        "g": (list, "f"),
    }
    assert ray_dask_get(graph, ["d", "e", "g"]) == (2, 3, [1, 2])
    assert sorted(seen_by) == sorted(["partial", "apply", "lambda", "nested", "keywords", "lazy", "lazy"])


def test_arrays_bags_and_frames_fill_what_their_functions_close_over():
    shapes, items, sizes = [], set(), {}
    marks = np.zeros(20)

    def shape(block):
        shapes.append(block.shape)
        return block

    def item(x):
        items.add(x)
        marks[x] = 1
        return x

    def size(frame):
        sizes["rows"] = len(frame)
        return frame

    array = (da.ones((4, 4), chunks=2) + 1).map_blocks(shape, dtype=float, meta=np.ones((0, 0))) * 2
    bag = db.from_sequence(range(20), npartitions=4).map(item).filter(lambda x: x % 2)
    total, odd = compute(array.sum(), bag)
    assert total == 64 and len(odd) == 10
    assert shapes == [(2, 2)] * 4 and items == set(range(20)) and marks.all()
    dd = pytest.importorskip("dask.dataframe")
    frame = dd.from_pandas(pd.DataFrame({"a": range(20)}), npartitions=2)
    moved = frame.map_partitions(size, meta=frame._meta).set_index("a")
    assert len(moved.compute(scheduler=ray_dask_get)) == 20 and sizes["rows"] == 10


def test_numbers_of_an_itertools_count_are_given_once():
    count = itertools.count()
    parts = [dask.delayed(lambda x: next(count))(n) for n in range(20)]
    assert sorted(compute(*parts)) == list(range(20)) and next(count) == 20


def test_a_method_counts_in_its_object():
    meter = Meter(3)
    parts = [dask.delayed(meter.scale)(n) for n in range(10)]
    assert compute(*parts) == tuple(range(0, 30, 3)) and meter.calls == 10


def test_an_object_that_a_function_closes_over_gathers_what_its_tasks_saw():
    meter = Meter(2)
    meter.seen = []

    def note(x):
        meter.calls += 1
        meter.seen.append(x)
        return x * meter.factor

    assert compute(*[dask.delayed(note)(n) for n in range(5)]) == (0, 2, 4, 6, 8)
    assert meter.calls == 5 and sorted(meter.seen) == [0, 1, 2, 3, 4]


def test_what_a_task_makes_for_its_caller_is_the_very_object_and_can_be_stored_into():
    targets = {}

    def make(name):
        target = np.zeros((200, 200))
        targets[name] = target
        return target

    da.store(da.ones((200, 200), chunks=100), dask.delayed(make)("x"), scheduler=ray_dask_get)
    assert targets["x"].all()
    (made,) = compute(dask.delayed(make)("y"))
    assert made is targets["y"]


def test_files_in_the_callers_memory_are_read_and_written():
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://caller/0.txt", "w") as file:
        file.write("one\ntwo\n")
    bag = db.read_text("memory://caller/*.txt")
    assert compute(bag) == (["one\n", "two\n"],)
    with dask.config.set(scheduler=ray_dask_get):
        bag.map(str.strip).to_textfiles("memory://callers/*.txt")
    assert fsspec.filesystem("memory").cat("/callers/0.txt").split() == [b"one", b"two"]


# ------------------------------------------------------------ what stays with the workers


def test_a_function_that_only_reads_what_it_closes_over_runs_on_workers():
    offsets = {"a": 1}
    numbers = [1, 2, 3]
    _, pid = ray_dask_get({"x": (lambda key: (offsets[key] + sum(numbers), os.getpid()), "a")}, "x")
    assert pid != os.getpid()


def test_a_memoising_function_runs_on_workers():
    def memoise(function):
        cache = {}

        def wrapper(x):
            if x not in cache:
                cache[x] = function(x)
            return cache[x]

        return wrapper

    found = compute(*[dask.delayed(memoise(here))(n % 3) for n in range(9)])
    assert [n for n, _ in found] == [0, 1, 2] * 3 and os.getpid() not in {pid for _, pid in found}


def test_a_model_that_is_loaded_once_for_many_calls_is_loaded_on_workers():
    model = None

    def predict(x):
        nonlocal model
        if model is None:
            model = os.getpid()
        return x, model

    found = compute(*[dask.delayed(predict)(n) for n in range(5)])
    assert os.getpid() not in {pid for _, pid in found} and model is None


def test_a_method_that_sets_attributes_of_its_object_runs_on_workers():
    meter = Meter()
    ((fitted, pid),) = compute(dask.delayed(meter.fit)(3))
    assert fitted == 3 and pid != os.getpid() and meter.fitted is None


def _count_globally(x):
    global TOTAL
    TOTAL += 1
    return here(x)


def test_a_function_that_changes_a_global_variable_runs_on_workers():
    ((_, pid),) = compute(dask.delayed(_count_globally)(1))
    assert pid != os.getpid() and TOTAL == 0


def test_tasks_before_one_that_stays_run_on_workers():
    pids = []

    def note(pair):
        pids.append(pair[1])
        return os.getpid()

    assert compute(*[dask.delayed(note)(dask.delayed(here)(n)) for n in range(4)]) == (os.getpid(),) * 4
    assert len(pids) == 4 and os.getpid() not in pids


def test_tasks_after_one_that_needs_no_other_run_on_workers():
    calls = []

    def load(n):
        calls.append(n)
        return n

    found = compute(*[dask.delayed(here)(dask.delayed(load)(n)) for n in range(4)], optimize_graph=False)
    assert [n for n, _ in found] == sorted(calls) == [0, 1, 2, 3]
    assert os.getpid() not in {pid for _, pid in found}


def test_a_function_within_a_task_changes_what_is_that_tasks():
    def work(n):
        calls = 0

        def count(x):
            nonlocal calls
            calls += 1
            return x

        graph = {("c", number): (count, number) for number in range(n)}
        ray_dask_get(graph, list(graph))
        return calls, os.getpid()

    calls, pid = ray_dask_get({"x": (work, 5)}, "x")
    assert calls == 5 and pid != os.getpid()


# ------------------------------------------------------------ as any other task


def _counting():
    calls = []

    def count(x):
        calls.append(x)
        return x + 1

    return count, calls


def test_it_is_said_once_for_each_function(caplog, monkeypatch):
    monkeypatch.setattr("ray.util.dask._caller_writes._told", {})
    count, _ = _counting()
    with caplog.at_level(logging.WARNING, logger="ray.util.dask"):
        for _ in range(2):
            ray_dask_get({"x": (count, 1), "y": (count, "x")}, "y")
    (record,) = caplog.records
    assert record.name == "ray.util.dask" and "'count'" in record.getMessage()


def test_the_log_names_function_file_and_variable(caplog, monkeypatch):
    monkeypatch.setattr("ray.util.dask._caller_writes._told", {})
    changed = []
    with caplog.at_level(logging.WARNING, logger="ray.util.dask"):
        ray_dask_get({"x": (lambda x: changed.append(x), 1)}, "x")
    assert f"'<lambda>' ({__file__}:" in caplog.text and "'changed'" in caplog.text


def test_an_exception_is_that_of_any_task():
    calls = 0

    def fail(x):
        nonlocal calls
        calls += 1
        raise ZeroDivisionError("by nothing")

    with pytest.raises(ZeroDivisionError, match="by nothing") as raised:
        ray_dask_get({"x": (abs, -1), "my-key": (fail, "x"), "z": (abs, "my-key")}, "z")
    assert isinstance(raised.value, ray.exceptions.RayTaskError)
    assert raised.value.function_name == "my-key" and str(raised.value) == "by nothing" and calls == 1
    assert raised.traceback[-1].name == "fail"
    with pytest.raises(ZeroDivisionError):
        ray_dask_get({"my-key": (fail, 1)}, "my-key")


def test_a_failure_of_a_task_before_it_is_raised_and_it_does_not_run():
    count, calls = _counting()
    with pytest.raises(ZeroDivisionError):
        ray_dask_get({"x": (divmod, 1, 0), "y": (count, "x")}, "y")
    assert calls == []


def test_it_can_be_persisted():
    count, calls = _counting()
    x = dask.delayed(count)(dask.delayed(abs)(-1))
    y = x.persist(scheduler=ray_dask_get)
    assert calls == [1]
    assert compute(y + 1) == (3,) and calls == [1]
    array = da.ones(4, chunks=2).map_blocks(count, dtype=float, meta=np.ones(0)).persist(scheduler=ray_dask_get)
    found = [getattr(what, "value", what) for what in array.__dask_graph__().values()]
    refs = [ref for ref in found if isinstance(ref, ray.ObjectRef)]
    assert len(calls) == 3 and [ref.result().tolist() for ref in refs] == [[2, 2], [2, 2]]


def test_several_collections_share_its_tasks():
    count, calls = _counting()
    x = da.zeros((4, 4), chunks=2).map_blocks(count, dtype=float, meta=np.ones((0, 0)))
    one, two = compute(x + 1, x + 2)
    assert len(calls) == 4 and (two - one == 1).all()


def test_it_may_compute_something_itself():
    sums = []

    def work(n):
        sums.append(int(da.arange(n, chunks=5).sum().compute()))
        return n

    with enable_dask_on_ray():
        parts = [dask.delayed(work)(10), dask.delayed(work)(dask.delayed(abs)(-20))]
        assert dask.compute(*parts) == (10, 20)
    assert sorted(sums) == [45, 190]


def test_it_may_use_the_callers_locks_and_threads():
    lock, barrier = threading.Lock(), threading.Event()
    calls = 0

    def count(x):
        nonlocal calls
        with lock:
            calls += 1
        barrier.set()
        return x

    assert ray_dask_get({"x": (count, 1)}, "x") == 1 and calls == 1 and barrier.is_set()


def test_hooks_of_ray_dask_callbacks_are_called_around_it_in_its_process():
    count, calls = _counting()
    told = []

    def before(key, values):
        told.append(("before", key, values, os.getpid()))
        return len(told)

    def after(key, result, state):
        told.append(("after", key, result, state))

    graph = {"x": (abs, -1), "y": (count, "x")}
    with RayDaskCallback(ray_pretask=before, ray_posttask=after):
        assert ray_dask_get(graph, "y") == 2
    assert told == [("before", "y", (1,), os.getpid()), ("after", "y", 2, 1)] and calls == [1]


def test_dasks_own_callbacks_are_told_of_it():
    count, calls = _counting()
    began, ended = [], {}

    class Told(Callback):
        def _pretask(self, key, dsk, state):
            began.append(key)

        def _posttask(self, key, result, dsk, state, worker):
            ended[key] = result, worker == os.getpid()

    graph = {"a": (count, 0), "x": (abs, -1), "y": (count, "x"), "z": (count, "y"), "b": (abs, "a")}
    with Told():
        assert ray_dask_get(graph, ["z", "b"]) == (3, 1)
    assert sorted(began) == sorted(ended) == ["a", "b", "x", "y", "z"]
    assert {key: ended[key][0] for key in "abxyz"} == {"a": 1, "b": 1, "x": 1, "y": 2, "z": 3}
    assert [key for key in "abxyz" if ended[key][1]] == ["a", "y", "z"]


def test_ctrl_c_ends_it_and_the_next_computation_works():
    calls = []

    def interrupted(x):
        calls.append(x)
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(60)

    with pytest.raises(KeyboardInterrupt):
        ray_dask_get({"x": (abs, -1), "y": (interrupted, "x")}, "y")
    assert calls == [1] and ray_dask_get({"x": (abs, -2)}, "x") == 2


def test_many_tasks_of_one_function_are_all_counted_and_their_inputs_let_go_of():
    total = 0

    def add(block):
        nonlocal total
        total += int(block.sum())
        return None

    session = ray._runtime.current_session()
    counts = len(session.references._counts)
    ones = da.ones(200_000, chunks=20_000)
    compute(*[dask.delayed(add)(block) for block in ones.to_delayed()])
    session.references.drain()
    assert total == 200_000 and len(session.references._counts) <= counts


@pytest.mark.parametrize("needs_others", [False, True])
def test_large_results_of_it_are_let_go_of_as_soon_as_they_are_used(needs_others):
    made = []

    def load(number):
        found = np.full(100_000, float(number))
        made.append(weakref.ref(found))
        return found

    def how_many_are_left(block):
        held.append(block[0])
        return sum(ref() is not None for ref in made)

    held = []
    numbers = [dask.delayed(abs)(number) if needs_others else number for number in range(10)]
    sums = [dask.delayed(how_many_are_left)(dask.delayed(load)(number)) for number in numbers]
    left = compute(*sums)
    assert sorted(held) == list(range(10)) and max(left) <= 2
