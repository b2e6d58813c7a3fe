"""Calls by the thousand on a node of their own: what reads the results of many others, early and late."""

from __future__ import annotations

import time
from operator import add

import numpy as np
import pytest

import ray
from ray.util.dask import RayDaskCallback, ray_dask_get


@pytest.fixture(scope="module", autouse=True)
def node():
    with ray.init(num_cpus=2, object_store_memory=256 << 20):
        yield


def test_a_call_takes_the_results_of_thousands_that_still_run():
    @ray.remote
    def one(i):
        time.sleep(0.0005)
        return i

    @ray.remote
    def total(*numbers):
        return sum(numbers)

    refs = [one.remote(i) for i in range(3000)]
    assert ray.get(total.remote(*refs)) == 3000 * 2999 // 2


def test_an_object_has_new_readers_after_thousands_of_other_calls():
    @ray.remote
    def make():
        return np.ones(100_000)

    @ray.remote
    def use(block, i):
        return i

    @ray.remote
    def other(i):
        return i

    block = make.remote()
    assert sum(ray.get([use.remote(block, i) for i in range(2000)])) == 2000 * 1999 // 2
    for _ in range(2):
        assert sum(ray.get([other.remote(i) for i in range(3000)])) == 3000 * 2999 // 2
        time.sleep(0.2)
    assert ray.get(use.remote(block, 7)) == 7


def test_hooks_of_a_graph_of_many_chunks():
    count = 40_000
    graph = {("x", i): (add, i, 1) for i in range(count)}
    graph["first"] = (sum, [("x", i) for i in range(0, count, 2)])
    graph["sum"] = (add, "first", (sum, [("x", i) for i in range(1, count, 2)]))
    looked = []

    def presubmit(task, key, deps):
        if key == "sum":
            looked.append(ray.get(deps["first"]))

    with RayDaskCallback(ray_presubmit=presubmit):
        assert ray_dask_get(graph, "sum") == count * (count + 1) // 2
    assert looked == [sum(range(1, count + 1, 2))]
