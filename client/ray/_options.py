"""Options of tasks and actors: checked as Ray does, and turned into TaskOptions once."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from ray._serialize import serialize
from ray._wire import common_pb2 as wire_common
from ray._wire import session_pb2 as wire

_COMMON = {"num_cpus", "num_gpus", "memory", "resources", "name"}
# Taken so that scripts run unchanged; on one node, or for us, they change nothing.
_IGNORED = {
    "accelerator_type", "enable_task_events", "fallback_strategy", "label_selector", "max_calls",
    "object_store_memory", "placement_group", "placement_group_bundle_index",
    "placement_group_capture_child_tasks", "runtime_env", "scheduling_strategy", "_metadata", "_labels",
    "_generator_backpressure_num_objects",
}
TASK_OPTIONS = _COMMON | {"num_returns", "max_retries", "retry_exceptions"}
ACTOR_OPTIONS = _COMMON | {
    "namespace", "lifetime", "get_if_exists", "max_restarts", "max_task_retries", "max_concurrency",
    "max_pending_calls", "concurrency_groups", "allow_out_of_order_execution",
}
METHOD_OPTIONS = {"num_returns", "name", "max_task_retries", "retry_exceptions", "concurrency_group"}
_INT32_MAX = (1 << 31) - 1


def check_options(options: Mapping[str, Any], valid: set, what: str) -> None:
    """Raises ValueError or TypeError about the first option that can't be."""
    for key, value in options.items():
        if key not in valid and key not in _IGNORED:
            raise ValueError(
                f"Invalid option keyword {key} for {what}. Valid ones are {sorted(valid | _IGNORED)}."
            )
        if value is not None:
            _check_value(key, value)


def _check_value(key: str, value: Any) -> None:
    if key in ("num_cpus", "num_gpus", "memory"):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"The type of keyword '{key}' must be int or float, got {value!r}")
        if value < 0:
            raise ValueError(f"The quantity of {key} can't be negative, got {value}")
    elif key == "resources":
        if not isinstance(value, dict):
            raise TypeError(f"The type of keyword 'resources' must be dict, got {value!r}")
        for name, amount in value.items():
            if name in ("CPU", "GPU"):
                raise ValueError("Use the 'num_cpus' and 'num_gpus' keyword instead of 'CPU' and 'GPU'")
            if isinstance(amount, bool) or not isinstance(amount, (int, float)) or amount < 0:
                raise ValueError(f"the amount of resource {name!r} must be a number >= 0, got {amount!r}")
    elif key == "num_returns":
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"The keyword 'num_returns' only accepts an integer >= 0, got {value!r}")
    elif key in ("max_retries", "max_task_retries", "max_restarts"):
        if isinstance(value, bool) or not isinstance(value, int) or value < -1:
            raise ValueError(
                f"The keyword '{key}' only accepts 0, -1 or a positive integer, got {value!r}"
            )
    elif key == "retry_exceptions":
        listed = isinstance(value, (list, tuple)) and all(
            isinstance(one, type) and issubclass(one, BaseException) for one in value
        )
        if not isinstance(value, bool) and not listed:
            raise TypeError(
                f"retry_exceptions must be a bool or a list of exception classes, got {value!r}"
            )
    elif key == "name" or key == "namespace":
        if not isinstance(value, str):
            raise TypeError(f"The type of keyword '{key}' must be str, got {value!r}")
        if not value and key == "namespace":
            raise ValueError('"" is not a valid namespace. Pass None to not specify a namespace.')
    elif key == "lifetime" and value not in ("detached", "non_detached"):
        raise ValueError(f"actor `lifetime` must be 'detached' or 'non_detached', got {value!r}")


def _add_resources(to: wire.TaskOptions, options: Mapping[str, Any]) -> bool:
    """Whether anything was asked for explicitly."""
    asked: Dict[str, float] = {}
    explicit = False
    for key, name in (("num_cpus", "CPU"), ("num_gpus", "GPU"), ("memory", "memory")):
        value = options.get(key)
        if value is not None:
            explicit = True
            asked[name] = value
    for name, value in (options.get("resources") or {}).items():
        explicit = True
        asked[name] = value
    if not explicit:
        return False
    asked.setdefault("CPU", 1)
    for name, amount in asked.items():
        rounded = round(float(amount), 4)
        if rounded:
            to.resources.append(wire_common.ResourceAmount(name=name, amount=rounded))
    to.no_resources = not to.resources
    return True


def task_options(options: Mapping[str, Any]) -> Optional[wire.TaskOptions]:
    """None: the defaults, CPU 1 and the node's number of retries."""
    made = wire.TaskOptions()
    changed = _add_resources(made, options)
    retries = options.get("max_retries")
    if retries is not None:
        made.retries_max = min(retries, _INT32_MAX)
        made.has_retries_max = True
        changed = True
    retry = options.get("retry_exceptions")
    if retry is not None and retry is not False and retry != []:
        made.retry_on_exception = True
        if retry is not True:
            made.retry_exceptions = serialize(tuple(retry)).to_bytes()
        changed = True
    return made if changed else None


def actor_options(options: Mapping[str, Any], namespace: str) -> wire.TaskOptions:
    """Of an actor's creation; without explicit resources it takes a CPU to be placed and none to live."""
    made = wire.TaskOptions()
    if _add_resources(made, options) and options.get("num_cpus") is None:
        del made.resources[:]
        for name, key in (("GPU", "num_gpus"), ("memory", "memory")):
            if options.get(key):
                made.resources.append(wire_common.ResourceAmount(name=name, amount=options[key]))
        for name, amount in (options.get("resources") or {}).items():
            if amount:
                made.resources.append(wire_common.ResourceAmount(name=name, amount=amount))
        made.no_resources = not made.resources
    made.retries_max = 0
    made.has_retries_max = True
    made.actor_name = options.get("name") or ""
    made.actor_namespace = options.get("namespace") or namespace
    made.detached = options.get("lifetime") == "detached"
    made.get_if_exists = bool(options.get("get_if_exists"))
    if made.get_if_exists and not made.actor_name:
        raise ValueError("The actor name must be specified to use `get_if_exists`.")
    return made
