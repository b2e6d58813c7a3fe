"""Sessions: Mars' names for connecting to a node and leaving it. There is one connection a process."""

from __future__ import annotations

import uuid
import warnings
from typing import Any, Optional

import ray
from mars._object import execute, fetch

# What new_session takes besides, so that scripts run unchanged: on one node it changes nothing.
_ACCEPTED_AND_IGNORED = {
    "cuda_devices", "init_local", "mem_bytes", "n_worker", "new", "show_progress", "timeout", "web",
}


class Session:
    """A handle on this process's connection. All of them share it; `with` ends it at the end of the block."""

    def __init__(self, session_id: Optional[str] = None, address: Optional[str] = None) -> None:
        self.session_id = session_id or uuid.uuid4().hex[:24]
        self.address = address

    def execute(self, *objects: Any, **kwargs: Any) -> Any:
        """As mars.execute."""
        return execute(*objects, **kwargs)

    def fetch(self, *objects: Any, **kwargs: Any) -> Any:
        """As mars.fetch."""
        return fetch(*objects, **kwargs)

    def as_default(self) -> "Session":
        """This session; every one is the default."""
        return self

    def stop_server(self) -> None:
        """As mars.stop_server."""
        stop_server()

    def close(self) -> None:
        """Nothing: the connection stays until stop_server() or the end of the process."""

    destroy = close

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *exception: Any) -> None:
        stop_server()

    def __repr__(self) -> str:
        return f"Session <id={self.session_id}, address={self.address}>"


def new_session(
    address: Optional[str] = None, session_id: Optional[str] = None, backend: Optional[str] = None,
    default: bool = True, **kwargs: Any,
) -> Session:
    """Connect this process to a node; without an address, to a running one or to a private one that it starts.

    `address`: what ray.init takes: "auto", a session directory, "host:port" of a raylet's gRPC. `n_cpu`: CPUs
    of the private node. A process that is connected already gets another handle on that connection. What
    else Mars takes is ignored.

    Raises ConnectionError if no node can be reached, RuntimeError for another address than that of the
    connection in force, ValueError for a URL of a Mars web server, TypeError for arguments Mars does not have.
    """
    cpus = kwargs.pop("n_cpu", None)
    unknown = sorted(set(kwargs) - _ACCEPTED_AND_IGNORED)
    if unknown:
        raise TypeError(
            f"new_session() got an unexpected argument {unknown[0]!r}; it takes address, n_cpu, session_id, and "
            f"ignores {', '.join(sorted(_ACCEPTED_AND_IGNORED))}"
        )
    if backend not in (None, "mars", "oscar"):
        raise ValueError(f"new_session(): expected backend 'mars' (Raylet runs it), got {backend!r}")
    if address is not None and address.startswith(("http://", "https://")):
        raise ValueError(
            f"new_session() got {address!r}, the address of a Mars web server. Raylet's nodes are reached by "
            'address="auto" after `raylet start --head`, or by the "host:port" that it prints.'
        )
    if address is None and ray.is_initialized():
        if cpus is not None:
            warnings.warn("new_session: n_cpu is ignored, this process is connected already", stacklevel=2)
        return Session(session_id)
    if address is not None and ray.is_initialized():
        raise RuntimeError(
            f"new_session() got the address {address!r}, but this process is connected already; call "
            "mars.stop_server() first"
        )
    ray.init(address, num_cpus=cpus)
    return Session(session_id, address)


def stop_server() -> None:
    """Leave the node; a private one stops, and what was executed in it is gone. Does nothing unconnected."""
    ray.shutdown()
