"""Universal functions in pickles: those that numpy.frompyfunc makes, by the function they are made of.

NumPy pickles a universal function by its name, which only helps if some module has it under that name.
"""

from __future__ import annotations

import copyreg
import gc
import sys
from typing import Any, Callable, Dict


def install() -> None:
    """Have pickle ask here about universal functions. If numpy was not imported, there are none."""
    kind = getattr(sys.modules.get("numpy"), "ufunc", None)
    if kind is not None and copyreg.dispatch_table.get(kind) is not _reduce:
        copyreg.pickle(kind, _reduce)  # type: ignore[arg-type]


def _reduce(ufunc: Any) -> Any:
    """Its name, as NumPy has it; or what makes it again."""
    if all(set(types) <= set("O->") for types in ufunc.types):
        for function in gc.get_referents(ufunc):
            if callable(function):
                named: Dict[str, Any] = {} if ufunc.identity is None else {"identity": ufunc.identity}
                return _from_function, (function, ufunc.nin, ufunc.nout, named)
    return ufunc.__name__


def _from_function(function: Callable, nin: int, nout: int, named: Dict[str, Any]) -> Any:
    import numpy

    return numpy.frompyfunc(function, nin, nout, **named)
