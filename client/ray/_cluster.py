"""What nodes, resources and graphs there are, as the raylet tells it over its gRPC."""

from __future__ import annotations

import platform
from typing import Any, Dict, List

from ray._runtime import current_session

_ANSWER_S = 10.0


class RayletDoor:
    """The gRPC of a session's raylet: `stub`, and the `metadata` that every call wants. close() it."""

    def __init__(self, session: Any) -> None:
        from ray._grpc_carrier import open_channel
        from ray._wire import raylet_pb2_grpc

        target = getattr(session, "target", None)
        if target is not None and target.grpc:
            address, token = target.grpc, target.token
        else:
            address, token = f"unix:{session.info.session_directory}/raylet.grpc", ""
        self._channel, self.metadata = open_channel(address, token)
        self.stub = raylet_pb2_grpc.RayletStub(self._channel)

    def status(self, timeout_s: float = _ANSWER_S) -> Any:
        """NodeStatus. Raises grpc.RpcError if it does not come in time."""
        from ray._wire import raylet_pb2

        return self.stub.GetStatus(
            raylet_pb2.GetStatusRequest(), metadata=self.metadata, timeout=timeout_s, wait_for_ready=True
        )

    def close(self) -> None:
        self._channel.close()


def status() -> Any:
    """NodeStatus of the raylet, what this process sent to it before included."""
    session = current_session()
    door = RayletDoor(session)
    try:
        session.flush()
        return door.status()
    finally:
        door.close()


def cluster_resources() -> Dict[str, float]:
    """What all nodes together have: amounts by name ("CPU", "GPU", "memory" in bytes, your own).

    Raises ConnectionError if no node can be reached or started.
    """
    return {one.name: one.amount for one in status().total}


def available_resources() -> Dict[str, float]:
    """What of cluster_resources() no task or actor has at this moment; what is used up is left out, as in Ray."""
    return {one.name: one.amount for one in status().available if one.amount > 0}


def nodes() -> List[Dict[str, Any]]:
    """One entry a node, with Ray's names of the fields; "Resources" as in cluster_resources()."""
    found = status()
    return [
        {
            "NodeID": found.node.hex(),
            "Alive": True,
            "NodeManagerAddress": "127.0.0.1",
            "NodeManagerHostname": platform.node(),
            "NodeName": platform.node(),
            "RayletSocketName": f"{found.session_directory}/raylet.sock",
            "Resources": {one.name: one.amount for one in found.total},
            "Labels": {},
            "alive": True,
        }
    ]
