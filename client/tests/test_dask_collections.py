"""Every Dask collection computed, persisted and used further, compared with Dask's own scheduler.

Each test runs three times: against the stand-in of graph_fake.py, and on a real node over both carriers.
"""

from __future__ import annotations

import threading

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import toolz

import ray
import ray.util.dask._scheduler as scheduler
from graph_fake import FakeSession
from ray.util.dask import (
    disable_dask_on_ray, enable_dask_on_ray, ray_dask_get, ray_dask_persist,
)


@pytest.fixture
def put(carrier, monkeypatch):
    """Raylet is Dask's scheduler; gives what makes an object of a value."""
    make = ray.put
    if carrier == "stand-in":
        fake = FakeSession()
        monkeypatch.setattr(scheduler, "current_session", lambda: fake)
        make = fake.put_constant
    with enable_dask_on_ray():
        yield make


def sample(chunks=(50, 40)):
    return da.random.RandomState(0).random_sample((200, 120), chunks=chunks)


def frame():
    rng = np.random.RandomState(0)
    return pd.DataFrame(
        {"k": rng.randint(0, 7, 1000), "v": rng.rand(1000), "s": rng.choice(list("abcd"), 1000)}
    )


def references_in(collection):
    """What a persisted collection is made of, but for other names of the same."""
    values = dict(collection.__dask_graph__()).values()
    return [getattr(value, "value", value) for value in values if type(value).__name__ != "Alias"]


# ------------------------------------------------------------ arrays


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x.sum(),
        lambda x: (x + x.mean(0)).std(axis=1),
        lambda x: x @ x.T,
        lambda x: x.rechunk((30, 120))[::3, 10:],
        lambda x: da.linalg.svd(x.rechunk((50, 120)))[1],
        lambda x: da.map_overlap(lambda b: b + b.sum(), x, depth=2, boundary="reflect"),
        lambda x: da.histogram(x, bins=10, range=(0, 1))[0],
        lambda x: da.stack([x, x * 2]).transpose(2, 0, 1).reshape(120, -1),
        lambda x: da.where(x > 0.5, x, 0).cumsum(axis=0),
        lambda x: da.percentile(x.ravel(), [10, 50, 90]),
    ],
)
def test_arrays(put, make):
    y = make(sample())
    np.testing.assert_allclose(y.compute(), y.compute(scheduler="sync"))


def test_a_numpy_array_is_shared_by_its_chunks(put):
    values = np.arange(1_000_000.0).reshape(1000, 1000)
    x = da.from_array(values, chunks=250)
    assert (x + 1).sum().compute() == values.sum() + 1_000_000


def test_computed_arrays_may_be_written_to(put):
    big = da.ones((500, 500), chunks=100).compute()
    small = da.ones(3, chunks=3).compute()
    big[0, 0] = small[0] = 7
    assert big[0, 0] == 7 and big.sum() == 500 * 500 + 6


def test_persisted_arrays_are_references_and_dependencies_of_what_follows(put):
    x = sample()
    expected = x.compute(scheduler="sync")
    p = x.persist()
    assert all(isinstance(value, ray.ObjectRef) for value in references_in(p))
    np.testing.assert_allclose(p.compute(), expected)
    q = (p + 1).persist()
    np.testing.assert_allclose((q + p[::-1]).sum(0).compute(), (expected + 1 + expected[::-1]).sum(0))
    assert p.sum().persist().compute() == pytest.approx(expected.sum())
    a, b = dask.persist(x, x + 1)
    np.testing.assert_allclose((a + b).compute(), 2 * expected + 1)
    np.testing.assert_allclose(p[:10, :10].compute(), expected[:10, :10])
    np.testing.assert_allclose(p.rechunk((70, 70)).T.compute(), expected.T)


def test_persist_works_without_enable(put):
    with disable_dask_on_ray():
        p = sample().persist(scheduler=ray_dask_get)
        assert all(isinstance(value, ray.ObjectRef) for value in references_in(p))
        (q,) = ray_dask_persist(sample())
        assert all(isinstance(value, ray.ObjectRef) for value in references_in(q))
        assert p.sum().compute(scheduler=ray_dask_get) == q.sum().compute(scheduler=ray_dask_get)
        r = sample().persist(scheduler="sync")
        assert not any(isinstance(value, ray.ObjectRef) for value in references_in(r))


# ------------------------------------------------------------ dataframes


def test_dataframes(put):
    df = frame()
    d = dd.from_pandas(df, npartitions=5)
    pd.testing.assert_series_equal(d.groupby("k").v.sum().compute().sort_index(), df.groupby("k").v.sum())
    pd.testing.assert_frame_equal(
        d[d.v > 0.5].assign(w=d.v * 2).compute().sort_index(), df[df.v > 0.5].assign(w=df.v * 2),
        check_dtype=False,
    )
    means = d.groupby("k").v.mean().to_frame("m").reset_index()
    merged = d.merge(means, on="k").compute()
    assert len(merged) == 1000 and merged.m.sum() == pytest.approx(df.groupby("k").v.transform("mean").sum())
    assert d.v.nunique().compute() == df.v.nunique()
    assert d.describe().compute().loc["mean", "v"] == pytest.approx(df.v.mean())


def test_shuffles_lose_nothing_and_need_no_disk(put):
    df = frame()
    d = dd.from_pandas(df, npartitions=6)
    ordered = d.set_index("v").compute()
    assert ordered.index.is_monotonic_increasing and len(ordered) == 1000
    parts = d.shuffle("k", npartitions=4)
    assert not any("partd" in str(key) for key in dict(parts.__dask_graph__()))
    assert sorted(parts.compute().v) == sorted(df.v)


def test_persisted_dataframes(put):
    df = frame()
    p = dd.from_pandas(df, npartitions=5).persist()
    assert all(isinstance(value, ray.ObjectRef) for value in references_in(p))
    pd.testing.assert_frame_equal(p.compute(), df, check_dtype=False)
    q = p[p.v > 0.5].persist()
    assert len(q) == (df.v > 0.5).sum()
    assert q.groupby("s").v.max().compute().sort_index().tolist() == (
        df[df.v > 0.5].groupby("s").v.max().tolist()
    )
    assert p.set_index("v").compute().index.is_monotonic_increasing


# ------------------------------------------------------------ bags, delayed, xarray


def test_bags(put):
    b = db.from_sequence(range(100), npartitions=7)
    assert b.map(lambda z: z + 1).filter(lambda z: z % 2 == 0).sum().compute() == 2550
    assert b.fold(lambda a, c: a + c).compute() == 4950
    p = b.map(lambda z: z * 2).persist()
    assert p.compute() == [z * 2 for z in range(100)]
    assert dict(p.frequencies().compute())[4] == 1
    assert sorted(b.groupby(lambda z: z % 3).map(lambda kv: (kv[0], len(kv[1]))).compute()) == [
        (0, 34), (1, 33), (2, 33),
    ]


@pytest.mark.parametrize("grouper", ["k", 0, ["k", 0], lambda record: record["k"]])
def test_bags_are_grouped_by_names_and_into_as_many_partitions_as_asked_for(put, grouper):
    records = [{"k": n % 3, 0: n % 2} for n in range(12)]
    bag = db.from_sequence(records, npartitions=4)
    expected = toolz.groupby(grouper, records)
    for npartitions in (None, 1, 2, 6):
        grouped = bag.groupby(grouper, npartitions=npartitions)
        assert grouped.npartitions == (npartitions or 4)
        assert dict(grouped.compute()) == expected


def test_delayed(put):
    @dask.delayed
    def add(a, b=1):
        return a + b

    total = dask.delayed(sum)([add(i) for i in range(50)] + [add(1, b=add(2))])
    assert total.compute() == 1275 + 4
    p = add(1).persist()
    assert p.compute() == 2
    assert dask.delayed(sum)([p, p, add(5)]).compute() == 10
    assert dask.compute({"a": [add(1), 2]}, add(p)) == ({"a": [2, 2]}, 3)


def test_references_inside_delayed_work_are_its_inputs(put):
    ref = put(5)
    array = put(np.arange(100_000))
    assert dask.delayed(lambda a: a + 1)(ref).compute() == 6
    assert dask.delayed(lambda a, k: sum(a) + k["z"])([ref, 1], k={"z": ref}).compute() == 11
    assert dask.delayed(ref).compute() == 5
    assert dask.delayed(lambda a, b: int(a.sum()) + b)(array, ref).compute() == 4999950005


def test_xarray(put):
    xr = pytest.importorskip("xarray")
    values = sample().compute(scheduler="sync")
    data = xr.Dataset({"t": (("x", "y"), values)}).chunk({"x": 50})
    np.testing.assert_allclose((data.t - data.t.mean("x")).compute().values, values - values.mean(0))
    p = data.persist()
    assert p.t.mean().compute().item() == pytest.approx(values.mean())
    groups = data.t.groupby(xr.DataArray(np.arange(200) % 4, dims="x", name="g")).mean()
    assert groups.compute().values[0] == pytest.approx(values[::4].mean(axis=0))


# ------------------------------------------------------------ configuration


def test_enable_and_disable_also_as_contexts():
    before = dask.config.get("scheduler", None)
    with enable_dask_on_ray():
        assert dask.config.get("scheduler") is ray_dask_get
        with disable_dask_on_ray():
            assert dask.config.get("scheduler") is None
        assert dask.config.get("scheduler") is ray_dask_get
    assert dask.config.get("scheduler", None) is before


def test_the_schedulers_name_is_known_to_dask(put):
    with disable_dask_on_ray():
        assert (da.ones(10, chunks=5) + 1).sum().compute(scheduler="ray") == 20


def test_several_threads_compute_at_once(put):
    results = {}

    def compute(number):
        results[number] = (sample() * number).sum().compute()

    threads = [threading.Thread(target=compute, args=(number,)) for number in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one = results[1]
    assert results == {number: pytest.approx(one * number) for number in range(1, 6)}
