"""What Dask's threads would give: iterators, tasks that write to their inputs, futures."""

import dataclasses
import itertools
import operator
import time
import traceback
import warnings
from typing import NamedTuple

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest

import ray
from ray.util.dask import ray_dask_get

pytestmark = pytest.mark.usefixtures("local_cluster")


# ------------------------------------------------------------ iterators


def _squares(count):
    for number in range(count):
        yield number * number


@pytest.mark.parametrize(
    "made",
    [
        (_squares, 5),
        (map, operator.neg, range(5)),
        (filter, None, range(5)),
        (zip, range(5), range(5)),
        (itertools.chain, [1], [2, 3]),
        (enumerate, "abc"),
    ],
    ids=lambda made: made[0].__name__,
)
def test_a_task_delivers_all_items_of_an_iterator(made):
    expected = list(made[0](*made[1:]))
    assert list(ray_dask_get({"a": made}, "a")) == expected
    assert ray_dask_get({"a": made, "b": (list, "a")}, "b") == expected


def test_each_reader_of_an_iterator_gets_all_items():
    graph = {"a": (_squares, 4), "b": (sum, "a"), "c": (list, "a"), "d": (lambda b, c: (b, c), "b", "c")}
    assert ray_dask_get(graph, ["d", "b"]) == ((14, [0, 1, 4, 9]), 14)


def test_iterators_inside_of_a_result_are_delivered():
    result = ray_dask_get({"a": (lambda: {"x": [_squares(3), 7]},)}, "a")
    assert list(result["x"][0]) == [0, 1, 4]
    assert result["x"][1] == 7


def test_an_iterator_that_raises_fails_its_task_with_that_error():
    def broken():
        yield 1
        raise KeyError("broken here")

    for make in (broken, lambda: [broken()]):
        with pytest.raises(KeyError, match="broken here"):
            ray_dask_get({"a": (make,)}, "a")


# ------------------------------------------------------------ writing to inputs

LARGE, SMALL = 50_000, 3  # elements: in the store, and inline


def _made(size):
    return np.zeros(size)


def _written(array, value):
    array[0] = value
    return array[:2].copy()


def _first(array, *after):
    return float(array[0])


@pytest.mark.parametrize("size", [LARGE, SMALL])
def test_a_task_may_write_to_its_input_and_no_other_task_sees_it(size):
    graph = {("x", n): (_made, size) for n in range(3)}
    graph.update({("w", n, v): (_written, ("x", n), v) for n in range(3) for v in (1, 2)})
    graph.update({("r", n): (_first, ("x", n), ("w", n, 1), ("w", n, 2)) for n in range(3)})
    for _ in range(2):  # the second time the function is known to write
        written, read = ray_dask_get(
            graph, [[("w", n, v) for n in range(3) for v in (1, 2)], [("r", n) for n in range(3)]]
        )
        assert [list(w) for w in written] == [[1, 0], [2, 0]] * 3
        assert read == (0, 0, 0)


def test_an_object_is_written_to_by_nobody_else():
    def appended(items, value):
        items.append(value)
        return list(items)

    graph = {"x": (list, (range, 2)), "r": (list, "x")}
    graph.update({("w", v): (appended, "x", v) for v in range(5)})
    assert ray_dask_get(graph, [("w", v) for v in range(5)] + ["r"]) == (
        *[[0, 1, v] for v in range(5)], [0, 1],
    )


def test_a_task_runs_twice_at_most_and_its_function_is_remembered(tmp_path):
    def count(array, path):
        with open(path, "a") as file:
            file.write("x")
        array += 1
        return array.sum()

    (ref,) = [ray.put(np.zeros(LARGE))]
    for number in range(4):
        path = str(tmp_path / str(number))
        assert ray_dask_get({"a": (count, ref, path)}, "a") == LARGE
    runs = [len(open(str(tmp_path / str(number))).read()) for number in range(4)]
    assert runs[0] == 2 and sum(runs) <= 6  # once more in each of two workers
    assert ray.get(ref).sum() == 0


def test_what_stays_refused_is_raised():
    def refused(array):
        frozen = array.copy()
        frozen.flags.writeable = False
        frozen[0] = 1

    with pytest.raises(ValueError, match="read-only"):
        ray_dask_get({"x": (_made, LARGE), "a": (refused, "x")}, "a")


def test_pandas_objects_can_be_written_to():
    def changed(frame):
        frame["a"].to_numpy()
        frame.values[0, 0]
        values = frame["a"].values
        try:
            values.flags.writeable = True
        except ValueError:
            pass
        frame.iloc[0, 0] = 9.0
        frame["c"] = 1.0
        frame.sort_values("b", inplace=True, ascending=False)
        return frame["a"].iloc[-1] + frame["c"].sum()

    frame = pd.DataFrame({"a": np.zeros(20_000), "b": np.arange(20_000.0)})
    ref = ray.put(frame)
    graph = {"a": (changed, ref), "b": (changed, ref), "s": (lambda f, *_: float(f["a"].sum()), ref, "a", "b")}
    assert ray_dask_get(graph, ["a", "b", "s"]) == (20_009, 20_009, 0)


# ------------------------------------------------------------ references as futures


def test_a_persisted_reference_is_a_dask_future():

    x = (da.arange(10, chunks=5) + 1).persist(scheduler=ray_dask_get)
    ref = x.dask[(x.name, 0)]
    assert isinstance(ref, ray.ObjectRef)
    assert list(ref.result()) == [1, 2, 3, 4, 5]
    ref.result()[0] = 7  # a copy
    assert ref.done() and ref.exception() is None
    assert "ObjectRef" in ref.key
    assert ref.__dask_future__
    assert x.sum().compute(scheduler=ray_dask_get) == 55
    assert "array" in repr(x)


def test_a_future_that_failed_says_so():
    ref = ray.remote(lambda: 1 / 0).remote()
    with pytest.raises(ZeroDivisionError):
        ref.result()
    assert isinstance(ref.exception(), ZeroDivisionError)
    assert ref.done()


def test_an_object_lives_while_only_its_key_is_in_a_graph():
    key = ray.put(np.arange(LARGE)).key
    assert ray_dask_get({"a": key, "b": (len, "a")}, "b") in (LARGE, len(key))
    task_spec = pytest.importorskip("dask._task_spec")
    graph = {"a": task_spec.Task("a", len, task_spec.TaskRef(key))}
    assert ray_dask_get(graph, "a") == LARGE
    assert ray_dask_get({"a": task_spec.Alias("a", key)}, "a").sum() == LARGE * (LARGE - 1) // 2


# ------------------------------------------------------------ warnings


def _warned(number):
    warnings.warn("this is odd", RuntimeWarning)
    return number


def _both_workers(count=40):
    return {("w", n): (_warned, n) for n in range(count)}


@pytest.mark.parametrize("times", [1, 2])
def test_a_warning_of_many_tasks_reaches_the_driver_once(times):
    graph = _both_workers()
    for _ in range(times):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ray_dask_get(graph, list(graph))
        assert [(w.category, str(w.message)) for w in caught] == [(RuntimeWarning, "this is odd")]
        assert caught[0].filename.endswith("test_dask_exact.py")


def test_the_drivers_filters_hold():
    graph = _both_workers(2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        ray_dask_get(graph, list(graph))
    assert not caught
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="this is odd"):
            ray_dask_get(graph, list(graph))
    with pytest.warns(RuntimeWarning, match="odd"):
        ray_dask_get(graph, list(graph))


def test_what_a_persisted_task_warns_of_is_issued_by_the_next_computation():
    with pytest.warns(RuntimeWarning, match="this is odd"):
        (persisted,) = dask.persist(dask.delayed(_warned)(1), scheduler=ray_dask_get)
        assert persisted.compute(scheduler=ray_dask_get) == 1


def test_a_task_that_warns_and_fails_does_both():
    def fail():
        warnings.warn("about to fail")
        raise ValueError("failed")

    with pytest.warns(UserWarning, match="about to fail"):
        with pytest.raises(ValueError, match="failed"):
            ray_dask_get({"a": (fail,)}, "a")


def test_a_task_may_catch_its_own_warnings():
    def quiet():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.warn("for me")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.warn("for nobody")
        return len(caught)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ray_dask_get({"a": (quiet,)}, "a") == 1


def test_a_warning_outside_of_graphs_is_printed(capfd):
    @ray.remote
    def remote():
        warnings.warn("printed instead")

    ray.get(remote.remote())
    deadline = time.monotonic() + 20
    printed = ""
    while "printed instead" not in printed and time.monotonic() < deadline:
        printed += capfd.readouterr().err
        time.sleep(0.01)
    assert "UserWarning: printed instead" in printed and "raylet warning" not in printed


# ------------------------------------------------------------ tracebacks


def _divide():
    return 1 / 0


def _calls_divide():
    return _divide() + 1


def _frames_of(error):
    return [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]


def test_a_traceback_goes_on_in_the_worker_and_leaves_out_what_dask_and_we_do():
    with pytest.raises(ZeroDivisionError) as caught:
        dask.delayed(_calls_divide)().compute(scheduler=ray_dask_get)
    own = "test_a_traceback_goes_on_in_the_worker_and_leaves_out_what_dask_and_we_do"
    if hasattr(dask.utils, "shorten_traceback"):
        assert _frames_of(caught.value)[:2] == [own, "compute"]
        assert len(_frames_of(caught.value)) <= 5
    assert _frames_of(caught.value)[-2:] == ["_calls_divide", "_divide"]
    shown = "".join(traceback.format_tb(caught.value.__traceback__))
    assert "return 1 / 0" in shown and __file__ in shown


def test_a_traceback_is_whole_if_nothing_is_to_be_shortened():
    with dask.config.set({"admin.traceback.shorten": []}):
        with pytest.raises(ZeroDivisionError) as caught:
            dask.delayed(_calls_divide)().compute(scheduler=ray_dask_get)
    assert {"ray_dask_get", "_calls_divide", "_divide"} <= set(_frames_of(caught.value))


def test_a_fused_task_that_is_only_another_name_can_be_persisted():
    x = da.from_array(np.arange(24.0).reshape(2, 3, 4), chunks="auto")
    expected = np.pad(np.arange(24.0).reshape(2, 3, 4), 2, mode="maximum")
    persisted = da.pad(x, 2, mode="maximum").persist(scheduler=ray_dask_get)
    np.testing.assert_array_equal(persisted.compute(scheduler=ray_dask_get), expected)


# ------------------------------------------------------------ values of every shape


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Pair:
    left: object
    right: object


def test_containers_named_tuples_and_dataclasses_stay_what_they_are():
    identity = dask.delayed(lambda value: value)
    one = dask.delayed(int)(1)
    for value, expected in (
        ([one, 2], [1, 2]), ((one, 2), (1, 2)), ({"a": one}, {"a": 1}), ({one, 2}, {1, 2}),
        (Point(one, 2), Point(1, 2)), (Pair(one, [one]), Pair(1, [1])), ([], []), ((), ()), ({}, {}),
    ):
        found = identity(value).compute(scheduler=ray_dask_get)
        assert found == expected and type(found) is type(expected)
    for literal in (1, None, "text", b"bytes", 1.5, [1, (2,)], Point(1, 2), Pair(1, 2)):
        assert ray_dask_get({"a": literal, "b": (_same, "a")}, ["a", "b"]) == (literal, literal)


def _same(value):
    return value


def test_a_quoted_value_that_is_asked_for_is_the_callers_own():
    inner = dask.delayed(_same)(1)
    for value in ([inner, 1], (_same, inner), {"a": [inner]}):
        found = dask.delayed(value, traverse=False)
        result, length = dask.compute(found, dask.delayed(len)(found), scheduler=ray_dask_get)
        assert type(result) is type(value) and all(a is b for a, b in zip(result, value))
        assert length == len(value)


def test_an_unknown_key_is_a_key_error():
    graph = {"a": 1, "b": (_same, "a")}
    for keys in ("c", ["a", "c"], [["a"], ["c"]]):
        with pytest.raises(KeyError):
            ray_dask_get(graph, keys)
