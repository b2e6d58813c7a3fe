"""A real node for the tests, once; each test that wants it connects afresh, over either carrier."""

from __future__ import annotations

import os
import sys
from typing import Iterator

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture(scope="session")
def shared_node() -> Iterator[object]:
    """A node with two CPUs that outlives the connections to it; ends with this process."""
    from ray._node import PrivateNode

    node = PrivateNode({"num_cpus": 2, "object_store_memory": 512 << 20, "resources": {"thing": 4}})
    yield node
    node.stop()


@pytest.fixture(params=["local", "grpc"])
def cluster(request: pytest.FixtureRequest, shared_node: object) -> Iterator[object]:
    """Connected to the shared node, by the unix socket or by gRPC alone."""
    import ray

    yield ray.init(_address(shared_node, request.param))
    ray.shutdown()


@pytest.fixture(scope="module", params=["stand-in", "local", "grpc"])
def carrier(request: pytest.FixtureRequest) -> Iterator[str]:
    """As cluster, for all of a module; "stand-in" is connected to nothing."""
    import ray

    if request.param == "stand-in":
        yield request.param
        return
    ray.init(_address(request.getfixturevalue("shared_node"), request.param))
    yield request.param
    ray.shutdown()


def _address(node: object, carrier: str) -> str:
    return node.description["raylet_address"] if carrier == "grpc" else str(node.directory)


@pytest.fixture
def local_cluster(shared_node: object) -> Iterator[object]:
    """Connected to the shared node by the unix socket."""
    import ray

    yield ray.init(str(shared_node.directory))
    ray.shutdown()
