"""Shuffles on every path, computed whole (head would skip most of it), compared with Dask's own threads.

Dask's temporary directory can't be written, so that a shuffle through files on the disk fails.
"""

from __future__ import annotations

import os
import tempfile

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

import ray.util.dask._scheduler as scheduler
from graph_fake import FakeSession
from ray.util.dask import _shuffle, enable_dask_on_ray, ray_dask_get
from ray.util.dask._nodes import HAS_NODES, TaskRef
from ray.util.dask._readers import Readers

ROWS = 3000
METHOD = "shuffle_method" if hasattr(dask.base, "collections_to_expr") else "shuffle"


@pytest.fixture(autouse=True)
def no_disk(monkeypatch, tmp_path):
    missing = str(tmp_path / "missing")
    monkeypatch.setattr(tempfile, "tempdir", missing)
    with dask.config.set(temporary_directory=missing, **{"temporary-directory": missing}):
        yield


@pytest.fixture
def fake(monkeypatch):
    made = FakeSession()
    monkeypatch.setattr(scheduler, "current_session", lambda: made)
    return made


@pytest.fixture
def on_raylet(carrier, monkeypatch):
    if carrier == "stand-in":
        made = FakeSession()
        monkeypatch.setattr(scheduler, "current_session", lambda: made)
    with enable_dask_on_ray():
        yield


def frame():
    rng = np.random.RandomState(0)
    return pd.DataFrame({
        "k": rng.randint(0, 50, ROWS), "v": rng.permutation(ROWS) / 7, "w": rng.rand(ROWS),
        "s": rng.choice(["red", "green", "blue"], ROWS),
    })


def source(npartitions=4):
    return dd.from_pandas(frame(), npartitions=npartitions)


def by_partition(collection):
    """Partitions as they are, so that it is seen which row went where."""
    return dask.delayed(list)(collection.to_delayed())


WORK = {
    "set_index": lambda n: source(n).set_index("v"),
    "set_index in partitions": lambda n: by_partition(
        source(n).set_index("v", divisions=[0, 100, 200, 300, 1000])
    ),
    "shuffle": lambda n: source(n).shuffle("k"),
    "shuffle in partitions": lambda n: by_partition(source(n).shuffle("k")),
    "shuffle of two columns": lambda n: source(n).shuffle(["k", "s"], npartitions=5),
    "shuffle to more partitions": lambda n: by_partition(source(n).shuffle("k", npartitions=n + 7)),
    "shuffle to fewer partitions": lambda n: by_partition(source(n).shuffle("k", npartitions=3)),
    "shuffle ignoring the index": lambda n: source(n).shuffle("k", ignore_index=True).reset_index(drop=True),
    "few branches": lambda n: by_partition(source(n).shuffle("k", max_branch=3)),
    "few branches to more partitions": lambda n: by_partition(
        source(n).shuffle("k", max_branch=3, npartitions=n + 5)
    ),
    "many branches": lambda n: source(n).shuffle("k", max_branch=1000),
    "shuffle named": lambda n: source(n).shuffle("k", **{METHOD: "tasks"}),
    "some partitions": lambda n: by_partition(source(n).shuffle("k").partitions[[1, 3]]),
    "merge": lambda n: source(n).merge(source(n + 1)[["k", "w"]].rename(columns={"w": "x"}), on="k").x.sum(),
    "merge named": lambda n: source(n).merge(source(n).drop_duplicates("v"), on="v", **{METHOD: "tasks"}),
    "groupby.apply": lambda n: source(n).groupby("k").apply(lambda g: g.w.sum(), meta=("w", "f8")),
    "groupby to several": lambda n: source(n).groupby("k").w.sum(split_out=3),
    "sort_values": lambda n: source(n).sort_values("v"),
    "drop_duplicates": lambda n: source(n).drop_duplicates("k", split_out=3).k,
    "repartition": lambda n: by_partition(source(n).repartition(npartitions=7)),
    "shuffled twice": lambda n: source(n).shuffle("k").shuffle("s").set_index("v"),
    "persisted": lambda n: source(n).persist().shuffle("k"),
}


ON_A_NODE = {"set_index in partitions", "shuffle to more partitions", "merge"}  # the large ones there


def sorted_rows(found):
    if isinstance(found, list):
        return [sorted_rows(part) for part in found]
    if not isinstance(found, (pd.DataFrame, pd.Series)):
        return found
    made = found.to_frame() if isinstance(found, pd.Series) else found
    made = made.reset_index()
    return made.sort_values(list(made.columns)).reset_index(drop=True)


def assert_same(got, expected):
    assert type(got) is type(expected)
    if isinstance(got, list):
        assert len(got) == len(expected)
        for one, other in zip(got, expected):
            assert_same(one, other)
    elif isinstance(got, pd.DataFrame):
        pd.testing.assert_frame_equal(got, expected, check_dtype=True)
    else:
        assert got == pytest.approx(expected)


@pytest.mark.parametrize("npartitions", [4, 37])
@pytest.mark.parametrize("work", sorted(WORK))
def test_a_shuffle_gives_what_threads_give(on_raylet, carrier, work, npartitions):
    if carrier != "stand-in" and npartitions == (4 if work in ON_A_NODE else 37):
        pytest.skip("the stand-in has done it")
    if carrier == "grpc" and work not in ON_A_NODE:
        pytest.skip("the socket has done it")
    with dask.config.set(scheduler="threads"):
        expected = WORK[work](npartitions).compute()
    got = WORK[work](npartitions).compute()
    assert_same(sorted_rows(got), sorted_rows(expected))


def test_the_order_of_rows_is_that_of_dasks_stages(fake):
    make = lambda: by_partition(source(40).shuffle("k", max_branch=4, ignore_index=False))  # noqa: E731
    with dask.config.set(scheduler="threads"):
        expected = make().compute()
    with enable_dask_on_ray():
        got = make().compute()
    for one, other in zip(got, expected):
        pd.testing.assert_frame_equal(one, other)


# ------------------------------------------------------------ what is recognised


def task_names(fake):
    return [chunk.names[number] for chunk in fake.chunks for number in chunk.name_numbers]


@pytest.mark.parametrize("npartitions", [4, 40])
def test_a_shuffle_has_a_task_for_each_input_and_each_output_and_none_for_a_piece(fake, npartitions):
    with enable_dask_on_ray():
        by_partition(source(npartitions).shuffle("k")).compute()
    names = task_names(fake)
    assert not any("split-" in name for name in names)
    assert sum("group-" in name for name in names) == npartitions
    counts = [count for chunk in fake.chunks for count in chunk.return_counts if count > 1]
    assert counts == [npartitions] * npartitions


def marked(part, mark="m"):
    return part.assign(**{mark: 1})


def rows_of(part):
    return pd.DataFrame({"rows": [len(part)], "marks": [int(part.m.sum())]})


ROWS_META = {"rows": "i8", "marks": "i8"}


def task_names_of(fake, make):
    """The tasks' names of what `make` makes, and that its result is that of Dask's threads."""
    before = len(task_names(fake))
    with dask.config.set(scheduler="threads"):
        expected = make().compute()
    with enable_dask_on_ray():
        got = make().compute()
    assert_same(sorted_rows(got), sorted_rows(expected))
    return task_names(fake)[before:]


def tasks_called(names, what):
    return [name for name in names if what in name]


def test_a_partition_that_is_only_cut_is_made_by_the_task_that_cuts_it(fake):
    names = task_names_of(fake, lambda: source(4).map_partitions(marked).shuffle("k"))
    assert len(tasks_called(names, "group-")) == 4
    assert not tasks_called(names, "marked")


def test_a_partition_that_somebody_else_reads_too_is_a_task_of_its_own(fake):
    def make():
        marks = source(4).map_partitions(marked)
        return by_partition(marks.shuffle("k")), marks.m.sum()

    with enable_dask_on_ray():
        _, total = dask.compute(*make(), optimize_graph=False)
    assert total == ROWS
    assert len(tasks_called(task_names(fake), "marked")) == 4


def test_an_output_that_one_task_reads_is_joined_by_it(fake):
    def make():
        return source(4).map_partitions(marked).shuffle("k").map_partitions(rows_of, meta=ROWS_META)

    names = task_names_of(fake, make)
    assert len(tasks_called(names, "rows")) + len(tasks_called(names, "group-")) == 8
    assert len(names) <= 8 + 2  # newer Dasks put the partitions of a result together


def rows_in(*parts):
    return sum(map(len, parts))


def graph_and_outputs():
    """A shuffle's graph, without what follows its outputs, and their keys."""
    expression = source(4).shuffle("k")
    if hasattr(expression, "optimize"):
        expression = expression.optimize(fuse=False)
    graph = dict(expression.__dask_graph__())
    for key in expression.__dask_keys__():
        if "_concat" not in str(graph[key]):
            del graph[key]
    return graph, [
        key for key, value in graph.items() if "split-" in str(value)[:200] and "_concat" in str(value)
    ]


def test_an_output_that_two_tasks_read_is_joined_once(fake):
    graph, (one, other, *_) = graph_and_outputs()
    graph.update({"a": (rows_in, one), "b": (rows_in, one, one), "c": (rows_in, other, other)})
    rows = [len(part) for part in dask.get(graph, [one, other])]
    assert ray_dask_get(graph, ["a", "b", "c"]) == (rows[0], 2 * rows[0], 2 * rows[1])
    assert task_names(fake).count(str(one)) == 1
    assert task_names(fake).count(str(other)) == 0  # within c


def test_a_task_that_reads_many_outputs_leaves_their_joining_to_others(fake):
    graph, outputs = graph_and_outputs()
    graph.update({"pair": (rows_in, *outputs[:2]), "all": (rows_in, *outputs)})
    assert ray_dask_get(graph, "all") == ROWS
    assert sorted(set(map(str, outputs)) & set(task_names(fake))) == sorted(map(str, outputs))


def test_a_reader_is_seen_wherever_in_its_task_the_reference_is():
    graph = {"x": 1, "plain": (rows_in, "x"), "once": (rows_in, "plain"), "deep": (rows_in, [{"of": ("x", 1)}])}
    assert Readers(graph).is_single("plain", 1)
    assert not Readers(graph).is_single("x", 1)
    if HAS_NODES:
        graph["deep"] = (rows_in, (TaskRef("x"), 1))
        assert not Readers(graph).is_single("x", 1)


def test_a_partition_that_can_not_be_made_fails_with_its_own_error(on_raylet):
    def broken(part):
        raise ValueError("no such file")

    with pytest.raises(ValueError, match="no such file"):
        source(4).map_partitions(broken, meta=frame().iloc[:0]).shuffle("k").compute()


def test_without_the_optimization_every_task_is_dasks_own(fake):
    with enable_dask_on_ray(use_shuffle_optimization=False):
        by_partition(source(4).shuffle("k")).compute()
    assert sum("split-" in name for name in task_names(fake)) == 16
    assert not any(count > 1 for chunk in fake.chunks for count in chunk.return_counts)


def test_only_the_partitions_that_are_computed_are_cut_out(fake):
    if METHOD == "shuffle":
        pytest.skip("this Dask makes them all")
    with enable_dask_on_ray():
        source(6).shuffle("k").partitions[[1, 3]].compute()
    counts = [count for chunk in fake.chunks for count in chunk.return_counts if count > 1]
    assert counts == [2] * 6


def test_a_shuffle_of_too_many_pieces_stays_in_stages(fake, monkeypatch):
    monkeypatch.setattr(_shuffle, "ONE_STAGE_PIECES_MAX", 100)
    with dask.config.set(scheduler="threads"):
        expected = WORK["few branches"](37).compute()
    with enable_dask_on_ray():
        got = WORK["few branches"](37).compute()
    assert_same(sorted_rows(got), sorted_rows(expected))
    counts = {count for chunk in fake.chunks for count in chunk.return_counts}
    assert counts <= {1, 3}


def test_who_asks_for_a_group_or_a_piece_gets_what_dask_would_give(fake):
    graph, (output, *_) = graph_and_outputs()
    named = {key[0].split("-")[0]: key for key in graph if isinstance(key, tuple)}
    piece = named["split"]
    group = next(key for key in graph if key[0].startswith("group-") and key[1] == piece[2])
    got_group, got_piece, got_output = ray_dask_get(graph, [group, piece, output])
    expected_group, expected_piece, expected_output = dask.get(graph, [group, piece, output])
    assert sorted(got_group) == sorted(expected_group)
    pd.testing.assert_frame_equal(got_piece, expected_piece)
    pd.testing.assert_frame_equal(got_output, expected_output)


def test_callbacks_see_every_task_of_dasks(fake):
    from dask.callbacks import Callback

    seen = []

    class Watch(Callback):
        def _posttask(self, key, result, dsk, state, worker_id):
            assert key in dsk
            seen.append(key)

    work = by_partition(source(4).shuffle("k"))
    with Watch():
        work.compute(scheduler=ray_dask_get)
    assert sum("split-" in str(key) for key in seen) == 16


def test_the_tasks_of_a_shuffle_have_the_options_of_dasks(fake):
    by_partition(source(4).shuffle("k")).compute(
        scheduler=ray_dask_get, ray_remote_args={"num_cpus": 2}
    )
    for chunk in fake.chunks:
        assert all(chunk.option_numbers)


def test_a_shuffle_that_waits_for_itself_is_a_cycle(fake):
    graph = dict(source(2).shuffle("k").optimize(fuse=False).__dask_graph__()
                 if METHOD == "shuffle_method" else source(2).shuffle("k").__dask_graph__())
    output = next(key for key, value in graph.items() if "split-" in str(value)[:200] and "_concat" in str(value))
    group = next(key for key in graph if isinstance(key, tuple) and key[0].startswith("group-"))
    task = list(graph[group])
    task[1] = output
    graph[group] = tuple(task)
    with pytest.raises(ValueError, match="cycle"):
        ray_dask_get(graph, output)


def test_pieces_outlive_the_worker_that_cut_them(on_raylet, carrier, tmp_path):
    if carrier != "local":
        pytest.skip("needs workers that can die, once")

    def dies_once(part):
        try:
            os.close(os.open(tmp_path / "died", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return part
        os._exit(1)

    work = source(6).shuffle("k").map_partitions(dies_once, meta=frame().iloc[:0])
    got = work.compute().sort_values("v").v.tolist()
    assert got == sorted(frame().v) and (tmp_path / "died").exists()
