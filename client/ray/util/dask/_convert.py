"""Converter: turns what stands in a Dask task's arguments into entries of ray._calls.

Two grammars meet in one graph. In the older one a tuple that begins with a callable is a task, and a value
that equals a key is a reference to it; in the newer one (dask._task_spec) nodes say what they are and
nothing is compared. Tuples and sets are searched for references only by a Dask that does so itself.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Hashable, List, Mapping, Sequence, Tuple

from ray._calls import INPUTS, NODES, Apply, Build, Call, Dep, Nested, Program, Slot, dep, first
from ray._ref import ObjectRef

try:
    from dask._task_spec import (
        Alias, DataNode, Dict as DictNode, GraphNode, NestedContainer, Task, TaskRef, _execute_subgraph,
    )

    HAS_NODES = True
except ImportError:  # Dask before 2024.9
    HAS_NODES = False

    class GraphNode:  # type: ignore[no-redef]
        """No value is one."""

    Alias = DataNode = DictNode = NestedContainer = Task = TaskRef = GraphNode
    _execute_subgraph = None

_INLINE_DEPTH_MAX = 40  # calls within calls of one task; deeper ones become steps of a Program
_CONTAINERS = (tuple, set, frozenset) if HAS_NODES else ()


class Literal:
    """A key whose value is known without running anything."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class External:
    """A key whose value is an object of elsewhere."""

    __slots__ = ("ref",)

    def __init__(self, ref: ObjectRef) -> None:
        self.ref = ref


class _Pending:
    """The type of PENDING."""

    __slots__ = ()


PENDING = _Pending()  # of keys whose dependencies are being added


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
        self._scope: Dict[Hashable, Any] = {}
        self._steps: List[Any] = []
        self.deps: List[int] = []
        self.missing: List[Hashable] = []
        self.references: Dict[int, ObjectRef] = {}  # those among deps, by their number there

    def start(self) -> None:
        self.deps = []
        self.missing = []
        self.references = {}
        self._scope = {}
        self._steps = []

    # ------------------------------------------------------------ whole tasks

    def finish(self, converted: Any) -> Tuple[Callable, Any]:
        """The function and the entry that yield a converted value."""
        if self._steps:
            steps = tuple(self._steps) + (converted,)
            return first, Nested((Program(steps, _drops(steps)),), {})
        if type(converted) is Apply:
            return converted.function, entry_of(converted.args, dict(converted.kwargs), len(self.deps))
        if type(converted) in NODES and type(converted) is not Dep:
            return first, Nested((_all_inputs(converted, len(self.deps)),), {})
        return first, (converted,)

    # ------------------------------------------------------------ keys

    def key(self, key: Hashable) -> Any:
        """What stands for the value of `key`, which must be one of the graph (or of the scope)."""
        if self._scope and key in self._scope:
            return self._scope[key]
        known = self._known.get(key)
        if type(known) is int:
            self.deps.append(known)
            return dep(len(self.deps) - 1)
        if type(known) is Literal:
            return known.value
        if type(known) is External:
            return self.reference(known.ref)
        if key not in self._graph:
            raise KeyError(key)
        self.missing.append(key)
        return None

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
        return value

    def _legacy_items(self, value: Any, kind: type) -> Any:
        items = [self.legacy(item) for item in value]
        if any(type(item) in NODES for item in items):
            return Build(kind, items)
        if all(new is old for new, old in zip(items, value)):
            return value
        return kind(items)

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
        if isinstance(value, (GraphNode, TaskRef)):
            return self.node(value)
        if type(value) is ObjectRef:
            return self.reference(value)
        return value

    def node(self, node: Any) -> Any:
        if isinstance(node, Alias) and HAS_NODES:
            return self.key(node.target)
        if isinstance(node, DataNode):
            return self.reference(node.value) if type(node.value) is ObjectRef else node.value
        if isinstance(node, NestedContainer):
            return self._container(node)
        if isinstance(node, Task):
            return self._task(node)
        if isinstance(node, TaskRef):
            return self.key(node.key)
        # A node of a kind that is not known here knows how to run itself.
        keys = list(node.dependencies)
        return Apply(call_node, (node, tuple(keys), Build(list, [self.key(key) for key in keys])))

    def _task(self, node: Any) -> Any:
        if node.func is _execute_subgraph and len(node.args) >= 3 and type(node.args[0]) is dict:
            return self._fused(node)
        if type(node).__call__ is not Task.__call__:
            keys = list(node.dependencies)
            return Apply(call_node, (node, tuple(keys), Build(list, [self.key(key) for key in keys])))
        kwargs = node.kwargs
        if kwargs:
            kwargs = {name: self.argument(value) for name, value in kwargs.items()}
        return Apply(node.func, tuple([self.argument(a) for a in node.args]), kwargs)

    def _container(self, node: Any) -> Any:
        kind = node.klass
        items = [self.argument(item) for item in node.args]
        if any(type(item) in NODES for item in items):
            return Build(kind, items)
        if kind is dict:
            return dict(zip(items[::2], items[1::2]))
        return kind(items)

    # ------------------------------------------------------------ fused tasks

    def _fused(self, node: Any) -> Any:
        """A graph within a task, as nested calls; what is used more than once becomes a step."""
        inner, out_key, in_keys = node.args[:3]
        outer = [self.argument(a) for a in node.args[3:]]
        scope_before = self._scope
        self._scope = dict(scope_before)
        for key in inner:
            self._scope.pop(key, None)
        self._scope.update(zip(in_keys, outer))
        try:
            self._convert_inner(inner, out_key, self._scope)
            return self._scope[out_key]
        finally:
            self._scope = scope_before

    def _convert_inner(self, inner: Dict, out_key: Hashable, scope: Dict[Hashable, Any]) -> None:
        uses = _count_uses(inner)
        depths: Dict[Hashable, int] = {}
        stack = [out_key]
        while stack:
            key = stack[-1]
            if key in scope:
                stack.pop()
                continue
            node = inner[key]
            dependencies = [d for d in node.dependencies if d in inner] if len(inner) > 1 else ()
            waiting = [d for d in dependencies if d not in scope]
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            converted = self.node(node)
            depth = 1 + max([depths.get(d, 0) for d in dependencies], default=0)
            if type(converted) in (Apply, Build) and (
                key != out_key and (uses.get(key, 0) > 1 or depth > _INLINE_DEPTH_MAX)
            ):
                self._steps.append(converted)
                converted = Slot(len(self._steps) - 1)
                depth = 0
            depths[key] = depth
            scope[key] = converted


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
            return Nested((_all_inputs(args[0], dep_count),), {})
        return Nested(args, kwargs)
    if straight and args:
        return INPUTS
    return Call(args, kwargs) if kwargs else args


def _all_inputs(node: Any, dep_count: int) -> Any:
    """A container of all the task's dependencies, in order, said shortly."""
    if type(node) is Build and len(node.items) == dep_count and node.items is not INPUTS:
        if all(type(item) is Dep and item.index == at for at, item in enumerate(node.items)):
            return Build(node.kind, INPUTS)
    return node


def _count_uses(inner: Dict) -> Dict[Hashable, int]:
    """How often each key is used; 2 or more where that is not plain to see."""
    uses: Dict[Hashable, int] = {}
    for node in inner.values():
        args = getattr(node, "args", None)
        if args is None:
            if isinstance(node, Alias):  # whoever uses the alias uses the target
                uses[node.target] = uses.get(node.target, 0) + 2
            continue
        for value in (*args, *node.kwargs.values()) if node.kwargs else args:
            if isinstance(value, TaskRef):
                uses[value.key] = uses.get(value.key, 0) + 1
            elif isinstance(value, GraphNode):
                weight = 1 if isinstance(value, Alias) else 2
                for key in value.dependencies:
                    uses[key] = uses.get(key, 0) + weight
    return uses


def _drops(steps: Tuple[Any, ...]) -> Tuple[Tuple[int, ...], ...]:
    last_use: Dict[int, int] = {}
    for number, step in enumerate(steps):
        for slot in _slots_in(step):
            last_use[slot] = number
    drops: List[List[int]] = [[] for _ in steps]
    for slot, number in last_use.items():
        if number < len(steps) - 1:
            drops[number].append(slot)
    return tuple([tuple(dropped) for dropped in drops])


def _slots_in(node: Any) -> List[int]:
    kind = type(node)
    if kind is Slot:
        return [node.index]
    parts: Sequence[Any] = ()
    if kind is Build and node.items is not INPUTS:
        parts = node.items
    elif kind is Apply:
        parts = (*node.args, *node.kwargs.values())
    return [slot for part in parts for slot in _slots_in(part)]


def call_node(node: Any, keys: Tuple[Hashable, ...], values: List[Any]) -> Any:
    """The function of a task that is a node of Dask's and runs itself."""
    return node(dict(zip(keys, values)))
