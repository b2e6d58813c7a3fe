"""Entries in their shortest forms: of a converted task, and of one that gets more arguments or dependencies."""

from __future__ import annotations

from typing import Any, Dict, Tuple

from ray._calls import INPUTS, NODES, Build, Call, Dep, Nested, Program, dep


def entry_of(args: Tuple[Any, ...], kwargs: Dict[str, Any], dep_count: int) -> Any:
    """The shortest entry for converted arguments of a task that has `dep_count` dependencies."""
    flat = True
    straight = not kwargs and len(args) == dep_count
    for position, value in enumerate(args):
        kind = type(value)
        if kind is Dep:
            if value.index != position:
                straight = False
        else:
            straight = False
            if kind in NODES:
                flat = False
                break
    if flat and kwargs:
        flat = not any(type(v) in NODES and type(v) is not Dep for v in kwargs.values())
    if not flat:
        if len(args) == 1 and not kwargs:
            return Nested((all_inputs(args[0], dep_count),), {})
        return Nested(args, kwargs)
    if straight and args:
        return INPUTS
    return Call(args, kwargs) if kwargs else args


def all_inputs(node: Any, dep_count: int) -> Any:
    """A container of all the task's dependencies, in order, said shortly."""
    if type(node) is Build and len(node.items) == dep_count and node.items is not INPUTS:
        if all(type(item) is Dep and item.index == at for at, item in enumerate(node.items)):
            return Build(node.kind, INPUTS)
    return node


def explicit(entry: Any, input_count: int) -> Any:
    """The same entry for a task that has more dependencies than those `input_count` of its own."""
    if entry is INPUTS:
        return tuple([dep(index) for index in range(input_count)])
    if type(entry) is Nested and len(entry.args) == 1 and type(entry.args[0]) is Build:
        build = entry.args[0]
        if build.items is INPUTS:
            items = [dep(index) for index in range(input_count)]
            return Nested((Build(build.kind, items),), entry.kwargs)
    return entry


def with_first(first: Any, entry: Any, input_count: int) -> Any:
    """The entry with one more positional argument, in front."""
    entry = explicit(entry, input_count)
    if type(entry) is tuple:
        return (first,) + entry
    if type(entry) is Program:  # has its own functions; this one is only its name
        return entry
    return type(entry)((first,) + entry.args, entry.kwargs)
