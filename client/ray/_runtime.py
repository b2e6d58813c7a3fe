"""This process's place in the cluster: its one session, made at the first use, and what became of it."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any, Callable, Optional

from ray import _shield, exceptions

_session: Optional[Any] = None
_connect_again: Optional[Callable[[], Any]] = None
_lock = threading.RLock()
_forked = False
_namespace = ""
_node: Optional[Any] = None
in_worker = False


def current_session() -> Any:
    """The session; connects (ray.init()) if there is none, and again if the node was restarted.

    Raises RuntimeError in a forked child, LocalRayletDiedError if the node is gone.
    """
    session = _session
    if session is not None and session.lost is None and not session.closed:
        return session
    return _make_session()


def _make_session() -> Any:
    global _session
    if _forked:
        raise RuntimeError(
            "this process was forked from one that uses ray, and can't share its connection. Start child "
            "processes by multiprocessing.get_context('spawn'), or call ray.init(address='auto') in the "
            "child to connect it to a node that `raylet start --head` started."
        )
    with _lock:
        session = _session
        if session is None:
            from ray import _connect

            _connect.init()
            return _session
        if session.lost is None and not session.closed:
            return session
        if _connect_again is None:
            raise session.lost or exceptions.RaySystemError("ray was shut down")
        try:
            fresh = _connect_again()
        except (ConnectionError, OSError, exceptions.RayError) as error:
            raise exceptions.LocalRayletDiedError(
                f"the node is gone and can't be reached again yet: {error}"
            ) from None
        retire(session)
        _session = fresh
        return fresh


def retire(session: Any) -> None:
    """A lost session's threads and descriptors go; views of its objects stay."""
    session.closed = True
    if session.background is not None:
        session.background.close()
    session.carrier.close()


def set_session(session: Optional[Any], again: Optional[Callable[[], Any]] = None) -> None:
    """`again` makes a new session with the same node; None: the node can't come back."""
    global _session, _connect_again, _forked
    _session = session
    _connect_again = again
    if session is not None:
        _forked = False


def set_node(node: Optional[Any], namespace: str) -> None:
    global _node, _namespace
    _node = node
    _namespace = namespace


def current_node() -> Optional[Any]:
    """The private node, if this process started one."""
    return _node


def current_namespace() -> str:
    """Where names of actors are looked up."""
    return _namespace


def peek() -> Optional[Any]:
    """The session if there is one."""
    return _session


def is_forked() -> bool:
    return _forked


def lock() -> "threading.RLock":
    return _lock  # type: ignore[return-value]


def _after_fork() -> None:
    global _session, _connect_again, _forked, _lock, _node
    _lock = threading.RLock()
    _shield.after_fork()
    if _session is not None:
        _forked = True
        _session.abandon_after_fork()
        _session = None
        _connect_again = None
    if _node is not None:
        _node.forget_after_fork()
        _node = None


os.register_at_fork(after_in_child=_after_fork)


def script_name() -> str:
    return sys.argv[0] if sys.argv and sys.argv[0] else "<interactive>"
