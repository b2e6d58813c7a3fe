"""ray_dask_get and ray_dask_get_sync: what Dask calls with a graph and the keys it wants."""

from __future__ import annotations

from typing import Any, Callable, Dict, Hashable, List, Mapping, Optional, Tuple, Union

import dask

from ray._graph_runner import GraphRun
from ray._ref import ObjectRef
from ray._runtime import current_session
from ray._serialize import SIMPLE_TYPES
from ray.util.dask import _progress
from ray.util.dask._annotations import OptionChooser
from ray.util.dask._as_with_threads import AsWithThreads
from ray.util.dask._callbacks import CallbackRun, active_hooks
from ray.util.dask._graphs import flat_keys, fused_graph_of, graph_of, name_of, nested
from ray.util.dask._hooks import HookedRun, HookedWalk, make_task_hooks, task_hooks_of
from ray.util.dask._known import AtHome, External, Literal
from ray.util.dask._local import LocalRun
from ray.util.dask._shuffle_tasks import shuffle_functions
from ray.util.dask._walk import Walk
from ray.util.dask.callbacks import (
    RayCallbacks, RayDaskCallback, local_ray_callbacks, unpack_ray_callbacks, wants_bar,
)

# In Dask's configuration: False has every task of a shuffle run as Dask has made it.
NATIVE_SHUFFLE_KEY = "ray.native-shuffle"


def ray_dask_get(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Run a Dask graph on Raylet and return the values of `keys`.

    `dsk` is whatever Dask hands to a scheduler: a dict, a HighLevelGraph or an expression. `keys` is one key
    or nested lists of keys; the result has the same nesting, in tuples. Arrays in it may be written to.

    Keyword arguments: `ray_remote_args`, a dict of task options (num_cpus, num_gpus, memory, resources,
    max_retries, retry_exceptions) for every task; `ray_persist=True` to return ObjectRefs at once instead of
    waiting for values; `callbacks`, Dask callbacks for this call; `ray_callbacks`, RayDaskCallbacks for this
    call, in place of those that are active. `num_workers`, `pool` and Dask's others are accepted and ignored.

    Raises what a task raised, as an exception that is of its class and a RayTaskError; KeyError for a key
    that is not in the graph; ValueError for `resources=` (use ray_remote_args={"resources": ...}).
    """
    persist = bool(kwargs.pop("ray_persist", False))
    chooser = OptionChooser(dsk, kwargs)
    wanted = flat_keys(keys)
    graph = fused_graph_of(dsk, wanted)
    ray_callbacks = kwargs.get("ray_callbacks")
    bar = kwargs.get("_ray_enable_progress_bar")
    if ray_callbacks is not None or RayDaskCallback.ray_active:
        with local_ray_callbacks(ray_callbacks) as chosen:
            hooks = unpack_ray_callbacks(chosen)
            if bar is None and wants_bar(hooks):
                bar = True
            return _compute(graph, keys, wanted, chooser, kwargs.get("callbacks"), hooks, persist, bar)
    return _compute(graph, keys, wanted, chooser, kwargs.get("callbacks"), None, persist, bar)


def ray_dask_get_sync(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """As ray_dask_get, with every task run here and now, one after the other: for debugging.

    Nothing is pickled and no node is needed, so pdb, print and breakpoints work; exceptions are the tasks'
    own. Task options are checked and have no effect. Hooks are called, with values in place of references.
    """
    OptionChooser(dsk, kwargs)
    graph = graph_of(dsk)
    wanted = flat_keys(keys)
    local = LocalRun(_fetch_one)
    with local_ray_callbacks(kwargs.get("ray_callbacks")) as chosen:
        hooks = unpack_ray_callbacks(chosen)
        walk: Walk
        if chosen:
            walk = HookedWalk(
                graph, local, None, hooks, local.results_of, make_task_hooks(hooks)
            )
        else:
            walk = Walk(graph, local)
        walk.add(wanted)
        outcome = {key: walk.known[key] for key in wanted}
        result = nested(keys, _fetch(local, outcome, persist=False))
        if isinstance(walk, HookedWalk):
            walk.postsubmit()
            for hook in hooks.ray_postsubmit_all_cbs or ():
                hook(result, graph)
            for hook in hooks.ray_finish_cbs or ():
                hook(result)
        return result


def _compute(
    graph: Mapping, keys: Any, wanted: List[Hashable], chooser: OptionChooser, callbacks: Any,
    ray_hooks: Optional[RayCallbacks], persist: bool, bar: Optional[bool],
) -> Any:
    with AsWithThreads(current_session()), active_hooks(callbacks) as hooks:
        if not hooks and ray_hooks is None:
            return nested(keys, _run(graph, wanted, chooser, persist, bar))
        if ray_hooks is None:
            ray_hooks = unpack_ray_callbacks(None)
        result = _run_with_hooks(
            dict(graph), keys, wanted, chooser, hooks, ray_hooks, persist, bar
        )
        for hook in ray_hooks.ray_finish_cbs or ():
            hook(result)
        return result


def _run(
    graph: Mapping, wanted: List[Hashable], chooser: OptionChooser, persist: bool,
    bar: Optional[bool] = None,
) -> Dict[Hashable, Any]:
    session = current_session()
    with GraphRun(session, name=name_of(wanted)) as run:
        walk = _walk_of(graph, run, chooser.for_builder(run.builder, graph), session.put_constant)
        walk.add(wanted)
        run.finish()
        outcome = _outcome(walk, run, wanted)
        shown = None if persist else _progress.wanted(bar)
        if shown is None:
            del walk, graph
            return _fetch(run, outcome, persist)
        with _progress.progress(session, run.graph, walk.known, shown):
            del walk, graph
            return _fetch(run, outcome, persist)


def _walk_of(
    graph: Mapping, run: GraphRun, options: Optional[Callable[[Hashable], int]],
    put: Callable[[Any], ObjectRef],
) -> Walk:
    """The walk for a graph without hooks."""
    native = dask.config.get(NATIVE_SHUFFLE_KEY, True) is not False
    functions = shuffle_functions() if native else None
    if functions is None:
        return Walk(graph, run.builder, options, put=put)
    from ray.util.dask._shuffle_walk import ShuffleWalk  # brings pandas, which is here if these functions are

    return ShuffleWalk(graph, run.builder, functions, options, put)


def _run_with_hooks(
    graph: Dict, keys: Any, wanted: List[Hashable], chooser: OptionChooser, hooks: List[Tuple],
    ray_hooks: RayCallbacks, persist: bool, bar: Optional[bool],
) -> Any:
    calls = CallbackRun(hooks, graph, timed=not persist)
    failed = True
    try:
        calls.start()
        session = current_session()
        with HookedRun(
            session, may_look=bool(ray_hooks.ray_presubmit_cbs), timed=calls.timed, name=name_of(wanted),
            hold_all=bool(ray_hooks.ray_postsubmit_cbs), on_event=calls.on_event if hooks else None,
        ) as run:
            walk = HookedWalk(
                graph, run.builder, chooser.for_builder(run.builder, graph), ray_hooks, run.results,
                task_hooks_of(session, ray_hooks, calls.timed), session.put_constant,
            )
            walk.add(wanted)
            if hooks:
                calls.start_state(walk, wanted)
            run.finish()
            walk.postsubmit()
            shown = None if persist or calls.shows_progress else _progress.wanted(bar)
            with _progress.progress(session, run.graph, walk.known, shown):
                known = {key: walk.known[key] for key in wanted}
                waits = any(type(what) is AtHome for what in known.values())
                if not waits:
                    _call_postsubmit_all(run, keys, known, ray_hooks, graph)
                if hooks and walk.keys and not persist:
                    calls.drive(run)
                outcome = _outcome(walk, run, wanted, calls if hooks and not persist else None)
                if waits:
                    _call_postsubmit_all(run, keys, outcome, ray_hooks, graph)
                del walk, known
                run.keep_only(_tasks_of(outcome))
                result = nested(keys, _fetch(run, outcome, persist))
        failed = False
        return result
    finally:
        calls.finish(failed)


def _outcome(
    walk: Walk, run: GraphRun, wanted: List[Hashable], calls: Optional[CallbackRun] = None
) -> Dict[Hashable, Any]:
    """What the wanted keys have become, when everything was sent and what has to run here has run."""
    outcome = {key: walk.known[key] for key in wanted}
    home = walk.home
    if home is None or not home.any:
        return outcome
    kept = set(_tasks_of(outcome))
    kept_here = {what.index for what in outcome.values() if type(what) is AtHome}
    if calls is None:
        home.run(run, kept, kept_here)
    else:
        home.run(run, kept, kept_here, calls.begin_at_home, calls.end_at_home)
    return {key: home.result(what) if type(what) is AtHome else what for key, what in outcome.items()}


def _tasks_of(outcome: Dict[Hashable, Any]) -> List[int]:
    return [what >> 1 for what in outcome.values() if type(what) is int]


def _call_postsubmit_all(
    run: GraphRun, keys: Any, outcome: Dict[Hashable, Any], ray_hooks: RayCallbacks, graph: Mapping
) -> None:
    if ray_hooks.ray_postsubmit_all_cbs:
        references = nested(keys, _references_of(run, outcome))
        for hook in ray_hooks.ray_postsubmit_all_cbs:
            hook(references, graph)


def _references_of(run: GraphRun, outcome: Dict[Hashable, Any]) -> Dict[Hashable, Any]:
    """What hooks get for the keys: references, or values that are known without running anything."""
    tasks = _tasks_of(outcome)
    refs = dict(zip(tasks, run.adopt(tasks)))
    return {
        key: what.value if isinstance(what, Literal) else what.ref if type(what) is External else refs[what >> 1]
        for key, what in outcome.items()
    }


def _fetch(
    run: Union[GraphRun, LocalRun], outcome: Dict[Hashable, Any], persist: bool
) -> Dict[Hashable, Any]:
    """The values of the keys; with `persist`, references (but small plain values stay what they are)."""
    tasks = _tasks_of(outcome)
    refs = dict(zip(tasks, run.adopt(tasks)))
    values: Dict[Hashable, Any] = {}
    waiting: Dict[Hashable, Any] = {}
    for key, what in outcome.items():
        if isinstance(what, Literal):
            values[key] = what.value
            if persist and type(what) is Literal and type(what.value) not in SIMPLE_TYPES:
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
