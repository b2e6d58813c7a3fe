"""ray_dask_get and ray_dask_get_sync: what Dask calls with a graph and the keys it wants."""

from __future__ import annotations

from typing import Any, Dict, Hashable, List, Mapping, Tuple

from ray._graph_runner import GraphRun
from ray._ref import ObjectRef
from ray._runtime import current_session
from ray._serialize import SIMPLE_TYPES
from ray.util.dask._annotations import OptionChooser
from ray.util.dask._callbacks import CallbackRun, active_hooks
from ray.util.dask._convert import External, Literal
from ray.util.dask._local import LocalRun
from ray.util.dask._walk import Walk

# In Dask's configuration: False has every task of a shuffle run as Dask has made it.
NATIVE_SHUFFLE_KEY = "ray.native-shuffle"


def ray_dask_get(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Run a Dask graph on Raylet and return the values of `keys`.

    `dsk` is whatever Dask hands to a scheduler: a dict, a HighLevelGraph or an expression. `keys` is one key
    or nested lists of keys; the result has the same nesting, in tuples. Arrays in it may be written to.

    Keyword arguments: `ray_remote_args`, a dict of task options (num_cpus, num_gpus, memory, resources,
    max_retries, retry_exceptions) for every task; `ray_persist=True` to return ObjectRefs at once instead of
    waiting for values; `callbacks`, Dask callbacks for this call. Others are Dask's and are ignored.

    Raises what a task raised, as an exception that is of its class and a RayTaskError; KeyError for a key
    that is not in the graph; ValueError for `resources=` (use ray_remote_args={"resources": ...}).
    """
    persist = bool(kwargs.pop("ray_persist", False))
    chooser = OptionChooser(dsk, kwargs)
    graph = graph_of(dsk)
    wanted = flat_keys(keys)
    with active_hooks(kwargs.get("callbacks")) as hooks:
        if hooks:
            graph = dict(graph)
            values = _run_with_hooks(graph, wanted, chooser, hooks, persist)
        else:
            values = _run(graph, wanted, chooser, persist)
    return _nest(keys, values)


def ray_dask_get_sync(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """As ray_dask_get, with every task run here and now, one after the other: for debugging.

    Nothing is pickled and no node is needed, so pdb, print and breakpoints work; exceptions are the tasks'
    own. Task options are checked and have no effect.
    """
    OptionChooser(dsk, kwargs)
    graph = graph_of(dsk)
    wanted = flat_keys(keys)
    local = LocalRun(_fetch_one)
    walk = Walk(graph, local)
    walk.add(wanted)
    values: Dict[Hashable, Any] = {}
    for key in wanted:
        what = walk.known[key]
        if type(what) is Literal:
            values[key] = what.value
        elif type(what) is External:
            values[key] = _fetch_one(what.ref)
        else:
            values[key] = local.results[what >> 1]
    return _nest(keys, values)


def _run(
    graph: Mapping, wanted: List[Hashable], chooser: OptionChooser, persist: bool
) -> Dict[Hashable, Any]:
    with GraphRun(current_session(), name=_name_of(wanted)) as run:
        walk = Walk(graph, run.builder, chooser.for_builder(run.builder, graph))
        walk.add(wanted)
        run.finish()
        outcome = {key: walk.known[key] for key in wanted}
        del walk, graph
        return _fetch(run, outcome, persist)


def _run_with_hooks(
    graph: Dict, wanted: List[Hashable], chooser: OptionChooser, hooks: List[Tuple], persist: bool
) -> Dict[Hashable, Any]:
    calls = CallbackRun(hooks, graph)
    failed = True
    try:
        calls.start()
        with GraphRun(
            current_session(), name=_name_of(wanted), hold_all=calls.wants_results,
            on_event=calls.on_event,
        ) as run:
            walk = Walk(graph, run.builder, chooser.for_builder(run.builder, graph), calls.tasks.append)
            walk.add(wanted)
            calls.start_state(walk.known)
            run.finish()
            if calls.tasks and not persist:
                calls.drive(run)
            values = _fetch(run, {key: walk.known[key] for key in wanted}, persist)
        failed = False
        return values
    finally:
        calls.finish(failed)


def _fetch(run: GraphRun, outcome: Dict[Hashable, Any], persist: bool) -> Dict[Hashable, Any]:
    """The values of the keys; with `persist`, references (but small plain values stay what they are)."""
    tasks = [what >> 1 for what in outcome.values() if type(what) is int]
    refs = dict(zip(tasks, run.adopt(tasks)))
    values: Dict[Hashable, Any] = {}
    waiting: Dict[Hashable, ObjectRef] = {}
    for key, what in outcome.items():
        if type(what) is Literal:
            values[key] = what.value
            if persist and type(what.value) not in SIMPLE_TYPES:
                waiting[key] = current_session().put_constant(what.value)
        else:
            waiting[key] = what.ref if type(what) is External else refs[what >> 1]
    if persist or not waiting:
        values.update(waiting)
    else:
        values.update(zip(waiting, run.get(list(waiting.values()))))
    return values


def _fetch_one(ref: ObjectRef) -> Any:
    return current_session().get_values([ref])[0]


# ------------------------------------------------------------ graphs and keys


def graph_of(dsk: Any) -> Mapping:
    """The plain mapping in whatever Dask passes: expressions, HighLevelGraphs, dicts."""
    if isinstance(dsk, dict):
        return dsk
    if hasattr(dsk, "to_dict"):
        return dsk.to_dict()
    if hasattr(dsk, "__dask_graph__"):
        return graph_of(dsk.__dask_graph__())
    if isinstance(dsk, Mapping):
        return dsk
    raise TypeError(
        f"expected a Dask graph (a dict, a HighLevelGraph or an expression), got {type(dsk).__name__}"
    )


def flat_keys(keys: Any) -> List[Hashable]:
    """Every key once, in order, out of nested lists."""
    found: Dict[Hashable, None] = {}
    stack = [keys]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(reversed(item))
        else:
            found[item] = None
    return list(found)


def _nest(keys: Any, values: Dict[Hashable, Any]) -> Any:
    if isinstance(keys, list):
        return tuple([_nest(key, values) for key in keys])
    return values[keys]


def _name_of(wanted: List[Hashable]) -> str:
    """What the graph is called in `raylet status`."""
    if not wanted:
        return "dask"
    first = str(wanted[0])[:60]
    return first if len(wanted) == 1 else f"{first} and {len(wanted) - 1} more"
