"""Converter: turns what stands in a Dask task's arguments into entries of ray._calls.

Two grammars meet in one graph. In the older one a tuple that begins with a callable is a task, and a value
that equals a key is a reference to it; in the newer one (dask._task_spec) nodes say what they are and
nothing is compared. Tuples and sets are searched for references only by a Dask that does so itself.
"""

from __future__ import annotations

from types import GeneratorType
from typing import Any, Callable, Dict, Hashable, List, Mapping, Optional, Sequence, Tuple

from ray._calls import NODES, Apply, Build, Dep, Nested, Program, Slot, dep, first, slot
from ray._entries import all_inputs, entry_of
from ray._ref import ObjectRef, RefKey
from ray.util.dask._client import refuse_distributeds
from ray.util.dask._home_calls import WATCHED, is_callers_own, may_be_callers_own
from ray.util.dask._known import AtHome, External, Literal, Within
from ray.util.dask._nodes import (
    HAS_NODES, Alias, DataNode, GraphNode, NestedContainer, Task, TaskRef, execute_subgraph,
)

_CONTAINERS = (tuple, set, frozenset) if HAS_NODES else ()


class Converter:
    """Converts the arguments of one task at a time: start() first, then any of the others.

    `known` maps keys to 2 * task, Literal or External. Keys of the graph that it lacks are gathered in
    `missing`; then the results of this task are of no use, and it has to be converted again later.
    """

    def __init__(
        self, graph: Mapping, known: Dict[Hashable, Any], external: Callable[[ObjectRef], int]
    ) -> None:
        self._graph = graph
        self._known = known
        self._external = external
        self._scope: Optional[Dict[Hashable, Any]] = None  # of the fused task that is being converted
        self._steps: List[Any] = []
        self._last_uses: Dict[int, int] = {}  # of slots, by steps
        self._made_within: Dict[Hashable, Slot] = {}  # what a step makes that is no task of its own
        self.deps: List[int] = []
        self.missing: List[Hashable] = []
        self.references: Dict[int, ObjectRef] = {}  # those among deps, by their number there
        self.home_inputs: Dict[int, AtHome] = {}  # those among deps, by the number that stands for them
        self.meets_watched = False  # something was met that may have to stay in the caller's process
        self._watched: Dict[int, bool] = {}  # by ids of functions, whether they may
        self._judged: List[Any] = []  # those functions, so that their ids stay their own

    def start(self) -> None:
        self.deps = []
        self.missing = []
        self.references = {}
        self.home_inputs = {}
        self.meets_watched = False
        self._scope = None
        if self._steps:
            self._steps = []
            self._last_uses = {}
            self._made_within = {}

    def is_watched(self, function: Any) -> bool:
        """Whether calls of a function, or with it as an argument, may have to stay in the caller's process."""
        found = self._watched.get(id(function))
        if found is None:
            found = self._watched[id(function)] = id(function) in WATCHED or is_callers_own(function)
            self._judged.append(function)
        return found

    # ------------------------------------------------------------ whole tasks

    @property
    def steps(self) -> List[Any]:
        """Function, args and kwargs (or None) of each call before the converted value's own."""
        return self._steps

    def finish(self, converted: Any) -> Tuple[Callable, Any]:
        """The function and the entry that yield a converted value."""
        steps = self._steps
        if steps:
            # What is used after the last step is the result.
            drops: List[List[int]] = [[] for _ in steps]
            for index, last in self._last_uses.items():
                if last < len(steps) and not (type(converted) is Slot and converted.index == index):
                    drops[last].append(index)
            program = Program(tuple(steps), tuple([tuple(dropped) for dropped in drops]), converted)
            return steps[-1][0], program
        if type(converted) is Apply:
            return converted.function, entry_of(converted.args, dict(converted.kwargs), len(self.deps))
        if type(converted) in NODES and type(converted) is not Dep:
            return first, Nested((all_inputs(converted, len(self.deps)),), {})
        return first, (converted,)

    # ------------------------------------------------------------ keys

    def key(self, key: Hashable) -> Any:
        """What stands for the value of `key`, which must be one of the graph (or of the scope)."""
        if self._scope is not None:
            # Within a fused task: its own keys hide the graph's.
            found = self._scope[key]
            if type(found) is Slot:
                last_uses = self._last_uses
                if last_uses.get(found.index) != _NEVER_DROPPED:
                    last_uses[found.index] = len(self._steps)
            return found
        known = self._known.get(key)
        if type(known) is int:
            self.deps.append(known)
            return dep(len(self.deps) - 1)
        if type(known) is Literal:
            return self._constant(known.value)
        if type(known) is External:
            return self.reference(known.ref)
        if type(known) is AtHome:
            encoded = -1 - known.index
            self.home_inputs[encoded] = known
            self.deps.append(encoded)
            return dep(len(self.deps) - 1)
        if type(known) is Within:
            return self._within(key, known)
        if key not in self._graph:
            if type(key) is RefKey:
                return self.reference(key.ref)
            raise KeyError(key)
        self.missing.append(key)
        return None

    def _within(self, key: Hashable, known: Within) -> Slot:
        made = self._made_within.get(key)
        if made is not None:
            self._last_uses[made.index] = _NEVER_DROPPED
            return made
        first_dep = len(self.deps)
        self.deps += known.deps
        args = tuple(map(dep, range(first_dep, len(self.deps))))
        made = self._made_within[key] = self._step(Apply(known.function, args))
        return made

    def reference(self, ref: ObjectRef) -> Dep:
        encoded = self._external(ref)
        self.references[encoded] = ref
        self.deps.append(encoded)
        return dep(len(self.deps) - 1)

    # ------------------------------------------------------------ the older grammar

    def legacy(self, value: Any) -> Any:
        """A value where references are told by comparison with keys."""
        kind = type(value)
        if kind is list:
            return self._legacy_items(value, list)
        if kind is tuple and value and callable(value[0]):
            if self._watched.get(id(value[0]), True) and self.is_watched(value[0]):
                self.meets_watched = True
            return Apply(value[0], tuple([self.legacy(a) for a in value[1:]]))
        if isinstance(value, GraphNode) or (HAS_NODES and isinstance(value, TaskRef)):
            return self.node(value)
        if kind is ObjectRef:
            return self.reference(value)
        if kind is dict:
            return self._legacy_dict(value)
        try:
            is_key = value in self._known or value in self._graph
        except TypeError:
            is_key = False
        if is_key:
            return self.key(value)
        if kind in _CONTAINERS:
            return self._legacy_items(value, kind)
        if HAS_NODES and isinstance(value, tuple) and hasattr(value, "_fields"):
            return self._named_tuple(value)
        return self.argument(value)

    def _legacy_items(self, value: Any, kind: type) -> Any:
        if kind is list:
            keys = self._legacy_keys(value)
            if keys is not None:
                return keys
        items = [self.legacy(item) for item in value]
        if any(type(item) in NODES for item in items):
            return Build(kind, items)
        if all(new is old for new, old in zip(items, value)):
            return value
        return kind(items)

    def _legacy_keys(self, keys: list) -> Optional[Build]:
        """A list of nothing but keys, as what takes many results into one has it; None for any other list."""
        try:
            found = list(map(self._known.get, keys))
        except TypeError:
            return None
        kinds = set(map(type, found))
        if kinds == {int}:
            first_dep = len(self.deps)
            self.deps += found
            return Build(list, list(map(dep, range(first_dep, len(self.deps)))))
        if kinds == {type(None)} and all(map(self._graph.__contains__, keys)):
            self.missing += keys
            return Build(list, [])
        return None

    def _legacy_dict(self, value: dict) -> Any:
        """Only nodes are looked for in a dict, never keys."""
        if not any(isinstance(item, (GraphNode, TaskRef, ObjectRef)) for item in value.values()):
            return value
        items: List[Any] = []
        for name, item in value.items():
            items += (name, self.argument(item))
        return Build(dict, items)

    def _named_tuple(self, value: Any) -> Any:
        items = [self.legacy(item) for item in value]
        if not any(type(item) in NODES for item in items):
            return value
        return Apply(type(value), tuple(items))

    # ------------------------------------------------------------ the newer grammar

    def argument(self, value: Any) -> Any:
        """An argument of a Task: a node, or a value as it is."""
        try:
            handler = _ARGUMENT_KINDS[type(value)]
        except KeyError:
            handler = _handler_of(type(value), _ARGUMENT_KINDS, Converter._inner_task)
        return value if handler is None else handler(self, value)

    def node(self, node: Any) -> Any:
        """A node that is the value of a key."""
        try:
            handler = _NODE_KINDS[type(node)]
        except KeyError:
            handler = _handler_of(type(node), _NODE_KINDS, Converter._task)
        return handler(self, node)

    def inner(self, value: Any) -> Any:
        """A value of a key as an argument of another task, which is to make it."""
        return self.argument(value) if isinstance(value, GraphNode) else self.legacy(value)

    def _alias(self, node: Any) -> Any:
        return self.key(node.target)

    def _task_ref(self, node: Any) -> Any:
        return self.key(node.key)

    def _data(self, node: Any) -> Any:
        return self.reference(node.value) if type(node.value) is ObjectRef else self._constant(node.value)

    def _constant(self, value: Any) -> Any:
        if type(value) is GeneratorType:
            self.meets_watched = True
        return value

    def _task(self, node: Any) -> Any:
        if node.func is execute_subgraph and len(node.args) >= 3 and type(node.args[0]) is dict:
            return self._fused(node)
        return self._apply(node)

    def _apply(self, node: Any) -> Apply:
        if self._watched.get(id(node.func), True) and self.is_watched(node.func):
            self.meets_watched = True
        argument = self.argument
        args = tuple([argument(a) for a in node.args])
        if node.kwargs:
            return Apply(node.func, args, {name: argument(a) for name, a in node.kwargs.items()})
        return Apply(node.func, args)

    def _inner_task(self, node: Any) -> Any:
        """A task in another one's arguments."""
        converted = self._task(node)
        if type(converted) is Slot:  # used when all of the task's steps have run
            self._last_uses[converted.index] = _NEVER_DROPPED
        return converted

    def _own_call(self, node: Any) -> Apply:
        """A node of a kind that is not known here knows how to run itself."""
        keys = list(node.dependencies)
        return Apply(call_node, (node, tuple(keys), Build(list, [self.key(key) for key in keys])))

    def _container(self, node: Any) -> Any:
        kind = node.klass
        items: List[Any] = []
        # Nobody looks on as a list of thousands of references is made, almost without calls.
        plain = self._scope is None and type(self) is Converter
        known = self._known
        graph = self._graph
        deps = self.deps
        for item in node.args:
            if plain and type(item) is TaskRef:
                found = known.get(item.key)
                if type(found) is int:
                    items.append(dep(len(deps)))
                    deps.append(found)
                    continue
                if found is None and item.key in graph:
                    self.missing.append(item.key)
                    continue
            items.append(self.argument(item))
        for item in items:
            if type(item) in NODES:
                return Build(kind, items)
        if kind is dict:
            return dict(zip(items[::2], items[1::2]))
        return kind(items)

    def _callable(self, value: Any) -> Any:
        """Something that can be called, or that its class says may be the caller's own, as a plain value."""
        if self._watched.get(id(value), True) and self.is_watched(value):
            self.meets_watched = True
        return value

    # ------------------------------------------------------------ fused tasks

    def _fused(self, node: Any) -> Any:
        """A graph within a task: each of its tasks becomes a step of this task's Program."""
        inner, out_key, in_keys = node.args[:3]
        scope = dict(zip(in_keys, [self.argument(a) for a in node.args[3:]]))
        outer_scope, self._scope = self._scope, scope
        try:
            for key in _inner_order(inner, out_key, scope):
                if key not in scope:
                    scope[key] = self._step(self.node(inner[key]))
            return scope[out_key]
        finally:
            self._scope = outer_scope

    def _step(self, converted: Any) -> Any:
        kind = type(converted)
        if kind is Apply:
            step = (converted.function, converted.args, converted.kwargs or None)
        elif kind is Build:
            step = (first, (converted,), None)
        else:
            return converted
        self._steps.append(step)
        return slot(len(self._steps) - 1)


def _inner_order(inner: Dict, out_key: Hashable, scope: Dict) -> Sequence[Hashable]:
    """The keys of a fused graph with dependencies first; most often that is the order they are in."""
    done = set(scope)
    for key, node in inner.items():
        if not node.dependencies <= done:
            break
        done.add(key)
    else:
        return list(inner)
    order: Dict[Hashable, None] = {}
    stack = [out_key]
    while stack:
        key = stack[-1]
        if key in scope or key in order:
            stack.pop()
            continue
        waiting = [d for d in inner[key].dependencies if d not in scope and d not in order]
        if waiting:
            stack.extend(waiting)
        else:
            order[key] = None
            stack.pop()
    return list(order)


_NEVER_DROPPED = 1 << 60
_Handler = Callable[[Converter, Any], Any]
_NODE_KINDS: Dict[type, _Handler] = {}
_ARGUMENT_KINDS: Dict[type, Optional[_Handler]] = {}
_KINDS_KEPT_MAX = 10_000


def _handler_of(kind: type, kinds: Dict[type, Any], task_handler: _Handler) -> Optional[_Handler]:
    """What converts values of this class; None: nothing does, they are plain values."""
    handler: Optional[_Handler] = None
    if kind.__name__ == "Future":
        refuse_distributeds(kind)
    if kind is ObjectRef:
        handler = Converter.reference
    elif HAS_NODES:
        if issubclass(kind, Alias):
            handler = Converter._alias
        elif issubclass(kind, DataNode):
            handler = Converter._data
        elif issubclass(kind, NestedContainer):
            handler = Converter._container
        elif issubclass(kind, Task):
            handler = task_handler if kind.__call__ is Task.__call__ else Converter._own_call
        elif issubclass(kind, TaskRef):
            handler = Converter._task_ref
        elif issubclass(kind, GraphNode):
            handler = Converter._own_call
    if handler is None and may_be_callers_own(kind):
        handler = Converter._callable
    if len(kinds) >= _KINDS_KEPT_MAX:
        kinds.clear()
    kinds[kind] = handler
    return handler


def call_node(node: Any, keys: Tuple[Hashable, ...], values: List[Any]) -> Any:
    """The function of a task that is a node of Dask's and runs itself."""
    return node(dict(zip(keys, values)))
