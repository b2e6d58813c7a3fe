"""TaskHooks: stands in for a task's function and calls hooks before and after it, on the worker.

A task with hooks carries its own function and entry inside its entry, as a Quote, and names a TaskHooks as
its function. The worker knows nothing of it, and tasks without hooks are what they always were.
"""

from __future__ import annotations

import os
from time import perf_counter
from typing import Any, Callable, Hashable, List, Optional, Sequence, Tuple

from ray._calls import INPUTS, Build, Nested, Quote, run
from ray._entries import explicit

# A hook before the task and one after it; either may be None.
HookPair = Tuple[Optional[Callable], Optional[Callable]]


class TaskHooks:
    """`pairs` are called around every task, in order; with `timed` a task has a second result: when it began
    and ended, by the clock that all processes of a machine share, and the worker's process id."""

    def __init__(self, pairs: Sequence[HookPair], timed: bool = False) -> None:
        self._pairs = tuple(pairs)
        self._timed = timed
        self.__name__ = "task with hooks"

    def __call__(
        self, key: Hashable, function: Callable, quote: Quote, dep_count: int, inputs: List[Any]
    ) -> Any:
        values = tuple(inputs[:dep_count])
        states = [None if before is None else before(key, values) for before, _ in self._pairs]
        del values
        started = perf_counter()
        result = run(function, quote.entry, inputs)
        ended = perf_counter()
        for (_, after), state in zip(self._pairs, states):
            if after is not None:
                after(key, result, state)
        return (result, (started, ended, os.getpid())) if self._timed else result


def hooked_entry(key: Hashable, function: Callable, entry: Any, dep_count: int) -> Nested:
    """The entry of a task whose function is a TaskHooks, for one of `function` and `entry`."""
    quote = Quote(explicit(entry, dep_count))
    return Nested((key, function, quote, dep_count, Build(list, INPUTS)), {})
