"""What tasks are given by annotations and ray_remote_args, and how Dask is configured."""

from __future__ import annotations

import operator
import warnings

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import pandas as pd
import pytest

import ray.util.dask._annotations as annotations
import ray.util.dask._scheduler as scheduler
from graph_fake import FakeSession
from ray.util.dask import (
    RayDaskCallback, dataframe_optimize, disable_dask_on_ray, enable_dask_on_ray, ray_dask_get, ray_dask_get_sync,
    ray_dask_persist,
)

has_expressions = hasattr(dask.base, "collections_to_expr")


@pytest.fixture(autouse=True)
def graphs(monkeypatch):
    fake = FakeSession()
    monkeypatch.setattr(scheduler, "current_session", lambda: fake)
    return fake


def cpus_by_name(fake):
    """How many CPUs each task of everything that was sent wants, by its name; None: said nothing."""
    found = {}
    for chunk in fake.chunks:
        numbers = chunk.option_numbers or [0] * chunk.task_count
        for position, number in enumerate(numbers):
            amounts = {r.name: r.amount for r in chunk.options[number - 1].resources} if number else {}
            found[chunk.names[chunk.name_numbers[position]]] = amounts.get("CPU")
    return found


def options_of(fake):
    (chunk,) = fake.chunks
    return [chunk.options[number - 1] if number else None for number in chunk.option_numbers]


# ------------------------------------------------------------ annotations


def test_annotations_of_arrays_survive_dasks_optimization(graphs):
    with enable_dask_on_ray():
        with dask.annotate(ray_remote_args={"num_cpus": 2}):
            x = da.ones((4, 4), chunks=2) + 1
        assert (x.sum(axis=0) * 2).sum().compute() == 64
    cpus = cpus_by_name(graphs)
    annotated = {name for name, amount in cpus.items() if amount == 2}
    assert len(annotated) == 4 and all("add" in name for name in annotated)
    assert {amount for name, amount in cpus.items() if name not in annotated} == {None}


def test_annotations_of_bags_survive_dasks_optimization(graphs):
    with enable_dask_on_ray():
        with dask.annotate(ray_remote_args={"num_cpus": 2}):
            b = db.from_sequence(range(4), npartitions=2).map(operator.neg)
        assert b.map(abs).sum().compute() == 6
    assert sorted(map(str, cpus_by_name(graphs).values())).count("2.0") == 2


@pytest.mark.parametrize("make", [
    lambda: da.ones(4, chunks=2).sum(),
    lambda: db.from_sequence([1, 2], npartitions=2).sum(),
    lambda: dask.delayed(sum)([dask.delayed(abs)(1), 1]),
    lambda: dd.from_pandas(pd.DataFrame({"a": range(4)}), npartitions=2).a.sum(),
])
def test_annotations_around_compute_and_its_arguments_reach_every_task(graphs, make):
    collection = make()
    with dask.annotate(ray_remote_args={"num_cpus": 3}):
        collection.compute(scheduler=ray_dask_get, ray_remote_args={"num_cpus": 2, "max_retries": 7})
    options = options_of(graphs)
    assert options and all(
        one.retries_max == 7 and [(r.name, r.amount) for r in one.resources] == [("CPU", 3)] for one in options
    )


def test_what_is_said_of_a_layer_wins_over_the_rest(graphs):
    with dask.annotate(ray_remote_args={"num_cpus": 4}, priority=5):
        a = dask.delayed(abs, name="a")(-1, dask_key_name="own")
    b = dask.delayed(abs)(a, dask_key_name="other")
    with dask.annotate(ray_remote_args={"num_cpus": 3}, priority=1):
        b.compute(scheduler=ray_dask_get, ray_remote_args={"num_cpus": 2})
    assert cpus_by_name(graphs) == {"own": 4, "other": 3}
    assert [one.priority for one in options_of(graphs)] == [5, 1]


def test_an_annotation_may_be_a_function_of_the_key(graphs):
    with dask.annotate(ray_remote_args=lambda key: {"num_cpus": 1 + key[1]}):
        x = da.ones(4, chunks=2)
    x.compute(scheduler=ray_dask_get, optimize_graph=False)
    found = {name: amount for name, amount in cpus_by_name(graphs).items() if name.startswith("('ones")}
    assert sorted(found.values()) == [1, 2]


def test_what_was_fused_of_several_gets_the_most_that_one_of_them_asks_for(graphs):
    if not has_expressions:
        pytest.skip("before expressions, what has different annotations is not fused")
    with dask.annotate(ray_remote_args={"num_cpus": 4}, retries=1):
        a = db.from_sequence(range(4), npartitions=2)
    with dask.annotate(ray_remote_args={"num_cpus": 2, "memory": 100}, retries=3):
        b = a.map(operator.neg)
    b.compute(scheduler=ray_dask_get)
    fused = [one for one in options_of(graphs) if one is not None]
    assert len(fused) == 2
    for one in fused:
        assert {r.name: r.amount for r in one.resources} == {"CPU": 4, "memory": 100}
        assert one.retries_max == 3


def test_dasks_own_words_are_understood_inside_ray_remote_args(graphs):
    ray_dask_get(
        {"a": (abs, -1)}, "a", ray_remote_args={"retries": 2, "priority": 3, "resources": {"disk": 1}}
    )
    (options,) = options_of(graphs)
    assert options.retries_max == 2 and options.retry_on_exception and options.priority == 3
    assert {r.name: r.amount for r in options.resources} == {"CPU": 1, "disk": 1}


def test_what_has_no_meaning_is_warned_of_once(graphs):
    annotations._warned.clear()
    with pytest.warns(UserWarning, match="workers.*changes nothing"):
        ray_dask_get({"a": (abs, -1)}, "a", ray_remote_args={"workers": ["w1"], "num_cpus": 2})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with dask.annotate(workers=["w1"]):
            ray_dask_get({"a": (abs, -1)}, "a")


@pytest.mark.parametrize("get", [ray_dask_get, ray_dask_get_sync])
def test_resources_are_refused_wherever_they_stand(get):
    with pytest.raises(ValueError, match='ray_remote_args={"num_cpus"'):
        get({"a": (abs, 1)}, "a", resources={"GPU": 1})
    with dask.annotate(resources={"GPU": 1}):
        d = dask.delayed(abs)(1)
        with pytest.raises(ValueError, match="ray_remote_args"):
            dask.delayed(abs)(2).compute(scheduler=get)
    with pytest.raises(ValueError, match="ray_remote_args"):
        d.compute(scheduler=get)


def test_wrong_remote_args_are_refused_by_name():
    with pytest.raises(ValueError, match="num_returns"):
        ray_dask_get({"a": (abs, 1)}, "a", ray_remote_args={"num_returns": 2})
    with pytest.raises(TypeError, match="must be a dict"):
        ray_dask_get({"a": (abs, 1)}, "a", ray_remote_args=[1])
    with pytest.raises(ValueError, match="nonsense"):
        ray_dask_get({"a": (abs, 1)}, "a", ray_remote_args={"nonsense": 1})


# ------------------------------------------------------------ configuration


def test_the_scheduler_may_be_configured_by_value_and_by_name():
    total = da.ones(4, chunks=2).sum()
    for chosen in (ray_dask_get, "ray", "raylet", "Ray", ray_dask_get_sync):
        with dask.config.set(scheduler=chosen):
            assert total.compute() == 4
    assert total.compute(scheduler="ray") == 4


@pytest.mark.parametrize("arguments", [
    {}, {"shuffle": "tasks"}, {"shuffle": "disk"}, {"shuffle": None}, {"use_shuffle_optimization": False},
    {"shuffle": "tasks", "use_shuffle_optimization": True},
])
def test_enabling_is_undone_at_the_end_of_its_context(arguments):
    before = dask.config.get("scheduler", None)
    with enable_dask_on_ray(**arguments):
        assert dask.config.get("scheduler") is ray_dask_get
        with disable_dask_on_ray():
            assert dask.config.get("scheduler") is None
        assert dask.config.get("scheduler") is ray_dask_get
    assert dask.config.get("scheduler", None) is before


def test_the_chosen_shuffle_method_is_dasks_own():
    if has_expressions:
        from dask.utils import get_default_shuffle_method
    else:
        def get_default_shuffle_method():
            return dask.config.get("dataframe.shuffle.algorithm", None) or dask.config.get("shuffle")
    with enable_dask_on_ray(shuffle="disk"):
        assert get_default_shuffle_method() == "disk"
    with enable_dask_on_ray():
        assert get_default_shuffle_method() == "tasks"


def test_dataframe_optimize_is_accepted_and_changes_no_result():
    frame = pd.DataFrame({"a": [3, 1, 2, 5] * 5, "b": range(20)})
    with enable_dask_on_ray(), dask.config.set(dataframe_optimize=dataframe_optimize):
        got = dd.from_pandas(frame, npartitions=4).set_index("a").b.sum().compute()
        assert got == frame.b.sum()
    graph = {"x": (abs, 1)}
    assert dict(dataframe_optimize(graph, ["x"]))["x"] == (abs, 1)


def test_a_distributed_client_is_refused_with_what_to_do():
    distributed = pytest.importorskip("distributed")
    with distributed.Client(processes=False, dashboard_address=None, n_workers=1) as client:
        with pytest.raises(RuntimeError, match="is active"):
            enable_dask_on_ray()
        with pytest.raises(TypeError, match="call enable_dask_on_ray\\(\\) without it"):
            enable_dask_on_ray(client)
        future = client.submit(abs, -1)
        for graph in ({"a": (operator.add, future, 1)}, {"a": future}, {"a": (sum, [future, 1])}):
            with pytest.raises(RuntimeError, match=r"Future.*\.result\(\)"):
                ray_dask_get(graph, "a")
        with pytest.raises(RuntimeError, match="Future"):
            dask.delayed(abs)(future).compute(scheduler=ray_dask_get)
        # Work that means the same without the client is done.
        assert dask.delayed(abs)(-2).compute(scheduler=ray_dask_get) == 2
        assert frame_of_twenty().set_index("a").b.sum().compute(scheduler=ray_dask_get) == sum(range(20))
    with enable_dask_on_ray():
        assert dask.delayed(abs)(-2).compute() == 2


def frame_of_twenty():
    return dd.from_pandas(pd.DataFrame({"a": [3, 1, 2, 5] * 5, "b": range(20)}), npartitions=4)


def shuffled_by_workers(**named):
    name = "shuffle_method" if has_expressions else "shuffle"
    return frame_of_twenty().shuffle("a", **{name: "p2p"}, **named)


@pytest.mark.parametrize("get", [ray_dask_get, ray_dask_get_sync])
@pytest.mark.parametrize("make", [
    lambda: shuffled_by_workers(),
    lambda: shuffled_by_workers(npartitions=2).b.sum(),
    lambda: dask.delayed(len)(shuffled_by_workers().to_delayed()[0]),
])
def test_a_shuffle_by_the_workers_of_a_distributed_client_is_refused_with_what_to_do(get, make, graphs):
    pytest.importorskip("distributed")
    for hooks in ([], [RayDaskCallback(ray_pretask=lambda key, values: None)]):
        with pytest.raises(RuntimeError, match=r"p2p.*dataframe\.shuffle\.method.*tasks"):
            make().compute(scheduler=get, ray_callbacks=hooks)
    assert not graphs.chunks, "nothing was sent"


@pytest.mark.skipif(not has_expressions, reason="later Dasks only")
def test_a_join_and_a_rechunk_by_the_workers_of_a_client_are_refused_too(graphs):
    pytest.importorskip("distributed")
    with dask.config.set({"dataframe.shuffle.method": "p2p"}):
        joined = frame_of_twenty().merge(frame_of_twenty(), on="a", shuffle_method="p2p")
        with pytest.raises(RuntimeError, match="p2p"):
            joined.compute(scheduler=ray_dask_get)
    x = da.ones((8, 8), chunks=(1, 8)).rechunk((8, 1), method="p2p")
    with pytest.raises(RuntimeError, match=r"p2p.*array\.rechunk\.method"):
        x.compute(scheduler=ray_dask_get)
    assert not graphs.chunks


# ------------------------------------------------------------ persist


def test_several_collections_persist_at_once_and_feed_the_next(graphs):
    x = da.arange(8, chunks=4)
    with enable_dask_on_ray():
        a, b, c = dask.persist(x + 1, db.from_sequence([1, 2], npartitions=2), dask.delayed(abs)(-3))
        a2, b2 = ray_dask_persist(a, b)
        before = graphs.task_count()
        assert (a2 * 2).sum().compute() == 72 and b2.sum().compute() == 3 and (c + 1).compute() == 4
        assert graphs.task_count() > before
        chunks = [chunk for chunk in graphs.chunks if chunk.externals]
        assert chunks, "what was persisted is a dependency of what follows"


def test_persisted_work_is_not_done_again(graphs, tmp_path):
    log = tmp_path / "log"

    def note(value):
        with open(log, "a") as file:
            file.write("x")
        return value

    with enable_dask_on_ray():
        d = dask.delayed(note)(1).persist()
        assert dask.compute(d, d + 1, dask.delayed(sum)([d, d])) == (1, 2, 2)
        (optimized,) = dask.optimize(d + 2)
        assert optimized.compute() == 3
    assert log.read_text() == "x"


# ------------------------------------------------------------ delayed work of many tasks


@pytest.mark.skipif(not has_expressions, reason="older Dasks are left as they are")
def test_a_large_delayed_graph_is_culled_in_one_pass_and_keeps_its_annotations(graphs, monkeypatch):
    from dask.delayed import Delayed
    from dask.highlevelgraph import HighLevelGraph

    def refuse(*arguments, **named):
        raise AssertionError("goes over all keys for each layer")

    with dask.annotate(ray_remote_args={"num_cpus": 2}):
        parts = [dask.delayed(abs, pure=False)(-i, dask_key_name=f"part-{i}") for i in range(600)]
    kept = dask.delayed(sum)(parts[:500], dask_key_name="total")
    graph = HighLevelGraph.merge(kept.dask, *[part.dask for part in parts])
    both = Delayed("total", graph, layer="total")
    monkeypatch.setattr(HighLevelGraph, "cull", refuse)
    with enable_dask_on_ray():
        assert both.compute() == sum(range(500))
    assert graphs.task_count() == 501
    assert sorted(cpus_by_name(graphs).values(), key=str) == [2.0] * 500 + [None]
    with enable_dask_on_ray(), disable_dask_on_ray():
        assert both.compute(scheduler="sync") == sum(range(500))
