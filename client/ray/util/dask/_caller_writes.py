"""Which functions change something of the caller's memory, by their own code, and so have to run there.

Under Dask's threads `calls += 1` or `seen.append(x)` in a task changes the caller's own variable; in another
process it would change a copy, and nobody would see it. So those are found that a function
 (a) assigns: variables of an enclosing function (`nonlocal`),
 (b) fills: lists, dicts, sets, arrays and the like that it closes over, or an `itertools.count`,
 (c) counts: attributes of the object whose method it is (`self.calls += 1`).
What a function changes and reads as well is most often there to save it work, as a cache is: its results are the
same wherever it runs, and it is left to the workers. So are functions that change global variables, which on a
cluster are each process's own. The bytecode tells; each code object is looked at once.
"""

from __future__ import annotations

import array
import dis
import functools
import itertools
import logging
import queue
from collections import deque
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Tuple

_CODES_KEPT_MAX = 10_000
_DEPTH_MAX = 6  # of functions within partials, closures and fused graphs

_log = logging.getLogger("ray.util.dask")

# What these methods do changes the object, and what they return, if anything, tells nothing of what is in it.
_MUTATORS = frozenset({
    "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft", "fill",
    "insert", "intersection_update", "put", "put_nowait", "remove", "symmetric_difference_update", "update",
})
_SUPERINSTRUCTIONS = {  # of CPython 3.13: two at once
    "LOAD_FAST_LOAD_FAST": ("LOAD_FAST", "LOAD_FAST"),
    "STORE_FAST_LOAD_FAST": ("STORE_FAST", "LOAD_FAST"),
    "STORE_FAST_STORE_FAST": ("STORE_FAST", "STORE_FAST"),
}
_FIRST_INPLACE = 13  # among the arguments of BINARY_OP
_JUMPS = frozenset(dis.hasjrel) | frozenset(dis.hasjabs)


class Change(NamedTuple):
    """That calls of a function change `what`, a name, of the caller's."""

    code: CodeType
    what: str


class _Writes(NamedTuple):
    """What the code of a function changes, as far as code alone can tell."""

    assigned: FrozenSet[str]  # (a)
    filled: FrozenSet[str]  # (b), if it is a container
    counted: FrozenSet[str]  # (c), if the code is a method's


_NOTHING = _Writes(frozenset(), frozenset(), frozenset())
_known: Dict[CodeType, _Writes] = {}
_told: Dict[CodeType, None] = {}


def change_by(function: Any) -> Optional[Change]:
    """What a call of `function`, which may be anything, would change of the caller's; None: nothing."""
    return _change_by(function, _DEPTH_MAX)


def parts_of(function: Any) -> List[Any]:
    """What a partial, or a graph that Dask before 2024.9 has fused to a function, is made of; else nothing."""
    kind = type(function)
    if kind is functools.partial:
        return [function.func, *function.args, *function.keywords.values()]
    found: List[Any] = []
    if kind.__name__ == "SubgraphCallable":
        stack = list(function.dsk.values())
        while stack:
            value = stack.pop()
            if type(value) in (tuple, list):
                stack.extend(value)
            else:
                found.append(value)
    return found


def tell_of(change: Change) -> None:
    """Log once that calls of this function run in the caller's process."""
    code = change.code
    if code in _told:
        return
    if len(_told) >= _CODES_KEPT_MAX:
        _told.clear()
    _told[code] = None
    _log.warning(
        "%r (%s:%d) changes %r of the process that computes. So its tasks, and what is made of their results, run "
        "there one after the other, and not on the workers. Return a value instead to have it run on them.",
        code.co_name, code.co_filename, code.co_firstlineno, change.what,
    )


def _change_by(function: Any, depth: int) -> Optional[Change]:
    kind = type(function)
    if kind is FunctionType:
        return _by_closure(function, depth) if function.__closure__ else None
    if kind is MethodType:
        return _by_method(function.__func__, function.__self__, depth)
    if isinstance(function, type) or not depth:
        return None
    parts = parts_of(function)
    if parts:
        return _first_change(parts, depth - 1)
    call = getattr(kind, "__call__", None)
    return _by_method(call, function, depth) if type(call) is FunctionType else None


def _by_method(function: Any, owner: Any, depth: int) -> Optional[Change]:
    if type(function) is not FunctionType or isinstance(owner, (type, ModuleType)):
        return None
    for name in _writes_of(function.__code__).counted:
        return Change(function.__code__, name)
    return _by_closure(function, depth) if function.__closure__ else None


def _by_closure(function: FunctionType, depth: int) -> Optional[Change]:
    code = function.__code__
    writes = _writes_of(code)
    for name in sorted(writes.assigned):
        return Change(code, name)
    inner: List[Any] = []
    for name, cell in zip(code.co_freevars, function.__closure__ or ()):
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        if type(value) is itertools.count or (name in writes.filled and _is_container(value)):
            return Change(code, name)
        if type(value) in (FunctionType, MethodType, functools.partial):
            inner.append(value)
    return _first_change(inner, depth - 1) if depth else None


def _first_change(functions: List[Any], depth: int) -> Optional[Change]:
    for function in functions:
        change = _change_by(function, depth) if callable(function) else None
        if change is not None:
            return change
    return None


def _is_container(value: Any) -> bool:
    if isinstance(value, (list, dict, set, deque, bytearray, array.array, queue.Queue, queue.SimpleQueue)):
        return True
    return any(kind.__module__ == "numpy" and kind.__name__ == "ndarray" for kind in type(value).__mro__)


# ------------------------------------------------------------ what code tells


def _writes_of(code: CodeType) -> _Writes:
    writes = _known.get(code)
    if writes is None:
        if len(_known) >= _CODES_KEPT_MAX:
            _known.clear()
        writes = _known[code] = _analysed(code)
    return writes


class _Instruction(NamedTuple):
    """One operation; `pops` and `pushes` are None if they are not known, or depend on more than itself."""

    name: str
    value: Any
    argument: Optional[int]
    pops: Optional[int]
    pushes: Optional[int]


class _Uses:
    """How often code does what with a variable of an enclosing function."""

    def __init__(self) -> None:
        self.loads = 0
        self.stores = 0
        self.accumulations = 0  # those of the stores that add to it
        self.fillings = 0  # those of the loads that change what is in it

    @property
    def is_assigned(self) -> bool:
        """Each accumulation reads the variable; who reads it besides, and only sets it, has a cache."""
        return self.accumulations > 0 or (self.stores > 0 and not self.loads)

    @property
    def is_filled(self) -> bool:
        return self.fillings > 0 and self.fillings == self.loads


def _analysed(code: CodeType) -> _Writes:
    instructions = _instructions_of(code)
    counted = _counted(code, instructions)
    if not code.co_freevars:
        return _NOTHING if not counted else _NOTHING._replace(counted=counted)
    uses = {name: _Uses() for name in code.co_freevars}
    _gather(code, instructions, uses)
    return _Writes(
        frozenset(name for name, use in uses.items() if use.is_assigned),
        frozenset(name for name, use in uses.items() if use.is_filled),
        counted,
    )


def _gather(code: CodeType, instructions: List[_Instruction], uses: Dict[str, _Uses]) -> None:
    """Add what this code and the functions inside of it do with the variables to `uses`."""
    for number, instruction in enumerate(instructions):
        use = uses.get(instruction.value) if instruction.name.endswith("DEREF") else None
        if use is None:
            continue
        if instruction.name == "STORE_DEREF":
            use.stores += 1
            use.accumulations += _accumulates(instructions, number)
        elif instruction.name == "DELETE_DEREF":
            use.stores += 1
        else:
            use.loads += 1
            use.fillings += instruction.name == "LOAD_DEREF" and _is_filled(instructions, number)
    for inner in code.co_consts:
        if type(inner) is CodeType:
            shared = {name: use for name, use in uses.items() if name in inner.co_freevars}
            if shared:
                _gather(inner, _instructions_of(inner), shared)


def _accumulates(instructions: List[_Instruction], number: int) -> bool:
    """Whether the variable that is stored here is what it was and something more: `n += x`, `n = n + 1`."""
    before = instructions[number - 1]
    if before.name.startswith("INPLACE_") or (
        before.name == "BINARY_OP" and (before.argument or 0) >= _FIRST_INPLACE
    ):
        return True
    return before.name in ("BINARY_OP", "BINARY_ADD", "BINARY_SUBTRACT") and any(
        operand.name == "LOAD_DEREF" and operand.value == instructions[number].value
        for operand in instructions[max(number - 3, 0):number - 1]
    )


def _is_filled(instructions: List[_Instruction], number: int) -> bool:
    """Whether what the instruction loads is loaded to be changed: an item set or deleted, a method called.

    Follows it down the stack until somebody takes it; gives up where the way is not straight.
    """
    above = 0  # how many values lie upon it
    for instruction in instructions[number + 1:]:
        name = instruction.name
        if name in ("LOAD_ATTR", "LOAD_METHOD") and not above:
            return instruction.value in _MUTATORS
        if (name, above) in (("STORE_SUBSCR", 1), ("DELETE_SUBSCR", 1), ("STORE_SLICE", 2)):
            return True
        if (name, above) == ("DUP_TOP_TWO", 1) or (name == "COPY" and above and instruction.argument == above + 1):
            return True  # as `counts[key] += 1` begins
        if instruction.pops is None or instruction.pushes is None or instruction.pops > above:
            return False
        above += instruction.pushes - instruction.pops
    return False


def _counted(code: CodeType, instructions: List[_Instruction]) -> FrozenSet[str]:
    """The attributes that a method only adds to, if it does nothing else with its object but read others.

    One that sets attributes, calls methods or passes itself on has an object that it works on, such as a model or
    a simulation; what it returns is the result then, and many of them are to run at a time.
    """
    if not code.co_argcount:
        return frozenset()
    own = code.co_varnames[0]
    added = set()
    read = set()
    for number, instruction in enumerate(instructions):
        if instruction.value != own or not instruction.name.startswith("LOAD_FAST"):
            continue
        following, after = instructions[number + 1], instructions[min(number + 2, len(instructions) - 1)]
        is_copied = following.name == "DUP_TOP" or (following.name == "COPY" and following.argument == 1)
        if is_copied and after.name == "LOAD_ATTR":
            added.add(after.value)
        elif following.name == "LOAD_ATTR" and following.pushes == 1:
            read.add(following.value)
        else:
            return frozenset()
    return frozenset() if added & read else frozenset(added)


def _instructions_of(code: CodeType) -> List[_Instruction]:
    found: List[_Instruction] = []
    for instruction in dis.get_instructions(code):
        parts = _SUPERINSTRUCTIONS.get(instruction.opname)
        if parts is not None:
            for part, value in zip(parts, instruction.argval):
                loads = part == "LOAD_FAST"
                found.append(_Instruction(part, value, None, int(not loads), int(loads)))
            continue
        pops, pushes = _moves(instruction)
        found.append(
            _Instruction(instruction.opname, instruction.argval, instruction.arg, pops, pushes)
        )
    return found


def _moves(instruction: dis.Instruction) -> Tuple[Optional[int], Optional[int]]:
    """How many values an instruction takes off the stack and puts on it, if that is plain."""
    name = instruction.opname
    if instruction.opcode in _JUMPS or name.startswith(("COPY", "DUP", "ROT", "SWAP")):
        return (0, 0) if name == "COPY_FREE_VARS" else (None, None)
    effect = dis.stack_effect(instruction.opcode, instruction.arg)
    if name in ("LOAD_ATTR", "LOAD_METHOD"):
        return 1, 1 + effect
    if name in ("LOAD_CONST", "LOAD_DEREF", "LOAD_GLOBAL", "LOAD_CLOSURE", "PUSH_NULL") or (
        name.startswith("LOAD_FAST")
    ):
        return 0, effect
    if name.startswith(("UNARY", "BINARY", "INPLACE", "COMPARE_OP", "CONTAINS_OP", "IS_OP", "BUILD", "CALL")):
        return 1 - effect, 1
    if name.startswith(("STORE_FAST", "STORE_DEREF", "POP_TOP", "PRECALL")):
        return -effect, 0
    if name in ("NOP", "EXTENDED_ARG", "KW_NAMES", "RESUME"):
        return 0, 0
    if name.startswith(("FORMAT", "CONVERT_VALUE")):
        return 1 - effect, 1
    return None, None
