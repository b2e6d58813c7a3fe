"""What a new user gets wrong says what was expected and what to do."""

from __future__ import annotations

import dask
import dask.array as da
import pytest

import ray
from ray.util.dask import ray_dask_get, ray_dask_get_sync


@pytest.fixture
def one():
    return dask.delayed(lambda: 1)()


@pytest.mark.parametrize("get", [ray_dask_get, ray_dask_get_sync])
@pytest.mark.parametrize(
    "option, error, says",
    [
        ({"num_cpus": 2}, ValueError, r"ray_remote_args=\{'num_cpus': 2\}"),
        ({"max_retries": 0}, ValueError, r"ray_remote_args=\{'max_retries': 0\}"),
        ({"ray_remote_arg": {"num_cpus": 1}}, TypeError, "ray_remote_arg= is not known.*ray_remote_args"),
        ({"ray_callback": []}, TypeError, "ray_callback= is not known.*ray_callbacks"),
        ({"ray_remote_args": {"num_cpu": 1}}, ValueError, "Invalid option keyword num_cpu"),
        ({"ray_remote_args": 5}, TypeError, "must be a dict"),
        ({"resources": {"GPU": 1}}, ValueError, "ray_remote_args"),
    ],
)
def test_options_that_would_do_nothing_are_refused(one, get, option, error, says):
    with pytest.raises(error, match=says):
        one.compute(scheduler=get, **option)


def test_arguments_of_dask_and_distributed_are_taken(local_cluster, one):
    assert one.compute(scheduler="ray", num_workers=4, retries=2, priority=1, anything="else") == 1


def test_retries_of_compute_try_a_task_again(local_cluster, tmp_path):
    def fails_once(path):
        if not path.exists():
            path.touch()
            raise OSError("the first time")
        return "done"

    with pytest.raises(OSError, match="the first time"):
        dask.delayed(fails_once)(tmp_path / "a").compute(scheduler="ray")
    assert dask.delayed(fails_once)(tmp_path / "b").compute(scheduler="ray", retries=1) == "done"


def test_a_misspelt_scheduler_is_answered_with_the_names_there_are(one):
    with pytest.raises(ValueError, match=r"\bray\b"):
        one.compute(scheduler="rai")


def test_a_collection_is_a_graph_too(local_cluster, one):
    assert ray_dask_get(one, one.key) == 1


def test_what_is_no_graph_is_named():
    with pytest.raises(TypeError, match="expected a Dask graph.*got list"):
        ray_dask_get([1, 2], "x")


def test_getting_a_collection_tells_to_compute_it(local_cluster):
    with pytest.raises(ValueError, match=r"call \.compute\(\)"):
        ray.get(da.ones(5))


def test_an_address_that_is_no_text_is_named():
    with pytest.raises(TypeError, match="expected an address.*got 5"):
        ray.init(5)


def test_init_twice_says_how_to_go_on(local_cluster):
    with pytest.raises(RuntimeError, match="ignore_reinit_error=True.*ray.shutdown"):
        ray.init()
