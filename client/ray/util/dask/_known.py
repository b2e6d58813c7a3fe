"""What a key of a graph has become: 2 * the number of a task, or one of these."""

from __future__ import annotations

from typing import Any, Callable, List

from ray._ref import ObjectRef


class Literal:
    """A key whose value is known without running anything."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class OwnValue(Literal):
    """A Literal that came of a step in the caller's process, perhaps the very target of a store."""

    __slots__ = ()


class External:
    """A key whose value is an object of elsewhere."""

    __slots__ = ("ref",)

    def __init__(self, ref: ObjectRef) -> None:
        self.ref = ref


class AtHome:
    """A key whose task runs in the caller's process, when the graph has been sent; the index-th of those."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


class Within:
    """A key whose value is made by a call within the only task that reads it: of all that `deps` stand for."""

    __slots__ = ("function", "deps")

    def __init__(self, function: Callable, deps: List[int]) -> None:
        self.function = function
        self.deps = deps


class _Pending:
    """The type of PENDING."""

    __slots__ = ()


PENDING = _Pending()  # of keys whose dependencies are being added
