"""get_runtime_context: where the calling code runs."""

from __future__ import annotations

import os
from typing import Any, Dict, Optional

from ray import _runtime
from ray._runtime import current_session


class RuntimeContext:
    """The job, the node and, inside a task, the task."""

    def _task(self) -> Any:
        task = current_session().current_task
        return None if task is None else task()

    @property
    def namespace(self) -> str:
        """Where names of actors are looked for."""
        return _runtime.current_namespace()

    @property
    def gcs_address(self) -> str:
        """Of the head's gRPC: "unix:/path"."""
        return f"unix:{current_session().info.session_directory}/gcs.grpc"

    def get_job_id(self) -> str:
        """32 hex digits."""
        return current_session().job.hex()

    def get_node_id(self) -> str:
        """32 hex digits."""
        return current_session().info.node.hex()

    def get_worker_id(self) -> str:
        """This process, as far as this node is concerned."""
        return f"{current_session().info.session:016x}{os.getpid():016x}"

    def get_task_id(self) -> Optional[str]:
        """48 hex digits (graph and task), or None outside of a task."""
        task = self._task()
        return None if task is None else (task.graph + task.task.to_bytes(8, "big")).hex()

    def get_task_name(self) -> Optional[str]:
        """The running task's, or None outside of a task."""
        task = self._task()
        return None if task is None else task.name

    def get_actor_id(self) -> Optional[str]:
        """56 hex digits, or None outside of an actor."""
        actor = getattr(current_session(), "actor_id", None)
        return None if actor is None else actor.hex()

    def get_assigned_resources(self) -> Dict[str, float]:
        """Always empty: what a task was given is not told to it."""
        return {}


def get_runtime_context() -> RuntimeContext:
    """Where the calling code runs; asking it for anything connects this process, as any use of ray."""
    return RuntimeContext()
