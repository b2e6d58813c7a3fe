"""HomeSteps: tasks that can't leave the caller's process (ray.util.dask._home_calls) run there.

A step at home that needs no task's result runs while the graph is walked, and what it yields travels as a
constant. One that does is put off until the graph is sent, and then runs in the order of the walk as soon as its
inputs are there; so does what needs the result of such a one, or an iterator, which does its work as it is read.
Whatever else was fused with it runs on the workers.
"""

from __future__ import annotations

import sys
from typing import Any, Callable, Dict, Hashable, List, Optional, Sequence, Set, Tuple

from ray._calls import INPUTS, Apply, Build, Dep, Slot, dep, first, run
from ray._entries import entry_of
from ray._failures import raised_here
from ray._graph_runner import GraphRun
from ray._ref import ObjectRef
from ray._task_hooks import TaskHooks, hooked_entry
from ray.util.dask._caller_writes import tell_of
from ray.util.dask._convert import Converter
from ray.util.dask._home_calls import change_of, stays
from ray.util.dask._known import AtHome, External, Literal, OwnValue

_PUT_BYTES_MIN = 64 << 10  # a larger result becomes an object at once


class HomeSteps:
    """The steps at home of one graph.

    `add_remote(key, function, entry, deps)` adds a task and returns 2 * its number; `want(task)` has its result
    held; `external(ref)` names an object of elsewhere for the next task; `put(value)` makes an object. `hooks` go
    around each step.
    """

    def __init__(
        self,
        add_remote: Callable[[Hashable, Any, Any, List[int]], int],
        want: Callable[[int], None],
        external: Callable[[ObjectRef], int],
        put: Callable[[Any], ObjectRef],
        hooks: Optional[TaskHooks] = None,
    ) -> None:
        self._add_remote = add_remote
        self._want = want
        self._external = external
        self._put = put
        self._hooks = hooks
        # Key, function, entry, and what its inputs are: 2 * task, External or AtHome.
        self._put_off: List[Tuple[Hashable, Callable, Any, List[Any]]] = []
        self._wanted: Set[int] = set()
        self._results: List[Any] = []
        # Of the steps that were put off, those whose result may be the caller's own target of a store.
        self._own: Set[int] = set()
        self.ran: Dict[Hashable, None] = {}  # keys of which a step ran while the graph was walked

    def add(self, key: Hashable, converted: Any, converter: Converter) -> Any:
        """Take the task apart and have each step run where it must; what the key has become."""
        inputs = self._inputs_of(converter)
        made: List[Any] = []
        for function, args, kwargs in converter.steps:
            made.append(self._add_step(key, function, args, kwargs or {}, inputs, made))
        if type(converted) is Slot:
            return made[converted.index]
        if type(converted) is Dep:
            return inputs[converted.index]
        if type(converted) is Apply:
            return self._add_step(
                key, converted.function, converted.args, dict(converted.kwargs), inputs, made
            )
        return self._add_step(key, first, (converted,), {}, inputs, made)

    @staticmethod
    def _inputs_of(converter: Converter) -> List[Any]:
        """What each of the task's deps stands for."""
        home = converter.home_inputs
        return [
            home[encoded] if encoded in home
            else External(converter.references[encoded]) if encoded in converter.references
            else encoded
            for encoded in converter.deps
        ]

    def _add_step(
        self, key: Hashable, function: Callable, args: Tuple, kwargs: Dict[str, Any], inputs: List[Any],
        made: List[Any],
    ) -> Any:
        needs: List[Any] = []
        here = stays(function, args, kwargs)
        change = change_of(function, args, kwargs) if here else None
        if change is not None:
            tell_of(change)

        def place(what: Any) -> Any:
            if type(what) is Literal:
                return what.value
            needs.append(what)
            return dep(len(needs) - 1)

        def moved(node: Any) -> Any:
            kind = type(node)
            if kind is Dep:
                return place(inputs[node.index])
            if kind is Slot:
                return place(made[node.index])
            if kind is Build:
                if node.items is INPUTS:
                    return Build(node.kind, [place(what) for what in inputs])
                return Build(node.kind, [moved(item) for item in node.items])
            if kind is Apply:
                # What only says where, a slice most often, is no work to be sent away.
                is_work = here and not isinstance(node.function, type)
                if is_work or stays(node.function, node.args, node.kwargs):
                    return place(
                        self._add_step(key, node.function, node.args, dict(node.kwargs), inputs, made)
                    )
                named = {name: moved(value) for name, value in node.kwargs.items()}
                return Apply(node.function, tuple([moved(value) for value in node.args]), named)
            return node

        new_args = tuple([moved(value) for value in args])
        new_kwargs = {name: moved(value) for name, value in kwargs.items()}
        entry = entry_of(new_args, new_kwargs, len(needs))
        if not here and not any(type(n) is AtHome for n in needs):
            deps = [self._external(n.ref) if type(n) is External else n for n in needs]
            return self._add_remote(key, function, entry, deps)
        if not needs:
            value = self._run(key, function, entry, ())
            self.ran[key] = None
            if hasattr(value, "__next__"):
                return self._put_step_off(key, first, (value,), needs, change is None)
            if getattr(value, "nbytes", 0) < _PUT_BYTES_MIN:
                return Literal(value)
            # What somebody else has too, as a target that is made and noted, may yet be changed.
            base = getattr(value, "base", None)
            is_view = base is not None and sys.getrefcount(base) > 3
            if change is not None and (is_view or sys.getrefcount(value) > 2):
                return Literal(value)
            del base
            return External(self._put(value))
        for need in needs:
            if type(need) is int and need >> 1 not in self._wanted:
                self._wanted.add(need >> 1)
                self._want(need >> 1)
        is_own = change is None if here else any(type(n) is AtHome and n.index in self._own for n in needs)
        return self._put_step_off(key, function, entry, needs, is_own)

    def _put_step_off(
        self, key: Hashable, function: Callable, entry: Any, needs: List[Any], is_own: bool
    ) -> AtHome:
        if is_own:
            self._own.add(len(self._put_off))
        self._put_off.append((key, function, entry, needs))
        return AtHome(len(self._put_off) - 1)

    def _run(self, key: Hashable, function: Callable, entry: Any, inputs: Sequence[Any]) -> Any:
        """Call the function. An exception is raised as that of any task of this key."""
        if self._hooks is not None and function is not first:
            entry = hooked_entry(key, function, entry, len(inputs))
            function = self._hooks
        try:
            return run(function, entry, inputs)
        except Exception as error:
            raised = raised_here(error, str(key))
        raise raised

    def run(
        self, graph_run: GraphRun, kept: Set[int], kept_here: Set[int],
        on_start: Optional[Callable[[int], None]] = None,
        on_end: Optional[Callable[[int, Any], None]] = None,
    ) -> None:
        """Run what was put off. Results are let go of after their last use, but for those of the tasks of `kept`
        and of the steps of `kept_here`.

        `on_start` and `on_end` hear of each step by its number, the latter of its result too. Raises what a step
        raises, and the graph's first failure.
        """
        last_uses = {
            need.index: number for number, (*_, needs) in enumerate(self._put_off) for need in needs
            if type(need) is AtHome
        }
        uses: Dict[int, int] = {}
        for *_, needs in self._put_off:
            for need in needs:
                if type(need) is int and need >> 1 not in kept:
                    uses[need >> 1] = uses.get(need >> 1, 0) + 1
        for number, (key, function, entry, needs) in enumerate(self._put_off):
            refs: List[ObjectRef] = []
            for need in needs:
                if type(need) is int:
                    refs += graph_run.adopt([need >> 1])
                elif type(need) is External:
                    refs.append(need.ref)
            values = iter(graph_run.get(refs) if refs else ())
            del refs
            inputs = [
                self._results[need.index] if type(need) is AtHome else next(values) for need in needs
            ]
            del values
            for need in needs:
                if type(need) is int and need >> 1 in uses:
                    uses[need >> 1] -= 1
                    if not uses[need >> 1]:
                        graph_run.let_go([need >> 1])
            if on_start is not None:
                on_start(number)
            result = self._run(key, function, entry, inputs)
            del inputs
            if on_end is not None:
                on_end(number, result)
            is_used = number in last_uses or number in kept_here
            self._results.append(result if is_used else None)
            del result
            for need in needs:
                if type(need) is AtHome and last_uses[need.index] == number and need.index not in kept_here:
                    self._results[need.index] = None

    @property
    def needed(self) -> Set[int]:
        """The tasks whose results the steps need that were put off."""
        return self._wanted

    @property
    def any(self) -> bool:
        """Whether something was put off."""
        return bool(self._put_off)

    def result(self, what: AtHome) -> Literal:
        """The value of a step that was put off, and kept, after run()."""
        return (OwnValue if what.index in self._own else Literal)(self._results[what.index])
