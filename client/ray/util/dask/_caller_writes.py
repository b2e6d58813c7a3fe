"""Which functions change something of the caller's memory, by their own code, and so have to run there.

Under Dask's threads `calls += 1` or `seen.append(x)` in a task changes the caller's own variable; in another
process it would change a copy, and nobody would see it. So those are found that a function
 (a) assigns: variables of an enclosing function (`nonlocal`),
 (b) fills: lists, dicts, sets, arrays and the like that it closes over, or an `itertools.count`,
 (c) adds to or fills: attributes of the object whose method it is (`self.calls += 1`), or that it closes over.
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
from typing import Any, Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Set, Tuple

_CODES_KEPT_MAX = 10_000
_FUNCTIONS_MAX = 1_000  # that are looked at within partials, closures and fused graphs of one function

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


class _Attributes(NamedTuple):
    """What code that does nothing else with an object than to read other attributes does with some of them."""

    added: FrozenSet[str]
    filled: FrozenSet[str]  # if they are containers


class _Writes(NamedTuple):
    """What the code of a function changes, as far as code alone can tell."""

    assigned: FrozenSet[str]  # (a)
    filled: FrozenSet[str]  # (b), if it is a container
    attributes: Dict[str, _Attributes]  # (c), by the variable that has the object


_known: Dict[CodeType, _Writes] = {}
_told: Dict[CodeType, None] = {}


def change_by(function: Any) -> Optional[Change]:
    """What a call of `function`, which may be anything, would change of the caller's; None: nothing."""
    if type(function) is FunctionType and not function.__closure__:
        return None
    stack = [function]
    seen: Set[int] = set()
    while stack and len(seen) < _FUNCTIONS_MAX:
        one = stack.pop()
        if id(one) not in seen and callable(one):
            seen.add(id(one))
            change = _own_change(one)
            if change is not None:
                return change
            stack += _within(one)
    return None


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


def _code_of(function: Any) -> Tuple[Optional[FunctionType], Any]:
    """The function of Python that a call of this runs, and the object that it is a method of, if so."""
    kind = type(function)
    if kind is FunctionType:
        return function, None
    if kind is MethodType:
        found, owner = function.__func__, function.__self__
    elif isinstance(function, type):
        return None, None
    else:
        found, owner = getattr(kind, "__call__", None), function
    return (found, owner) if type(found) is FunctionType else (None, None)


def _own_change(called: Any) -> Optional[Change]:
    """What the function itself changes, without those within it."""
    function, owner = _code_of(called)
    if function is None or (owner is None and not function.__closure__):
        return None
    code = function.__code__
    writes = _writes_of(code)
    for name in sorted(writes.assigned):
        return Change(code, name)
    if owner is not None and code.co_argcount:
        name = _changed_attribute(owner, writes.attributes.get(code.co_varnames[0]))
        if name is not None:
            return Change(code, name)
    for name, value in _closed_over(function):
        if type(value) is itertools.count or (name in writes.filled and _is_container(value)):
            return Change(code, name)
        attribute = _changed_attribute(value, writes.attributes.get(name))
        if attribute is not None:
            return Change(code, f"{name}.{attribute}")
    return None


def _within(called: Any) -> List[Any]:
    """The functions that a function has in it: of a partial, a fused graph, a closure."""
    function, _ = _code_of(called)
    if function is None or type(called) is functools.partial:
        return parts_of(called)
    kinds = (FunctionType, MethodType, functools.partial)
    return parts_of(called) + [value for _, value in _closed_over(function) if type(value) in kinds]


def _closed_over(function: FunctionType) -> Iterator[Tuple[str, Any]]:
    """Name and value of each variable of enclosing functions, but for those that are not assigned yet."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            yield name, cell.cell_contents
        except ValueError:
            pass


def _changed_attribute(owner: Any, attributes: Optional[_Attributes]) -> Optional[str]:
    if attributes is None or isinstance(owner, (type, ModuleType)):
        return None
    values = getattr(owner, "__dict__", {})
    filled = [name for name in attributes.filled if _is_container(values.get(name))]
    return min([*attributes.added, *filled], default=None)


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
    inner = [constant for constant in code.co_consts if type(constant) is CodeType]
    objects = {name: "LOAD_DEREF" for name in code.co_freevars}
    if code.co_argcount:
        objects[code.co_varnames[0]] = "LOAD_FAST"
    found = {
        name: _attributes(name, load, instructions) for name, load in objects.items()
        if not any(name in one.co_freevars for one in inner)
    }
    uses = {name: _Uses() for name in code.co_freevars}
    _gather(code, instructions, uses)
    return _Writes(
        frozenset(name for name, use in uses.items() if use.is_assigned),
        frozenset(name for name, use in uses.items() if use.is_filled),
        {name: attributes for name, attributes in found.items() if attributes is not None},
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
        if (name, above) == ("BINARY_SUBSCR", 1):
            above = 0  # what is in it may be filled as well
            continue
        if instruction.pops is None or instruction.pushes is None or instruction.pops > above:
            return False
        above += instruction.pushes - instruction.pops
    return False


def _attributes(own: str, load: str, instructions: List[_Instruction]) -> Optional[_Attributes]:
    """The attributes of an object that a function only adds to or fills, if it only reads others; else None.

    One that sets attributes, calls methods or passes the object on has an object that it works on, such as a model
    or a simulation; what it returns is the result then, and many of them are to run at a time.
    """
    added: Set[str] = set()
    filled: Set[str] = set()
    read: Set[str] = set()
    last = len(instructions) - 1
    for number, instruction in enumerate(instructions):
        if instruction.value != own or not instruction.name.startswith(load):
            continue
        following, after = instructions[min(number + 1, last)], instructions[min(number + 2, last)]
        is_copied = following.name == "DUP_TOP" or (following.name == "COPY" and following.argument == 1)
        if is_copied and after.name == "LOAD_ATTR":
            added.add(after.value)
        elif following.name != "LOAD_ATTR" or following.pushes != 1:
            return None
        else:
            (filled if _is_filled(instructions, number + 1) else read).add(following.value)
    added -= read
    filled -= read
    return _Attributes(frozenset(added), frozenset(filled)) if added or filled else None


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
