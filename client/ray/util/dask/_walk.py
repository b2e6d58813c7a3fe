"""Walk: adds the tasks that some keys need to a builder, in one pass over the graph.

Tasks are added depth first, so a task's dependencies always come before it, what is not needed is never
added, and what will run together travels together. Nothing recurses along the graph: a chain of a million
tasks is as good as any other graph.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Hashable, Iterable, List, Mapping, Optional, Set

from dask.core import literal

from ray._calls import INPUTS, NODES, Apply, Dep, dep
from ray._graph import GraphBuilder, UnpicklableTaskError
from ray._ref import ObjectRef
from ray._serialize import UnpicklableError
from ray._task_hooks import TaskHooks
from ray.util.dask._client import refuse_distributeds
from ray.util.dask._convert import Converter
from ray.util.dask._home_calls import WATCHED, must_stay, watch
from ray.util.dask._home_steps import HomeSteps
from ray.util.dask._known import PENDING, External, Literal
from ray.util.dask._nodes import HAS_NODES, Alias, DataNode, GraphNode, Task, TaskRef, execute_subgraph

# Arguments of these types are keys or plain values; nothing is inside them.
_ATOMS = frozenset({str, int, float, bool, bytes, complex, type(None)})
_TUPLES_ARE_SEARCHED = HAS_NODES
_DEPS_COUNT = 64
_DEPS = tuple(dep(index) for index in range(_DEPS_COUNT))
# A longer graph's tasks are named by what their keys begin with, to keep the node's tables small.
NAMED_TASKS_MAX = 1 << 16


def name_of(key: Hashable) -> str:
    """What a task is called in logs and errors."""
    return key if type(key) is str else str(key)


def short_name_of(key: Hashable) -> str:
    """A name that many tasks share: what the key begins with; empty for the function's own name."""
    if type(key) is tuple and key and type(key[0]) is str:
        return key[0]
    return key.rpartition("-")[0] if type(key) is str else ""


def _target_of(graph: Mapping, key: Hashable) -> Optional[Hashable]:
    """The key that this one is only another name of, if it plainly is."""
    value = graph[key]
    if HAS_NODES:
        if type(value) is Alias and value.target in graph:
            return value.target
        if isinstance(value, GraphNode):
            return None
    try:
        return value if value in graph else None
    except TypeError:
        return None


class CycleError(ValueError):
    """Tasks of the graph wait for each other."""


class Walk:
    """One graph on its way to one builder.

    `known` tells what each key has become: 2 * task, a Literal, an External or, if there are `home` steps,
    AtHome. `options(key)` gives the number of a task's options; `on_task(key)` hears of each task, in the order
    of their numbers. With `put`, which makes an object of a value, tasks that can't leave this process are
    gathered in `home`; without, they are an error.
    """

    def __init__(
        self,
        graph: Mapping,
        builder: GraphBuilder,
        options: Optional[Callable[[Hashable], int]] = None,
        on_task: Optional[Callable[[Hashable], None]] = None,
        put: Optional[Callable[[Any], ObjectRef]] = None,
    ) -> None:
        watch()
        self.home: Optional[HomeSteps] = None  # made when a task needs it
        self._put = put
        self._home_hooks: Optional[TaskHooks] = None  # what goes around the steps in it
        self.known: Dict[Hashable, Any] = {}
        self._graph = graph
        self._builder = builder
        self._options = options
        self._on_task = on_task
        self._converter = Converter(graph, self.known, builder.external)
        self._stack: List[Hashable] = []
        self._wanted: Set[Hashable] = set()
        # Functions, by their ids, whose calls need a closer look.
        self._unusual = {*WATCHED, id(execute_subgraph)}
        self._name_of = name_of if len(graph) <= NAMED_TASKS_MAX else short_name_of

    def add(self, keys: Iterable[Hashable]) -> None:
        """Add what these keys need, and want their results.

        Raises KeyError for a key that is not in the graph, CycleError, UnpicklableTaskError.
        """
        wanted = list(dict.fromkeys(keys))
        for key in wanted:
            if key not in self._graph:
                raise KeyError(key)
        # What an alias stands for is wanted too, so that it is held from its making on.
        self._wanted = set(wanted)
        for key in wanted:
            while (key := _target_of(self._graph, key)) is not None and key not in self._wanted:
                self._wanted.add(key)
        self._stack = wanted[::-1]
        self._run()

    def _run(self) -> None:
        graph = self._graph
        known = self.known
        get = known.get
        stack = self._stack
        pop = stack.pop
        numbers = self._builder.numbers
        add = self._builder.add
        wanted = self._wanted
        plain = self._options is None and self._on_task is None
        name_of = self._name_of
        while stack:
            key = pop()
            before = get(key)
            if before is not None and before is not PENDING:
                continue
            try:
                value = graph[key]
            except KeyError:
                self._add_foreign(key, before)
                continue
            if not (plain and type(value) is tuple and value and callable(value[0])):
                if not (plain and type(value) is Task and self._add_node(key, value, before)):
                    self._add_any(key, value, before)
                continue
            # The usual case, almost without calls: a function of keys and plain values.
            deps: List[int] = []
            args: List[Any] = []
            missing: List[Hashable] = []
            usual = True
            try:
                for argument in value[1:]:
                    kind = type(argument)
                    if kind not in _ATOMS and (
                        kind is not tuple or (argument and callable(argument[0]))
                    ):
                        usual = False
                        break
                    found = get(argument)
                    if type(found) is int:
                        count = len(deps)
                        args.append(_DEPS[count] if count < _DEPS_COUNT else dep(count))
                        deps.append(found)
                    elif found is None:
                        if argument in graph:
                            missing.append(argument)
                        elif kind is tuple and _TUPLES_ARE_SEARCHED:
                            usual = False
                            break
                        else:
                            args.append(argument)
                    elif found is PENDING:
                        missing.append(argument)
                    elif type(found) is Literal:
                        if id(value[0]) in WATCHED:
                            usual = False
                            break
                        args.append(found.value)
                    else:
                        usual = False
                        break
            except TypeError:  # a tuple with something in it that has no hash
                usual = False
            number = numbers.get(id(value[0])) if usual else None
            if number is None and usual:
                number = self._number_of(value[0])
            if number is None:
                self._add_any(key, value, before)
            elif missing:
                self._push(key, before, missing)
            else:
                task = add(
                    number, INPUTS if deps and len(deps) == len(args) else tuple(args), deps, name_of(key)
                )
                known[key] = 2 * task
                if key in wanted:
                    self._builder.want(task)

    def _add_foreign(self, key: Hashable, before: Any) -> None:
        """Add what is no key of the graph."""
        raise KeyError(key)

    def _add_node(self, key: Hashable, node: Any, before: Any) -> bool:
        """As the usual case of _run, for a Task. False: it is not that usual."""
        function = node.func
        if node.kwargs or id(function) in self._unusual:
            return False
        get = self.known.get
        deps: List[int] = []
        args: List[Any] = []
        missing: List[Hashable] = []
        for argument in node.args:
            kind = type(argument)
            if kind is TaskRef:
                found = get(argument.key)
                if type(found) is int:
                    args.append(dep(len(deps)))
                    deps.append(found)
                elif (found is None or found is PENDING) and argument.key in self._graph:
                    missing.append(argument.key)
                else:
                    return False
            elif kind in _ATOMS:
                args.append(argument)
            else:
                return False
        if missing:
            self._push(key, before, missing)
            return True
        builder = self._builder
        number = builder.numbers.get(id(function))
        if number is None:
            number = self._number_of(function)
            if number is None:
                return False
        task = builder.add(
            number, INPUTS if deps and len(deps) == len(args) else tuple(args), deps, self._name_of(key)
        )
        self.known[key] = 2 * task
        if key in self._wanted:
            builder.want(task)
        return True

    def _number_of(self, function: Any) -> Optional[int]:
        """None if the function has to be put, or can't be pickled, which _add_task tells; or if it is a value, or
        calls of it may have to stay in this process."""
        if type(function) is literal:
            return None
        if self._put is not None and id(function) not in WATCHED and self._converter.is_watched(function):
            return None
        refuse_distributeds(function)
        try:
            return self._builder.function_number(function)
        except UnpicklableError:
            return None

    def _push(self, key: Hashable, before: Any, missing: List[Hashable]) -> None:
        """Add what is missing first, then come back."""
        if before is PENDING:
            # Everything that was missing the first time has been added since, or waits for this key.
            raise CycleError(f"the graph has a cycle: {self._find_cycle(key)}")
        self.known[key] = PENDING
        self._stack.append(key)
        missing.reverse()
        self._stack += missing

    def _find_cycle(self, key: Hashable) -> str:
        """The keys that wait for each other, as text. They are all PENDING, or missing from `known`."""
        path: List[Hashable] = [key]
        while True:
            for follower in self._missing_of(path[-1]):
                if follower in path:
                    path = path[path.index(follower):] + [follower]
                    return " needs ".join([repr(step) for step in path])
                if self.known.get(follower) is PENDING:
                    path.append(follower)
                    break
            else:
                return " needs ".join([repr(step) for step in path])

    def _missing_of(self, key: Hashable) -> List[Hashable]:
        self._convert(self._graph[key])
        return list(self._converter.missing)

    # ------------------------------------------------------------ every other value of a key

    def _convert(self, value: Any) -> Any:
        converter = self._converter
        converter.start()
        if isinstance(value, (GraphNode, TaskRef)):
            return converter.node(value)
        return converter.legacy(value)

    def _add_any(self, key: Hashable, value: Any, before: Any) -> None:
        converter = self._converter
        known = self.known
        if type(value) is ObjectRef:
            known[key] = External(value)
            return
        if type(value) is DataNode and type(value.value) is ObjectRef:
            known[key] = External(value.value)
            return
        try:
            if self._is_own_key(key, value):
                known[key] = Literal(value)
                return
            converted = self._convert(value)
        except KeyError as error:
            raise KeyError(
                f"{key!r} needs {error.args[0]!r}, which is not in the graph"
            ) from None
        if converter.missing:
            self._push(key, before, converter.missing)
            return
        if type(converted) is Dep:  # an alias
            encoded = converter.deps[converted.index]
            ref = converter.references.get(encoded)
            what = converter.home_inputs.get(encoded, encoded) if ref is None else External(ref)
            known[key] = what
            if type(what) is int and key in self._wanted:  # also if a fused task turns out to be an alias
                self._builder.want(what >> 1)
            return
        if type(converted) not in NODES:
            known[key] = Literal(converted)
            return
        if (converter.meets_watched or converter.home_inputs) and self._put is not None:
            self._add_home(key, converted)
            return
        if type(converted) is Apply and type(converted.function) is literal and key in self._wanted:
            if self._on_task is None:
                known[key] = Literal(converted.function.data)  # quoted: the caller gets the very object back
                return
        function, entry = converter.finish(converted)
        self._add_task(key, function, entry)

    def _add_home(self, key: Hashable, converted: Any) -> None:
        """Add a task of which some steps may have to run in this process."""
        converter = self._converter
        if not converter.home_inputs and not must_stay(converted, converter.steps):
            self._add_task(key, *converter.finish(converted))
            return
        if self.home is None:
            assert self._put is not None
            builder = self._builder
            self.home = HomeSteps(
                self._add_remote, builder.want, builder.external, self._put, self._home_hooks
            )
        what = self.known[key] = self.home.add(key, converted, converter)
        if type(what) is int and key in self._wanted:
            self._builder.want(what >> 1)

    def _add_remote(self, key: Hashable, function: Any, entry: Any, deps: List[int]) -> int:
        """Add a task that is a part of `key`'s."""
        wanted, self._wanted = self._wanted, set()
        before = self.known.get(key)
        self._converter.deps = deps
        self._add_task(key, function, entry)
        self._wanted = wanted
        part = self.known.pop(key)
        if before is not None:
            self.known[key] = before
        return part

    @staticmethod
    def _is_own_key(key: Hashable, value: Any) -> bool:
        """A value that equals its own key can't mean itself."""
        if type(value) is not type(key) or isinstance(value, GraphNode):
            return False
        try:
            hash(value)
        except TypeError:
            return False  # no key at all
        return bool(value == key)

    def _add_task(self, key: Hashable, function: Any, entry: Any) -> None:
        builder = self._builder
        name = self._name_of(key)
        options = self._options(key) if self._options is not None else 0
        if id(function) not in builder.numbers:
            refuse_distributeds(function)
        try:
            number = builder.function_number(function)
        except UnpicklableError as error:
            raise UnpicklableTaskError(
                f"{key!r} can't be sent to a worker: its function {error}"
            ) from error
        deps = self._converter.deps
        if number is None:
            task = builder.add_with_put_function(function, entry, deps, name, options)
        else:
            task = builder.add(number, entry, deps, name, options)
        self.known[key] = 2 * task
        if self._on_task is not None:
            self._on_task(key)
        if key in self._wanted:
            builder.want(task)
