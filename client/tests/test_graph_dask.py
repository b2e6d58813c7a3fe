"""ray_dask_get on every form of graph, against a stand-in for the raylet."""

from __future__ import annotations

import collections
import functools
import gc
import operator
import weakref

import dask
import dask.array as da
import numpy as np
import pytest
from dask.highlevelgraph import HighLevelGraph

import ray
import ray.util.dask._scheduler as scheduler
from graph_fake import FakeSession
from ray._calls import Program, slot
from ray._graph import UnpicklableTaskError
from ray.util.dask import ray_dask_get, ray_dask_get_sync
from ray.util.dask._local import LocalRun
from ray.util.dask._nodes import HAS_NODES
from ray.util.dask._walk import CycleError

try:
    from dask.utils_test import GetFunctionTestMixin, add, inc
except ImportError:
    from dask.utils_test import add, inc

    class GetFunctionTestMixin:
        pass


needs_nodes = pytest.mark.skipif(not HAS_NODES, reason="this Dask has no dask._task_spec")


@pytest.fixture(autouse=True)
def graphs(monkeypatch):
    fake = FakeSession()
    monkeypatch.setattr(scheduler, "current_session", lambda: fake)
    return fake


class TestDasksOwn(GetFunctionTestMixin):
    get = staticmethod(ray_dask_get)


class TestDasksOwnInSync(GetFunctionTestMixin):
    get = staticmethod(ray_dask_get_sync)


both = pytest.mark.parametrize("get", [ray_dask_get, ray_dask_get_sync])


@both
def test_the_example_of_the_readme(get):
    assert get({"x": 1, "y": (inc, "x"), "z": (add, "y", 10)}, "z") == 12


@both
def test_lists_of_keys_come_back_as_tuples_of_the_same_shape(get):
    graph = {"x": 1, "y": (inc, "x"), ("z", 0): (add, "y", "x")}
    assert get(graph, [["x", [("z", 0)]], "y", []]) == ((1, (3,)), 2, ())
    assert get(graph, ["y", "y", "y"]) == (2, 2, 2)


@both
def test_keys_may_be_anything_that_has_a_hash(get):
    graph = {1: 5, 2.5: (inc, 1), ("a", (1, 2)): (add, 2.5, 1), frozenset([3]): (inc, ("a", (1, 2)))}
    assert get(graph, [2.5, ("a", (1, 2)), frozenset([3])]) == (6, 11, 12)


@both
def test_values_that_equal_keys_are_references_also_in_lists_but_not_in_dicts(get):
    graph = {
        "a": 1, "b": "a", "c": [("b"), ["a", (inc, "a")]], "d": (list, ["a", "b", "none"]),
        "e": (dict, {"a": 1, "k": "a"}), "f": (operator.itemgetter(0), ["c"]),
    }
    assert get(graph, ["b", "c", "d", "e", "f"]) == (
        1, [1, [1, 2]], [1, 1, "none"], {"a": 1, "k": "a"}, [1, [1, 2]],
    )


def test_aliases_and_literals_are_no_tasks(graphs):
    graph = {"a": 1, "b": "a", "c": "b", "d": (inc, "c"), "e": "d", "f": "e", "g": [1, 2, 3]}
    assert ray_dask_get(graph, ["f", "c", "g", "d"]) == (2, 1, [1, 2, 3], 2)
    assert graphs.task_count() == 1


def test_what_is_not_needed_is_not_run(graphs):
    def fail():
        raise AssertionError("nobody needs this")

    assert ray_dask_get({"a": (fail,), "b": (inc, 1), "c": (inc, "b")}, "b") == 2
    assert graphs.ran == ["b"]


@both
def test_a_missing_key_is_a_key_error(get):
    with pytest.raises(KeyError):
        get({"a": 1}, "b")
    with pytest.raises(KeyError):
        get({"a": 1}, [["b"], "a"])


@both
def test_a_cycle_is_an_error_that_shows_it(get):
    with pytest.raises(CycleError, match="'a' needs 'c' needs 'b' needs 'a'|'b' needs 'a' needs 'c' needs 'b'"
                       "|'c' needs 'b' needs 'a' needs 'c'"):
        get({"a": (inc, "c"), "b": (inc, "a"), "c": (add, "b", 1), "d": (inc, "a")}, "d")
    with pytest.raises(CycleError):
        get({"a": (inc, "a")}, "a")


@both
def test_a_long_chain_does_not_recurse(get):
    graph = {("c", 0): 0}
    graph.update({("c", i + 1): (inc, ("c", i)) for i in range(30_000)})
    assert get(graph, ("c", 30_000)) == 30_000


@both
def test_a_diamond_runs_each_task_once(get):
    calls = []

    def note(*args):
        calls.append(args)
        return sum(args) + 1

    graph = {"a": (note,), "b": (note, "a"), "c": (note, "a"), "d": (note, "b", "c", "a")}
    assert get(graph, ["d"]) == (6,)


def test_many_inputs_of_one_task(graphs):
    graph = {f"x{i}": (inc, i) for i in range(10_000)}
    graph["sum"] = (sum, list(graph))
    graph["max"] = (max, *[f"x{i}" for i in range(10_000)])
    assert ray_dask_get(graph, ["sum", "max"]) == (sum(range(1, 10_001)), 10_000)
    assert all(len(blob) < 100_000 for chunk in graphs.chunks for blob in chunk.group_blobs)


@both
def test_unhashable_arguments_are_values(get):
    def size(*args):
        return [len(a) for a in args]

    graph = {"x": 1, "y": (size, {1}, {"x": 2}, np.ones(3), [np.ones(2), "x"])}
    assert get(graph, "y") == [1, 1, 3, 2]


@both
def test_nested_tasks_are_part_of_their_task(get, graphs):
    graph = {"x": 1, "y": (inc, "x"), "z": (add, (inc, (add, "y", (inc, "x"))), (sum, ["y", (inc, "y")]))}
    assert get(graph, "z") == 10
    if get is ray_dask_get:
        assert graphs.task_count() == 2


@both
def test_functions_of_every_kind(get):
    class Adder:
        def __init__(self, n):
            self.n = n

        def __call__(self, x):
            return x + self.n

    three = 3
    graph = {
        "a": (lambda x: x + three, 1), "b": (functools.partial(add, 10), "a"), "c": (Adder(5), "b"),
        "d": (operator.methodcaller("__add__", 1), "c"), "e": (np.add, "d", 1), "f": (str, "e"),
        "g": ("-".join, ["f", "f"]),
    }
    assert get(graph, "g") == "21-21"


def test_a_closure_is_pickled_anew_for_each_graph():
    box = [1]
    fetch = lambda: box[0]  # noqa: E731
    assert ray_dask_get({"a": (fetch,)}, "a") == 1
    box[0] = 2
    assert ray_dask_get({"a": (fetch,)}, "a") == 2


def test_functions_are_sent_once(graphs):
    for _ in range(3):
        ray_dask_get({f"a{i}": (inc, i) for i in range(100)}, ["a1", "a99"])
    assert sum(len(chunk.functions) for chunk in graphs.chunks) == 1


def test_groups_and_chunks_stay_small(graphs):
    count = 40_000
    graph = {("x", i): (inc, i) for i in range(count)}
    assert ray_dask_get(graph, [("x", 0), ("x", count - 1)]) == (1, count)
    ray_dask_get(graph, [list(graph)])
    assert len(graphs.chunks) > 3
    for chunk in graphs.chunks:
        assert chunk.task_count <= 16 << 10 and chunk.ByteSize() < 4 << 20
        assert all(size <= 64 for size in chunk.group_sizes)


def test_groups_of_large_arguments_have_fewer_tasks(graphs):
    graph = {f"x{i}": (len, bytes(20_000 + i)) for i in range(200)}
    assert ray_dask_get(graph, list(graph)) == tuple(range(20_000, 20_200))
    assert graphs.puts == 0
    assert all(len(blob) <= 64 << 10 for chunk in graphs.chunks for blob in chunk.group_blobs)


def test_large_constants_are_put_once(graphs):
    big = np.arange(100_000.0)
    graph = {"big": big}
    graph.update({f"x{i}": (operator.getitem, "big", i) for i in range(200)})
    graph.update({f"y{i}": (np.sum, [big, big]) for i in range(5)})
    graph["b"] = (len, b"x" * 1_000_000)
    keys = list(graph)[1:]
    values = ray_dask_get(graph, keys)
    assert values[:3] == (0.0, 1.0, 2.0) and values[-1] == 1_000_000
    assert values[200] == 2 * big.sum()
    assert graphs.puts <= 2 + 5
    assert all(chunk.ByteSize() < 100_000 for chunk in graphs.chunks)


def test_a_large_closure_is_put(graphs):
    big = np.arange(100_000.0)
    assert ray_dask_get({"a": (lambda i: big[i], 7), "b": (lambda *, i=3: big[i],)}, ["a", "b"]) == (7.0, 3.0)
    assert graphs.puts == 2
    assert ray_dask_get({"a": (inc, 1), "b": (lambda x: (x, big[1]), ["a", "a"])}, "b") == ([2, 2], 1.0)


@both
def test_the_tasks_own_exception_arrives(get):
    def fail(x):
        raise ZeroDivisionError(f"no {x}")

    with pytest.raises(ZeroDivisionError, match="no 2"):
        get({"a": (inc, 1), "the-key": (fail, "a"), "b": (inc, "the-key")}, "b")


def test_an_error_names_its_task():
    def fail():
        raise ValueError("broken")

    with pytest.raises(ray.exceptions.RayTaskError, match="broken") as caught:
        ray_dask_get({"the-key": (fail,), "b": (inc, "the-key")}, "b")
    assert caught.value.function_name == "the-key"
    assert isinstance(caught.value, ValueError) and "in fail" in caught.value.traceback_str


@pytest.mark.parametrize("place", ["argument", "list", "closure", "nested"])
def test_what_cannot_be_pickled_is_named_before_anything_is_sent(graphs, place):
    lazy = (number for number in ())
    task = {
        "argument": (inc, lazy), "list": (inc, [1, {"a": lazy}]), "closure": (lambda: lazy,),
        "nested": (inc, (add, 1, lazy)),
    }[place]
    graph = {f"x{i}": (inc, i) for i in range(30)}
    graph["bad-one"] = task
    graph["sum"] = (sum, list(graph))
    with pytest.raises(UnpicklableTaskError, match="bad-one.*generator"):
        ray_dask_get(graph, "sum")
    assert not graphs.chunks
    assert ray_dask_get({"a": (inc, 1)}, "a") == 2


@both
def test_references_are_dependencies_wherever_they_are(get, graphs):
    ref = graphs.put_constant(5)
    other = graphs.put_constant([1, 2])
    graph = {
        "a": ref, "b": (inc, ref), "c": (add, "a", "b"), "d": (sum, [ref, "a", 1]), "e": "a",
        "f": (dict, {"k": ref}), "g": [ref, (inc, ref)],
        "h": (functools.partial(lambda x, y: (x, y), y=2), (1, [ref, {"z": other}])),
    }
    assert get(graph, list("abcdefgh")) == (
        5, 6, 11, 11, 5, {"k": 5}, [5, 6], ((1, [5, {"z": [1, 2]}]), 2),
    )


def test_a_reference_inside_an_opaque_object_stays_one(graphs, monkeypatch):
    class Box:
        def __init__(self, content):
            self.content = content

    ref = graphs.put_constant(5)
    monkeypatch.setattr(ray._ref, "_current_references", lambda: graphs.references)
    assert ray_dask_get({"a": (lambda box: type(box.content).__name__, Box(ref))}, "a") == "ObjectRef"
    (chunk,) = graphs.chunks
    assert list(chunk.borrow_counts) == [1] and list(chunk.externals) == [ref.binary()] and not chunk.deps


def test_persist_gives_references(graphs):
    graph = {"a": 1, "b": (inc, "a"), "c": (inc, "b"), "d": "c"}
    a, c, d = ray_dask_get(graph, ["a", "c", "d"], ray_persist=True)
    assert a == 1 and isinstance(c, ray._ref.ObjectRef) and c == d
    assert ray_dask_get({"x": c, "y": (inc, "x")}, ["x", "y"]) == (3, 4)


def test_only_what_is_asked_for_is_held(graphs):
    ray_dask_get({"a": (inc, 1), "b": (inc, "a"), "c": (inc, "b")}, ["c", "a"])
    (chunk,) = graphs.chunks
    assert len(chunk.wanted) == 2 and not chunk.hold_all and chunk.fail_fast


# ------------------------------------------------------------ Dask's own forms


@both
def test_a_high_level_graph(get):
    graph = HighLevelGraph(
        {"a": {"x": 1, "y": (inc, "x")}, "b": {"z": (add, (inc, "x"), "y")}}, {"a": set(), "b": {"a"}}
    )
    assert get(graph, "z") == 4


@both
def test_collections(get):
    x = da.arange(1000, chunks=100)
    assert x.sum().compute(scheduler=get) == 499_500
    assert (x + x[::-1]).compute(scheduler=get).tolist() == [999] * 1000
    one = dask.delayed(inc)(1)
    total = dask.delayed(sum)([one, dask.delayed(add)(one, 2), {"a": 5}["a"]])
    assert total.compute(scheduler=get) == 11
    assert dask.compute(x.mean(), {"k": [total]}, scheduler=get) == (499.5, {"k": [11]})


@both
def test_reductions_rechunks_and_products_equal_dasks_own(get):
    x = da.random.RandomState(0).random_sample((100, 100), chunks=(25, 30))
    triangle = da.linalg.qr(x.rechunk((50, 100)))[1]
    for y in [(x + x.T - x.mean(0)).sum(), x.rechunk((50, 10)).std(axis=1), x @ x.T, triangle]:
        np.testing.assert_allclose(y.compute(scheduler=get), y.compute(scheduler="sync"))


@needs_nodes
@both
def test_nodes_of_every_kind(get):
    from dask._task_spec import Alias, DataNode, Dict, List, Set, Task, TaskRef, Tuple

    def show(*args, **kwargs):
        return args, kwargs

    graph = {
        "a": DataNode("a", 1),
        "b": Task("b", inc, TaskRef("a")),
        "c": Alias("c", "b"),
        "d": Task("d", show, TaskRef("b"), 7, k=TaskRef("c"), l=List(TaskRef("a"), 2)),
        "e": List(TaskRef("a"), Tuple(TaskRef("b"), 3), Set(TaskRef("a")), Dict({"x": TaskRef("b"), "y": 1})),
        "f": Task("f", show, Task(None, inc, TaskRef("b")), DataNode(None, [1]), "a"),
        "g": (add, "b", "c"),
        "h": Task("h", show, List()),
    }
    assert get(graph, list("abcdefgh")) == (
        1, 2, 2, ((2, 7), {"k": 2, "l": [1, 2]}), [1, (2, 3), {1}, {"x": 2, "y": 1}],
        ((3, [1], "a"), {}), 4, (([],), {}),
    )


@needs_nodes
@both
def test_fused_tasks_are_one_task_and_run_as_one(get, graphs):
    from dask._task_spec import Alias, DataNode, Task, TaskRef

    counter = collections.Counter()

    def note(*args):
        return sum(args) + 1

    a = Task("a", note, TaskRef("x"))
    b = Task("b", note, TaskRef("a"), TaskRef("y"))
    c = Task("c", note, TaskRef("a"), TaskRef("b"), TaskRef("b"))
    d = Task("d", note, TaskRef("c"), TaskRef("k"))
    fused = Task.fuse(a, b, c, d, DataNode("k", 100), key="fused")
    chain = Task.fuse(Task("p", note, TaskRef("fused")), Task("q", note, TaskRef("p")), key="chain")
    twice = Task.fuse(chain, Task("r", note, TaskRef("chain"), TaskRef("x")), key="twice")
    graph = {"x": 1, "y": (inc, "x"), "fused": fused, "chain": chain, "twice": twice}
    graph["alias"] = Alias("alias", "twice")
    expected = dask.get({key: value for key, value in graph.items()}, ["fused", "chain", "alias"])
    before = graphs.task_count()
    assert get(graph, ["fused", "chain", "alias"]) == expected
    if get is ray_dask_get:
        assert graphs.task_count() - before == 4
    assert not counter


@needs_nodes
def test_a_fused_step_that_is_used_twice_runs_once(tmp_path):
    from dask._task_spec import Task, TaskRef

    marks = tmp_path / "marks"

    def mark(x):
        with open(marks, "a") as file:
            file.write("x")
        return x

    fused = Task.fuse(
        Task("a", mark, 1), Task("b", add, TaskRef("a"), TaskRef("a")), Task("c", add, TaskRef("b"), TaskRef("a"))
    )
    assert ray_dask_get({"c": fused}, "c") == 3
    assert marks.read_text() == "x"


@needs_nodes
@both
def test_a_long_fused_chain_does_not_recurse(get):
    from dask._task_spec import Task, TaskRef

    tasks = [Task("t0", inc, 0)] + [Task(f"t{i}", inc, TaskRef(f"t{i - 1}")) for i in range(1, 2000)]
    assert get({"t": Task.fuse(*tasks, key="t")}, "t") == 2000


# ------------------------------------------------------------ options, callbacks


def test_resources_are_refused_with_what_to_do():
    with pytest.raises(ValueError, match="ray_remote_args"):
        ray_dask_get({"a": (inc, 1)}, "a", resources={"GPU": 1})


def test_remote_args_reach_every_task(graphs):
    ray_dask_get({"a": (inc, 1), "b": (inc, "a")}, "b", ray_remote_args={"num_cpus": 2, "max_retries": 5})
    (chunk,) = graphs.chunks
    assert list(chunk.option_numbers) == [1, 1]
    (options,) = chunk.options
    assert options.retries_max == 5 and options.resources[0].amount == 2
    with pytest.raises(ValueError, match="Invalid option"):
        ray_dask_get({"a": (inc, 1)}, "a", ray_remote_args={"nonsense": 2})


def test_annotations_reach_their_tasks(graphs):
    with dask.annotate(ray_remote_args={"num_cpus": 2}):
        a = dask.delayed(inc)(1)
    b = dask.delayed(inc)(a)
    assert b.compute(scheduler=ray_dask_get, optimize_graph=False, ray_remote_args={"num_gpus": 1}) == 3
    (chunk,) = graphs.chunks
    amounts = [
        {r.name: r.amount for r in chunk.options[number - 1].resources} for number in chunk.option_numbers
    ]
    assert amounts == [{"CPU": 2.0, "GPU": 1.0}, {"CPU": 1.0, "GPU": 1.0}]


def test_dasks_callbacks_see_every_task():
    from dask.callbacks import Callback

    seen = []

    class Note(Callback):
        def _start(self, dsk):
            seen.append(("start", len(dsk)))

        def _start_state(self, dsk, state):
            seen.append(("start_state", len(state["waiting"])))

        def _pretask(self, key, dsk, state):
            seen.append(("pre", key))

        def _posttask(self, key, result, dsk, state, worker_id):
            seen.append(("post", key, len(state["finished"])))

        def _finish(self, dsk, state, errored):
            seen.append(("finish", errored))

    with Note():
        assert ray_dask_get({"x": 1, "a": (inc, "x"), "b": (inc, "a")}, "b") == 3
    assert seen[:2] == [("start", 3), ("start_state", 1)] and seen[-1] == ("finish", False)
    assert seen[2:-1] == [("pre", "a"), ("post", "a", 1), ("pre", "b"), ("post", "b", 2)]

    def fail():
        raise ValueError

    del seen[:]
    with Note(), pytest.raises(ValueError):
        ray_dask_get({"a": (fail,)}, "a")
    assert seen[-1] == ("finish", True)


def test_a_progress_bar_gets_to_the_end(capsys):
    from dask.diagnostics import ProgressBar

    with ProgressBar(dt=0.01):
        ray_dask_get({f"a{i}": (inc, i) for i in range(50)}, ["a1", "a2"])
    assert "100%" in capsys.readouterr().out


def test_an_interrupt_cancels_the_graph_and_lets_go_of_its_results(graphs, monkeypatch):
    def interrupted(refs):
        raise KeyboardInterrupt

    monkeypatch.setattr(graphs, "get_values", interrupted)
    monkeypatch.setattr(graphs, "_run", lambda chunks: None)
    with pytest.raises(KeyboardInterrupt):
        ray_dask_get({"a": (inc, 1)}, "a")
    assert graphs.cancelled == [graphs.chunks[0].graph]
    assert len(graphs.references.dropped) == 1


@needs_nodes
@both
def test_references_are_found_in_a_fused_task_inside_another_ones_arguments(get, graphs):
    from dask._task_spec import DataNode, Task, TaskRef

    ref = graphs.put_constant(5)
    fused = Task.fuse(
        DataNode("d", ref), Task("e", inc, TaskRef("d")), Task("f", add, TaskRef("e"), TaskRef("d")),
        key="f",
    )
    twice = Task("g", add, fused, Task.fuse(Task("h", inc, 1), Task("i", inc, TaskRef("h")), key="i"))
    assert get({"g": twice, "j": Task("j", inc, TaskRef("g"))}, "j") == 6 + 5 + 3 + 1


def test_a_walk_is_gone_as_soon_as_nobody_needs_it(monkeypatch):
    """Its tables are as long as the graph; waiting for the garbage collector would keep several of them."""
    walks = []

    walk_of = scheduler._walk_of

    def watched(*args):
        walk = walk_of(*args)
        walks.append(weakref.ref(walk))
        return walk

    monkeypatch.setattr(scheduler, "_walk_of", watched)
    gc.disable()
    try:
        assert ray_dask_get({"x": (operator.add, 1, 2), "y": (operator.add, "x", 1)}, "y") == 4
        assert [walk() for walk in walks] == [None]
    finally:
        gc.enable()


def test_references_in_every_argument_of_a_program_are_fetched_in_this_process():
    fetched = LocalRun(lambda ref: 7)
    ref = ray.ObjectRef.nil()
    program = Program(((dict, ([("a", ref)],), {"b": [ref]}), (len, (slot(0),), None)), ((), ()), slot(0))
    fetched.add(fetched.function_number(dict), program, [])
    assert fetched.results == [{"a": 7, "b": [7]}]
