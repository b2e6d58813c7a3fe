"""Dask's dispatches (sizeof, concat and the like) as functions of tasks: they travel with what was registered.

A dispatch also remembers each class that it was asked about, next to the one that was registered. Not every such
class can be pickled (numpy.dtype has one for each kind of number), and the worker finds them again.
"""

from __future__ import annotations

import copyreg
from typing import Any, Callable, Dict, Tuple

from dask.utils import Dispatch


def install() -> None:
    """Have pickle ask here about dispatches."""
    copyreg.pickle(Dispatch, _reduce)  # type: ignore[arg-type]


def _reduce(dispatch: Dispatch) -> Tuple:
    registered = {
        kind: function for kind, function in dispatch._lookup.items() if not _is_found(dispatch._lookup, kind)
    }
    return _dispatch, ({**vars(dispatch), "_lookup": registered},)


def _is_found(lookup: Dict[type, Callable], kind: type) -> bool:
    """Whether dispatching to this class ends where dispatching to one of its bases does."""
    base = next((base for base in kind.__mro__[1:] if base in lookup), None)
    return base is not None and lookup[base] is lookup[kind]


def _dispatch(state: Dict[str, Any]) -> Dispatch:
    made = Dispatch()
    vars(made).update(state)
    return made
