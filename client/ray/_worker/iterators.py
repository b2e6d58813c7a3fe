"""Iterators as results: what a task hands out lazily is run to its end here, and all its items are delivered.

A generator can't leave its process. Whoever gets the result gets an iterator over the items, fresh for each
reader. An iterator that never ends is not delivered: its task runs until it is cancelled or out of memory.
"""

from __future__ import annotations

import itertools
from typing import Any, Tuple, cast

import cloudpickle

# Python 3.14 can't pickle those of itertools any more, and what a map does belongs to its own task.
_ITERTOOLS = tuple(kind for kind in vars(itertools).values() if isinstance(kind, type))
_GENERATOR = type(_ for _ in ())
LAZY_TYPES = frozenset((_GENERATOR, map, filter, zip, enumerate) + _ITERTOOLS)


def delivered(value: Any) -> Any:
    """An iterator over the items of one of LAZY_TYPES, that can be sent. Raises what the iterator raises."""
    return iter(list(value))


class RaisedByIterator(BaseException):
    """Carries an iterator's own error out of the pickler."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class ResultPickler(cloudpickle.CloudPickler):
    """For what plain pickle refuses: iterators inside of results, too. `met_iterator` tells if there was one."""

    met_iterator = False

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) in LAZY_TYPES:
            ResultPickler.met_iterator = True
            try:
                return cast(Tuple, (iter, (list(obj),)))
            except Exception as error:
                raise RaisedByIterator(error) from None
        return super().reducer_override(obj)
