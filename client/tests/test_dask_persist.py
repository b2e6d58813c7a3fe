"""Persisted collections on a real node: their lifetime, and collections that travel into tasks."""

from __future__ import annotations

import dask
import dask.array as da
import dask.bag as db
import numpy as np
import pytest

import ray
from ray.util.dask import enable_dask_on_ray, ray_dask_get

STORE_BYTES = 128 << 20


@pytest.fixture(scope="module", autouse=True)
def node():
    with ray.init(num_cpus=2, object_store_memory=STORE_BYTES):
        with enable_dask_on_ray():
            yield


def test_what_was_persisted_goes_with_its_collection():
    for _ in range(6):  # each is 64 MB, half of the store
        x = (da.ones((2000, 4000), chunks=500) + 1).persist()
        total = dask.delayed(float)(x.sum()).persist()
        assert total.compute() == 16e6
        del x, total


def test_a_persisted_collection_can_be_used_inside_a_task():
    x = da.arange(1000, chunks=100).persist()
    b = db.from_sequence(range(10), npartitions=3).persist()

    @ray.remote
    def total(collection):
        return int((collection + 1).sum().compute(scheduler=ray_dask_get))

    @ray.remote
    def total_of_bag(bag):
        return bag.sum().compute(scheduler=ray_dask_get)

    assert ray.get([total.remote(x), total_of_bag.remote(b)]) == [500500, 45]


def test_a_collection_travels_into_a_task_of_another_graph_and_is_computed_there():
    x = da.arange(100, chunks=10)

    def inner(make):
        return int(make().sum().compute(scheduler=ray_dask_get))

    assert dask.delayed(inner)(lambda: x * 2).compute() == 9900
    persisted = (x * 2).persist()
    assert dask.delayed(inner)(lambda: persisted).compute() == 9900


def test_several_generations_of_persisted_collections_share_what_they_are_made_of():
    x = da.from_array(np.arange(40_000.0), chunks=10_000).persist()
    y = (x + 1).persist()
    z, w = dask.persist(x + y, (y * 2).sum())
    del x, y
    assert float(z.sum().compute()) == 2 * np.arange(40_000.0).sum() + 40_000
    assert float(w.compute()) == 2 * (np.arange(40_000.0).sum() + 40_000)
