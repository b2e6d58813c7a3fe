"""Which options each task of a graph gets: from `ray_remote_args` and from Dask's annotations.

What is said of a key (an annotation of its layer) goes before what is in force at the time of the call
(dask.annotate around compute), and that before the call's own `ray_remote_args`. Dask's optimization
replaces annotated layers by others that have no annotations; those of the graph as it was built are found
by the keys, also by those that were fused into a task. A graph without annotations costs a look at each of
its layers.
"""

from __future__ import annotations

import warnings
from typing import Any, Callable, Dict, Hashable, Iterator, List, Mapping, Optional

import dask
from dask.highlevelgraph import HighLevelGraph

from ray._graph import GraphBuilder
from ray._options import TASK_OPTIONS, check_options, task_options
from ray._wire import session_pb2 as wire

try:
    from dask._expr import Expr as _Expr
except ImportError:  # a Dask without expressions
    _Expr = None

_KINDS = ("ray_remote_args", "retries", "priority")
# Dask's own words, which may stand among ray_remote_args too.
_NO_MEANING = frozenset({"workers", "allow_other_workers"})
_RESOURCES_MESSAGE = (
    "Dask's resources= is not understood by Raylet: its names mean something else there. Pass "
    'ray_remote_args={"num_cpus": ..., "num_gpus": ..., "resources": {...}}, or annotate with '
    "dask.annotate(ray_remote_args=...)."
)
_OUR_NAMES = frozenset({"ray_callbacks", "ray_persist", "ray_remote_args", "_ray_enable_progress_bar"})
# Options of tasks that are easily given beside ray_remote_args rather than in it.
_MISPLACED = frozenset({"max_retries", "num_cpus", "num_gpus", "retry_exceptions", "scheduling_strategy"})
_PRIORITY_MAX = 1 << 20
_warned: set = set()


class OptionChooser:
    """The options of one computation's tasks.

    Takes `ray_remote_args`, `resources`, and distributed's `retries` and `priority` out of `kwargs`. Raises
    ValueError for `resources` and for options that belong into ray_remote_args, TypeError for a name that
    begins with "ray_" and is none, and what _options.check_options raises.
    """

    def __init__(self, dsk: Any, kwargs: Dict[str, Any]) -> None:
        if kwargs.pop("resources", None) is not None:
            raise ValueError(_RESOURCES_MESSAGE)
        base = _checked(kwargs.pop("ray_remote_args", None))
        if kwargs:
            _check_names(kwargs)
            _take_dasks(base, kwargs)
        ambient = _ambient()
        _check_kinds(ambient)
        self._common = _merge(base, ambient)
        self._by_key = _annotations_of(dsk)

    def for_builder(
        self, builder: GraphBuilder, graph: Mapping
    ) -> Optional[Callable[[Hashable], int]]:
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
            found = [by_key[one] for one in _keys_within(key, graph.get(key)) if one in by_key]
            return number_of(_merge(common, _joined(found))) if found else usual

        return choose


# ------------------------------------------------------------ finding annotations


def _ambient() -> Dict[str, Any]:
    get = getattr(dask, "get_annotations", None)
    found = get() if get is not None else dask.config.get("annotations", None)
    return dict(found or {})


def _layers_of(dsk: Any) -> Iterator[Any]:
    """Layers of a HighLevelGraph, or of those that an expression was made of."""
    stack = [dsk]
    seen = set()
    while stack:
        one = stack.pop()
        if isinstance(one, HighLevelGraph):
            yield from one.layers.values()
        elif _Expr is not None and isinstance(one, _Expr) and id(one) not in seen:
            seen.add(id(one))
            stack.extend(one.operands)


def _annotations_of(dsk: Any) -> Dict[Hashable, Dict[str, Any]]:
    """Annotations by key."""
    if type(dsk) is dict:
        return {}
    found: Dict[Hashable, Dict[str, Any]] = {}
    for layer in _layers_of(dsk):
        annotations = getattr(layer, "annotations", None)
        if not annotations:
            continue
        _check_kinds(annotations)
        kinds = {
            kind: value
            for kind, value in annotations.items()
            # Hints that Dask's own shuffle gives, key by key.
            if kind in _KINDS and not (isinstance(value, Mapping) and "__expanded_annotations__" in value)
        }
        if not kinds:
            continue
        for key in layer.get_output_keys():
            own = found.setdefault(key, {})
            for kind, value in kinds.items():
                value = value(key) if callable(value) else value
                if value is not None:
                    own.setdefault(kind, value)
    return found


def _check_kinds(annotations: Mapping[str, Any]) -> None:
    if annotations.get("resources") is not None:
        raise ValueError(_RESOURCES_MESSAGE)
    for kind in _NO_MEANING:
        if annotations.get(kind) is not None:
            _warn_once(kind, f"dask.annotate({kind}=...)")


def _check_names(kwargs: Mapping[str, Any]) -> None:
    """What is meant for Raylet and would do nothing; other names are Dask's."""
    for name in kwargs:
        if name in _MISPLACED:
            raise ValueError(
                f"{name}= has no effect as an argument of compute or persist: pass "
                f"ray_remote_args={{{name!r}: {kwargs[name]!r:.50}}}"
            )
        if name.startswith(("ray_", "_ray_")) and name not in _OUR_NAMES:
            raise TypeError(
                f"{name}= is not known to Raylet's scheduler; it takes {', '.join(sorted(_OUR_NAMES))}"
            )


def _warn_once(name: str, where: str) -> None:
    if name not in _warned:
        _warned.add(name)
        warnings.warn(
            f"{where} changes nothing on Raylet, which chooses itself where a task runs; "
            'ray_remote_args={"resources": {...}} keeps tasks to nodes that have a resource',
            UserWarning,
            stacklevel=5,
        )


def _keys_within(key: Hashable, value: Any) -> List[Hashable]:
    """The key itself and those that Dask has fused into its task."""
    keys: List[Hashable] = [key]
    stack = [value]
    while stack:
        args = getattr(stack.pop(), "args", ())
        inner = args[0] if args else None
        if type(inner) is dict:
            for inner_key, node in inner.items():
                keys.append(inner_key)
                stack.append(node)
    return keys


def _joined(found: List[Dict[str, Any]]) -> Dict[str, Any]:
    """The annotations of a task that was fused of several: it needs the most that one of them needs."""
    if len(found) == 1:
        return found[0]
    joined: Dict[str, Any] = {}
    for annotations in found:
        for kind, value in annotations.items():
            if kind == "ray_remote_args" and isinstance(joined.get(kind), Mapping):
                joined[kind] = _most_of(joined[kind], value)
            elif kind in joined and kind != "ray_remote_args":
                joined[kind] = max(joined[kind], value)
            else:
                joined.setdefault(kind, value)
    return joined


def _most_of(one: Mapping[str, Any], other: Mapping[str, Any]) -> Dict[str, Any]:
    most = dict(one)
    for name, value in other.items():
        known = most.get(name)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            most[name] = _most_of(known, value)
        elif isinstance(known, (int, float)) and isinstance(value, (int, float)):
            most[name] = max(known, value)
        else:
            most[name] = value
    return most


# ------------------------------------------------------------ what they come to


def _merge(options: Mapping[str, Any], annotations: Mapping[str, Any]) -> Dict[str, Any]:
    merged = {**options, **_checked(annotations.get("ray_remote_args"))}
    _take_dasks(merged, annotations)
    return merged


def _take_dasks(options: Dict[str, Any], words: Mapping[str, Any]) -> None:
    """Dask's retries= and priority= in our terms. An explicit max_retries stays."""
    if words.get("retries") is not None:
        options.setdefault("max_retries", int(words["retries"]))
        options.setdefault("retry_exceptions", True)
    if words.get("priority") is not None:
        options["_priority"] = int(words["priority"])


def _checked(options: Any) -> Dict[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise TypeError(f"ray_remote_args must be a dict of task options, got {options!r:.100}")
    if options.get("num_returns", 1) not in (1, None):
        raise ValueError("ray_remote_args can't have num_returns: a Dask task has one result")
    known = {name: value for name, value in options.items() if name not in ("retries", "priority")}
    for name in _NO_MEANING.intersection(known):
        del known[name]
        _warn_once(name, f'ray_remote_args={{"{name}": ...}}')
    check_options(known, TASK_OPTIONS, "ray_remote_args")
    _take_dasks(known, options)
    return known


def _to_wire(options: Mapping[str, Any]) -> Optional[wire.TaskOptions]:
    made = task_options(options)
    priority = options.get("_priority", 0)
    if priority:
        made = made if made is not None else wire.TaskOptions()
        made.priority = max(-_PRIORITY_MAX, min(_PRIORITY_MAX, priority))
    return made
