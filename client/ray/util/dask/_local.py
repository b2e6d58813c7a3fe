"""LocalRun: runs a graph's tasks in the calling thread as they are added, for debugging."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence, Union

from ray._calls import INPUTS, Build, Call, Nested, Program, Quote, run
from ray._ref import ObjectRef


class _Result:
    """Stands in for the reference to a result."""

    __slots__ = ("task",)

    def __init__(self, task: int) -> None:
        self.task = task


class LocalRun:
    """Stands in for a GraphRun and its GraphBuilder: same calls, but adding a task runs it.

    Nothing is pickled and no process is asked, so a debugger and `print` see everything. Every result is kept
    until the end. Objects of elsewhere are fetched by `fetch`.
    """

    def __init__(self, fetch: Callable[[ObjectRef], Any]) -> None:
        self._fetch = fetch
        self._functions: List[Any] = []
        self.numbers: Dict[int, int] = {}
        self.results: List[Any] = []
        self._external_values: List[Any] = []

    def function_number(self, function: Any) -> int:
        number = self.numbers.get(id(function))
        if number is None:
            number = self.numbers[id(function)] = len(self._functions)
            self._functions.append(function)
        return number

    def external(self, ref: ObjectRef) -> int:
        self._external_values.append(self._fetch(ref))
        return 2 * len(self._external_values) - 1

    def add(
        self, function_number: int, entry: Any, deps: Sequence[int], name: str = "", options: int = 0
    ) -> int:
        inputs = [
            self._external_values[dep >> 1] if dep & 1 else self.results[dep >> 1] for dep in deps
        ]
        result = run(self._functions[function_number], self._with_values(entry), inputs)
        self.results.append(result)
        return len(self.results) - 1

    def want(self, task: int) -> None:
        """All results are kept anyway."""

    def results_of(self, tasks: Sequence[int]) -> List[Any]:
        """The results of tasks that were added."""
        return [self.results[task] for task in tasks]

    def adopt(self, tasks: Sequence[int]) -> List[_Result]:
        """What get() takes for results of these tasks."""
        return [_Result(task) for task in tasks]

    def get(self, found: Sequence[Union[_Result, ObjectRef]]) -> List[Any]:
        """The values of results, and of objects of elsewhere."""
        return [self.results[one.task] if type(one) is _Result else self._fetch(one) for one in found]

    def _with_values(self, entry: Any) -> Any:
        """The entry with values in place of the references that are deeper inside."""
        if entry is INPUTS:
            return entry
        if type(entry) is Program:
            return entry.mapped(self._value)
        if type(entry) is tuple:
            return tuple([self._value(a) for a in entry])
        kind = type(entry)
        kwargs = {name: self._value(a) for name, a in entry.kwargs.items()}
        assert kind in (Call, Nested)
        return kind(tuple([self._value(a) for a in entry.args]), kwargs)

    def _value(self, value: Any) -> Any:
        kind = type(value)
        if kind is ObjectRef:
            return self._fetch(value)
        if kind in (list, tuple, set, frozenset):
            items = [self._value(item) for item in value]
            return value if all(a is b for a, b in zip(items, value)) else kind(items)
        if kind is dict:
            items = {key: self._value(item) for key, item in value.items()}
            return value if all(items[key] is value[key] for key in items) else items
        if kind is Quote:
            return Quote(self._with_values(value.entry))
        if kind is Build and value.items is not INPUTS:
            return Build(value.kind, [self._value(item) for item in value.items])
        return value
