"""Raylet's Python client, under the names of Ray's.

    import ray

    @ray.remote
    def square(x):
        return x * x

    print(ray.get([square.remote(i) for i in range(4)]))
"""

from ray import actor, exceptions, util
from ray._actor import get_actor, method
from ray._api import cancel, get, kill, put, remote, wait
from ray._cluster import available_resources, cluster_resources, nodes
from ray._connect import init, is_initialized, shutdown
from ray._context import get_runtime_context
from ray._ref import ObjectRef
from ray._version import __version__

__all__ = [
    "ObjectRef",
    "__version__",
    "actor",
    "available_resources",
    "cancel",
    "cluster_resources",
    "exceptions",
    "get",
    "get_actor",
    "get_runtime_context",
    "init",
    "is_initialized",
    "kill",
    "method",
    "nodes",
    "put",
    "remote",
    "shutdown",
    "util",
    "wait",
]
