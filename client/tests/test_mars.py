"""Mars' door: each thing that a reader of Mars' page about Dask does, on a real node over both carriers."""

from __future__ import annotations

import asyncio
import collections
import gc
import os
import re
import subprocess
import sys
import threading
import weakref

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

import mars
import mars.remote as mr
from mars.contrib.dask import convert_dask_collection, mars_scheduler

CLIENT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
pytestmark = pytest.mark.usefixtures("cluster")


def inc(x):
    return x + 1


def frame():
    rng = np.random.RandomState(1)
    table = pd.DataFrame(rng.randn(2000, 10), columns=[f"c{i}" for i in range(10)])
    d = dd.from_pandas(table, npartitions=4)
    d["c0"] = d["c0"] + d["c1"] / 2
    table["c0"] = table["c0"] + table["c1"] / 2
    return d[d["c2"] > d["c2"].mean()], table[table["c2"] > table["c2"].mean()]


# ------------------------------------------------------------ the scheduler


def test_a_delayed_call_computes_by_mars_scheduler():
    assert dask.delayed(inc)(1).compute(scheduler=mars_scheduler) == 2
    with dask.config.set(scheduler=mars_scheduler):
        assert dask.delayed(inc)(2).compute() == 3


def test_an_estimate_of_pi_is_that_of_dask():
    def inside(n, seed):
        points = np.random.RandomState(seed).uniform(-1, 1, size=(n, 2))
        return int((np.linalg.norm(points, axis=1) < 1).sum())

    parts = [dask.delayed(inside)(10_000, seed) for seed in range(8)]
    pi = dask.delayed(lambda counts, n: 4 * sum(counts) / n)(parts, 80_000)
    expected = pi.compute(scheduler="sync")
    assert pi.compute(scheduler=mars_scheduler) == expected
    assert convert_dask_collection(pi).execute().fetch() == expected


@pytest.mark.parametrize(
    "shape", [list, tuple, lambda items: {str(i): item for i, item in enumerate(items)}]
)
def test_several_objects_come_back_in_the_shape_in_which_they_were_given(shape):
    given = shape([dask.delayed(inc)(i) for i in range(10)])
    assert dask.compute(given, scheduler=mars_scheduler) == (shape(list(range(1, 11))),)


def test_what_is_persisted_by_mars_scheduler_goes_on_with_any_scheduler():
    kept = dask.delayed(inc)(1).persist(scheduler=mars_scheduler)
    further = dask.delayed(inc)(kept)
    assert further.compute(scheduler=mars_scheduler) == further.compute(scheduler="sync") == 3
    mixed = dask.delayed(inc)(dask.delayed(inc)(1).persist(scheduler="threads"))
    assert mixed.compute(scheduler=mars_scheduler) == 3


def test_a_frame_filtered_by_a_persisted_mean():
    filtered, expected = frame()
    d = dd.from_pandas(expected, npartitions=3)
    mean = d["c2"].mean().persist(scheduler=mars_scheduler)
    got = d[d["c2"] > mean].compute(scheduler=mars_scheduler)
    pd.testing.assert_frame_equal(got, expected[expected["c2"] > expected["c2"].mean()])


# ------------------------------------------------------------ conversion


def test_a_converted_object_shows_itself_as_mars_does():
    shown = repr(convert_dask_collection(dask.delayed(inc)(1)))
    assert re.fullmatch(r"Object <op=RemoteFunction, key=[0-9a-f]{32}>", shown)


def test_execute_gives_the_object_itself_and_may_be_called_again():
    converted = convert_dask_collection(dask.delayed(inc)(1))
    assert converted.execute() is converted
    assert converted.execute().fetch() == 2 and converted.fetch() == 2


def test_data_frames_are_converted():
    filtered, expected = frame()
    pd.testing.assert_frame_equal(filtered.compute(scheduler=mars_scheduler), expected)
    pd.testing.assert_frame_equal(convert_dask_collection(filtered).execute().fetch(), expected)
    column = convert_dask_collection(filtered["c3"]).execute().fetch()
    pd.testing.assert_series_equal(column, expected["c3"])
    assert convert_dask_collection(filtered["c3"].sum()).execute().fetch() == pytest.approx(column.sum())


def test_a_frame_read_from_a_file_is_converted(tmp_path):
    table = pd.DataFrame({"length": [1.0, 2.0, 3.0], "kind": ["a", "b", "a"]})
    table.to_csv(tmp_path / "flowers.csv", index=False)
    d = dd.read_csv(str(tmp_path / "flowers.csv"))
    d["length"] = d["length"] / 2
    got = convert_dask_collection(d).execute().fetch()
    assert got["length"].tolist() == [0.5, 1.0, 1.5] and got["kind"].tolist() == ["a", "b", "a"]


def test_arrays_are_converted():
    x = da.random.RandomState(0).random_sample((1000, 1000), chunks=(250, 250))
    z = (x + x.T)[::2, 500:].mean(axis=1)
    expected = z.compute(scheduler="sync")
    assert np.array_equal(z.compute(scheduler=mars_scheduler), expected)
    assert np.array_equal(convert_dask_collection(z).execute().fetch(), expected)


def test_bags_become_lists():
    people = [{"age": 20 + i % 30, "work": f"w{i % 7}"} for i in range(300)]
    counts = (
        db.from_sequence(people, npartitions=5).filter(lambda p: p["age"] > 30).map(lambda p: p["work"])
        .frequencies(sort=True).topk(3, key=1)
    )
    expected = counts.compute(scheduler="sync")
    assert counts.compute(scheduler=mars_scheduler) == expected
    assert convert_dask_collection(counts).execute().fetch() == expected


def test_what_is_no_collection_is_refused():
    with pytest.raises(TypeError, match="expected a Dask collection.*dict"):
        convert_dask_collection({"foo": 0})


# ------------------------------------------------------------ spawn


def test_a_converted_object_is_an_argument_of_spawn():
    converted = convert_dask_collection(dask.delayed(inc)(1))
    task = mr.spawn(inc, args=(converted,))
    assert re.fullmatch(r"Object <op=RemoteFunction, key=[0-9a-f]{32}>", repr(task))
    assert task.execute().fetch() == 3


def test_converted_frames_travel_from_task_to_task():
    filtered, expected = frame()
    counted = mr.spawn(lambda table, scale: len(table) * scale, args=(convert_dask_collection(filtered), 10))
    assert counted.execute().fetch() == len(expected) * 10


def test_values_between_tasks_do_not_come_to_the_driver():
    here = os.getpid()

    class Told:
        """Says in which process it was unpickled."""

        def __init__(self):
            self.seen = []

        def __setstate__(self, state):
            self.seen = state["seen"] + [os.getpid()]

        def __getstate__(self):
            return {"seen": self.seen}

    made = mr.spawn(Told)
    last = mr.spawn(lambda told: told.seen, args=(mr.spawn(lambda told: told, args=(made,)),))
    seen = last.execute().fetch()
    assert seen and here not in seen


def test_objects_are_found_anywhere_in_the_arguments():
    one = mr.spawn(inc, args=(0,))
    two = convert_dask_collection(dask.delayed(inc)(1))
    Pair = collections.namedtuple("Pair", "left right")

    def total(items, pair, more, *, by_name):
        assert isinstance(items, list) and isinstance(more, tuple)
        return items[0] + items[1]["x"] + pair.left + pair.right + more[0] + by_name["deep"][0]

    task = mr.spawn(
        total, args=([one, {"x": two}], Pair(one, 10), (two,)), kwargs={"by_name": {"deep": [two]}}
    )
    assert task.execute().fetch() == 1 + 2 + 1 + 10 + 2 + 2


def test_an_object_that_many_need_is_made_once(tmp_path):
    def mark(folder):
        open(os.path.join(folder, f"{os.getpid()}-{os.urandom(4).hex()}"), "w").close()
        return 1

    shared = mr.spawn(mark, args=(str(tmp_path),))
    total = mr.spawn(sum, args=([mr.spawn(inc, args=(shared,)) for _ in range(10)],))
    assert total.execute().fetch() == 20
    assert shared.execute().fetch() == 1 and len(list(tmp_path.iterdir())) == 1


def test_nothing_runs_before_execute(tmp_path):
    file = tmp_path / "ran"
    task = mr.spawn(lambda path: open(path, "w").close(), args=(str(file),))
    with pytest.raises(ValueError, match="must be executed first before fetch"):
        task.fetch()
    assert not file.exists()
    task.execute()
    assert file.exists()


def test_one_argument_needs_no_tuple():
    assert mr.spawn(inc, args=1).execute().fetch() == 2
    assert mr.spawn(sum, args=[1, 2, 3]).execute().fetch() == 6
    assert mr.spawn(inc, args=mr.spawn(inc, 1)).execute().fetch() == 3


def test_several_outputs():
    low, high = task = mr.spawn(lambda a, b: (min(a, b), max(a, b)), args=(7, 3), n_output=2)
    assert isinstance(task, mr.ExecutableTuple)
    assert mr.spawn(lambda a, b: a - b, args=(high, low)).execute().fetch() == 4
    assert task.execute() is task and task.fetch() == [3, 7]
    assert mr.spawn(lambda: [5], n_output=1).to_object() == [5]
    assert mr.ExecutableTuple([low, high]).to_object() == [3, 7]
    assert mr.ExecutableTuple().to_object() == []


def test_the_wrong_number_of_outputs_is_told():
    with pytest.raises(ValueError, match="n_output=2.*returned 3 items"):
        mr.spawn(lambda: (1, 2, 3), n_output=2).execute()
    with pytest.raises(TypeError, match="n_output=2.*int"):
        mr.spawn(lambda: 5, n_output=2).execute()


def test_a_functions_error_is_raised_by_execute_and_by_what_needs_it():
    def fail():
        raise LookupError("no such thing")

    broken = mr.spawn(fail)
    with pytest.raises(LookupError, match="no such thing"):
        mr.spawn(inc, args=(broken,)).execute()
    with pytest.raises(LookupError, match="no such thing"):
        broken.execute()
    with pytest.raises(LookupError, match="no such thing"):
        broken.fetch()


def test_a_function_that_fails_is_tried_again_only_if_that_was_asked(tmp_path):
    def fail_once(path):
        if not os.path.exists(path):
            open(path, "w").close()
            raise OSError("the first time")
        return "done"

    with pytest.raises(OSError, match="the first time"):
        mr.spawn(fail_once, args=(str(tmp_path / "a"),)).execute()
    assert mr.spawn(fail_once, args=(str(tmp_path / "b"),), retry_when_fail=True).execute().fetch() == "done"


def test_execution_need_not_be_waited_for(tmp_path):
    def wait_for(path):
        import time

        while not os.path.exists(path):
            time.sleep(0.01)
        return 7

    task = mr.spawn(wait_for, args=(str(tmp_path / "go"),))
    execution = task.execute(wait=False)
    assert not execution.done()
    (tmp_path / "go").touch()
    execution.result(timeout=60)
    assert execution.done() and task.fetch() == 7

    async def awaited():
        other = mr.spawn(inc, args=(task,))
        await other.execute(wait=False)
        return other.fetch()

    assert asyncio.run(awaited()) == 8


def test_spawn_inside_a_spawned_function():
    def outer(n):
        return sum(mr.ExecutableTuple([mr.spawn(inc, args=(i,)) for i in range(n)]).to_object())

    assert mr.spawn(outer, args=(4,)).execute().fetch() == 10


def test_a_long_chain_is_no_deep_recursion():
    task = mr.spawn(inc, args=(0,))
    for _ in range(2000):
        task = mr.spawn(inc, args=(task,))
    assert task.execute().fetch() == 2001


def test_several_objects_by_mars_execute_and_fetch():
    a, b = mr.spawn(inc, args=(1,)), convert_dask_collection(dask.delayed(inc)(2))
    assert mars.execute(a, b) == (a, b) and mars.fetch(a, b) == [2, 3]
    assert mars.execute(a) is a and mars.fetch(a) == 2
    session = mars.new_session()
    assert session.fetch(session.execute(mr.spawn(inc, args=(5,)))) == 6


def test_several_threads_execute_the_same_object(tmp_path):
    def mark(folder):
        open(os.path.join(folder, os.urandom(4).hex()), "w").close()
        return 1

    task, seen = mr.spawn(mark, args=(str(tmp_path),)), []
    threads = [threading.Thread(target=lambda: seen.append(task.execute().fetch())) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 5 and len(list(tmp_path.iterdir())) == 1


def test_what_nobody_holds_is_let_go():
    first = mr.spawn(lambda: np.ones(1_000_000))
    second = mr.spawn(np.sum, args=(first,)).execute()
    held = [weakref.ref(first), weakref.ref(first._source.refs[0])]
    del first
    gc.collect()
    assert [one() for one in held] == [None, None] and second.fetch() == 1_000_000


@pytest.mark.parametrize(
    "wrong, error, says",
    [
        (lambda: mr.spawn(5), TypeError, "expected a function"),
        (lambda: mr.spawn(inc, kwargs=[1]), TypeError, "expected a dict for kwargs"),
        (lambda: mr.spawn(inc, n_output=0), ValueError, "n_output"),
        (lambda: mr.spawn(inc, (1,), colour="red"), ValueError, "Unexpected kw: 'colour'"),
        (lambda: mars.new_session("http://127.0.0.1:7103"), ValueError, "Mars web server"),
        (lambda: mars.new_session("auto"), RuntimeError, "connected already"),
        (lambda: mars.new_session(colour="red"), TypeError, "unexpected argument 'colour'"),
        (lambda: mars.new_session(backend="ray"), ValueError, "backend"),
        (lambda: mars.execute(5), TypeError, "expected objects of spawn"),
        (lambda: mr.spawn(inc).value, AttributeError, "only execute"),
    ],
)
def test_wrong_arguments_are_refused_here_and_at_once(wrong, error, says):
    with pytest.raises(error, match=says):
        wrong()


@pytest.mark.parametrize(
    "code, error",
    [
        ("import mars\nmars.tensor", AttributeError),
        ("import mars.tensor as mt", ImportError),
        ("from mars import dataframe", ImportError),
        ("from mars.remote import run_script", ImportError),
        ("import mars.remote\nmars.remote.run_script", AttributeError),
        ("from mars.contrib import ray", ImportError),
        ("from mars.contrib.dask import mars_dask_get", ImportError),
        ("import mars.learn.cluster", ImportError),
    ],
)
def test_what_is_not_there_says_what_is(code, error):
    with pytest.raises(error, match=r"(?s)not part of Raylet's `mars`.*mars\.remote\.spawn.*mars_scheduler"):
        exec(code, {})
    assert not hasattr(mars, "tensor")


# ------------------------------------------------------------ sessions, as a script has them


def run_script(text, tmp_path):
    file = tmp_path / "script.py"
    file.write_text(text)
    paths = [CLIENT, os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, timeout=100, cwd=tmp_path,
        env={**os.environ, "RAY_ADDRESS": "local", "PYTHONPATH": os.pathsep.join(p for p in paths if p)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_script_that_calls_no_new_session_gets_a_node(tmp_path):
    assert run_script(
        "import dask\n"
        "from mars.contrib.dask import mars_scheduler\n"
        "def inc(x):\n"
        "    return x + 1\n"
        "print(dask.delayed(inc)(1).compute(scheduler=mars_scheduler))\n",
        tmp_path,
    ) == ["2"]


def test_a_session_begins_and_ends(tmp_path):
    assert run_script(
        "import mars, ray\n"
        "import mars.remote as mr\n"
        "session = mars.new_session(n_cpu=1, n_worker=1, web=False)\n"
        "print(mr.spawn(lambda: 5).execute().fetch(), ray.cluster_resources()['CPU'])\n"
        "mars.stop_server()\n"
        "print(ray.is_initialized())\n"
        "mars.stop_server()\n"
        "with mars.new_session():\n"
        "    print(mr.spawn(lambda: 6).execute().fetch())\n"
        "print(ray.is_initialized())\n",
        tmp_path,
    ) == ["5 1.0", "False", "6", "False"]
