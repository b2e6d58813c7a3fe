"""Finds the lazy objects in a call's arguments, and puts their values in their place on the worker."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence, Tuple


class Input:
    """Stands for the value of one lazy object in arguments that travel."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> tuple:
        return Input, (self.index,)


def split(arguments: Any, kind: type) -> Tuple[Any, List[Any]]:
    """`arguments` with an Input for each object of class `kind` in it, and these objects, each once."""
    numbers: Dict[int, int] = {}
    found: List[Any] = []

    def replace(item: Any) -> Any:
        if not isinstance(item, kind):
            return item
        number = numbers.get(id(item))
        if number is None:
            number = numbers[id(item)] = len(found)
            found.append(item)
        return Input(number)

    return _map(arguments, replace), found


def join(arguments: Any, values: Sequence[Any]) -> Any:
    """`arguments` with values for Inputs."""
    if not values:
        return arguments
    return _map(arguments, lambda item: values[item.index] if type(item) is Input else item)


def _map(value: Any, replace: Callable[[Any], Any]) -> Any:
    """Containers with each leaf replaced; those in which nothing was are the same objects as before."""
    kind = type(value)
    if kind is dict:
        items = {key: _map(item, replace) for key, item in value.items()}
        return value if all(items[key] is value[key] for key in value) else items
    if kind in (list, set, frozenset) or isinstance(value, tuple):
        old = list(value)
        new = [_map(item, replace) for item in old]
        if all(after is before for after, before in zip(new, old)) and len(new) == len(old):
            return replace(value)
        return kind(*new) if hasattr(kind, "_fields") else kind(new)
    return replace(value)
