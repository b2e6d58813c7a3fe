"""Lifter: takes references and large constants out of a task's arguments, and makes them its dependencies."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

from ray._calls import INPUTS, NODES, Apply, Build, Call, Dep, Nested, Program, Quote, dep
from ray._ref import ObjectRef
from ray._serialize import dump_with

if TYPE_CHECKING:
    from ray._graph import GraphBuilder

# A constant larger than this is put once instead of being sent with every group that needs it.
BIG_BYTES = 64 << 10
_SMALL_BUFFER_BYTES = 1024  # not worth to be counted by itself: its bytes are in the pickle


class Lifter:
    """Rewrites one task's entry. `deps` are the task's, and grow; the builder puts what is large, once."""

    def __init__(self, builder: "GraphBuilder", deps: List[int]) -> None:
        self._builder = builder
        self._deps = deps  # grows

    def entry(self, entry: Any) -> Any:
        """The entry with a Dep for each of them."""
        if entry is INPUTS:
            return entry
        if type(entry) is Program:
            return self._node(entry)
        args: Tuple[Any, ...] = entry if type(entry) is tuple else entry.args
        kwargs: Dict[str, Any] = {} if type(entry) is tuple else entry.kwargs
        new_args = tuple([self.value(a) for a in args])
        new_kwargs = {name: self.value(a) for name, a in kwargs.items()}
        changed = list(new_args) + list(new_kwargs.values())
        if any(type(a) in NODES and type(a) is not Dep for a in changed):
            return Nested(new_args, new_kwargs)
        return Call(new_args, new_kwargs) if new_kwargs else new_args

    def value(self, value: Any) -> Any:
        kind = type(value)
        if kind in NODES:
            return self._node(value)
        if self._builder.resolve_nested:
            value = self._references(value)
            if type(value) in NODES:
                return self._node(value)
        contained: List[bytes] = []
        buffer_bytes = 0

        def count(buffer: pickle.PickleBuffer) -> bool:
            nonlocal buffer_bytes
            try:
                size = buffer.raw().nbytes
            except BufferError:
                return True
            if size < _SMALL_BUFFER_BYTES:
                return True
            buffer_bytes += size
            return False

        blob = dump_with(value, contained, count)
        if len(blob) + buffer_bytes > BIG_BYTES:
            return self._dependency(self._builder.put_once(value))
        if contained:
            position = self._builder.next_position()
            self._builder.borrow(position, contained)
        return value

    def _node(self, node: Any) -> Any:
        kind = type(node)
        if kind is Build:
            if node.items is INPUTS:
                return node
            return Build(node.kind, [self.value(item) for item in node.items])
        if kind is Apply:
            kwargs = {name: self.value(a) for name, a in node.kwargs.items()}
            return Apply(node.function, tuple([self.value(a) for a in node.args]), kwargs)
        if kind is Program:
            return node.mapped(self.value)
        if kind is Quote:
            return Quote(self.entry(node.entry))
        return node

    def _references(self, value: Any) -> Any:
        """The value, with nodes in place of the references in its containers."""
        kind = type(value)
        if kind is ObjectRef:
            return self._dependency(value)
        if kind in (list, tuple, set, frozenset):
            items = [self._references(item) for item in value]
            if any(type(item) in NODES for item in items):
                return Build(kind, items)
        elif kind is dict:
            items = []
            for key, item in value.items():
                items += (key, self._references(item))
            if any(type(item) in NODES for item in items):
                return Build(dict, items)
        return value

    def _dependency(self, ref: ObjectRef) -> Dep:
        encoded = self._builder.external(ref)
        try:
            return dep(self._deps.index(encoded))
        except ValueError:
            self._deps.append(encoded)
            return dep(len(self._deps) - 1)
