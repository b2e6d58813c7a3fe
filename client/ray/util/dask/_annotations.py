"""Which options each task of a graph gets: from `ray_remote_args` and from Dask's annotations."""

from __future__ import annotations

from typing import Any, Callable, Dict, Hashable, Mapping, Optional

import dask

from ray._graph import GraphBuilder
from ray._options import TASK_OPTIONS, check_options, task_options
from ray._wire import session_pb2 as wire

_KINDS = ("ray_remote_args", "retries", "priority")
_RESOURCES_MESSAGE = (
    "Dask's resources= is not understood by Raylet: its names mean something else there. Pass "
    'ray_remote_args={"num_cpus": ..., "num_gpus": ..., "resources": {...}}, or annotate with '
    "dask.annotate(ray_remote_args=...)."
)
_PRIORITY_MAX = 1 << 20


class OptionChooser:
    """The options of one computation's tasks.

    What is said of a key (a layer's annotation) goes before what is in force at the time of the call
    (dask.annotate around compute), and that before the call's own `ray_remote_args`. Dask's annotations
    `retries` and `priority` are understood too. Raises ValueError for `resources`.
    """

    def __init__(self, dsk: Any, kwargs: Dict[str, Any]) -> None:
        if kwargs.pop("resources", None) is not None:
            raise ValueError(_RESOURCES_MESSAGE)
        base = _checked(kwargs.pop("ray_remote_args", None))
        ambient = _ambient()
        if ambient.get("resources") is not None:
            raise ValueError(_RESOURCES_MESSAGE)
        self._common = _merge(base, ambient)
        self._by_key = _annotations_of(dsk)

    def for_builder(self, builder: GraphBuilder) -> Optional[Callable[[Hashable], int]]:
        """What gives the number of a key's options in `builder`; None: no task has any."""
        common = self._common
        by_key = self._by_key
        if not common and not by_key:
            return None
        numbers: Dict[str, int] = {}

        def number_of(options: Mapping[str, Any]) -> int:
            label = repr(sorted(options.items(), key=str))
            number = numbers.get(label)
            if number is None:
                made = _to_wire(options)
                number = numbers[label] = builder.option_number(made) if made is not None else 0
            return number

        usual = number_of(common)
        if not by_key:
            return lambda key: usual

        def choose(key: Hashable) -> int:
            own = {kind: values[key] for kind, values in by_key.items() if key in values}
            return number_of(_merge(common, own)) if own else usual

        return choose


def _ambient() -> Dict[str, Any]:
    get = getattr(dask, "get_annotations", None)
    found = get() if get is not None else dask.config.get("annotations", None)
    return dict(found or {})


def _annotations_of(dsk: Any) -> Dict[str, Dict[Hashable, Any]]:
    """Annotations by kind and key. Layers without any cost nothing."""
    if hasattr(dsk, "__dask_annotations__"):
        found = dsk.__dask_annotations__()
    elif hasattr(dsk, "layers"):
        found = {}
        for layer in dsk.layers.values():
            for kind, value in (layer.annotations or {}).items():
                keys = found.setdefault(kind, {})
                for key in layer:
                    own = _of_key(value, key)
                    if own is not None:
                        keys.setdefault(key, own)
    else:
        return {}
    if found.get("resources"):
        raise ValueError(_RESOURCES_MESSAGE)
    return {kind: found[kind] for kind in _KINDS if found.get(kind)}


def _of_key(value: Any, key: Hashable) -> Any:
    """What a layer's annotation says of one key: some are functions, some (in older Dasks) dicts by key."""
    if callable(value):
        return value(key)
    if isinstance(value, Mapping) and "__expanded_annotations__" in value:
        return value.get(key, value.get(str(key)))
    return value


def _merge(options: Mapping[str, Any], annotations: Mapping[str, Any]) -> Dict[str, Any]:
    merged = {**options, **_checked(annotations.get("ray_remote_args"))}
    if annotations.get("retries") is not None:
        merged.setdefault("max_retries", int(annotations["retries"]))
        merged.setdefault("retry_exceptions", True)
    if annotations.get("priority") is not None:
        merged["_priority"] = int(annotations["priority"])
    return merged


def _checked(options: Any) -> Dict[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise TypeError(f"ray_remote_args must be a dict of task options, got {options!r:.100}")
    if options.get("num_returns", 1) != 1:
        raise ValueError("ray_remote_args can't have num_returns: a Dask task has one result")
    check_options(options, TASK_OPTIONS, "ray_remote_args")
    return dict(options)


def _to_wire(options: Mapping[str, Any]) -> Optional[wire.TaskOptions]:
    made = task_options(options)
    priority = options.get("_priority", 0)
    if priority:
        made = made if made is not None else wire.TaskOptions()
        made.priority = max(-_PRIORITY_MAX, min(_PRIORITY_MAX, priority))
    return made
