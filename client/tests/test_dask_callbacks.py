"""RayDaskCallback: its six hooks, the ways to give them, and what they may do."""

from __future__ import annotations

import re
from operator import add

import dask
import dask.array as da
import numpy as np
import pytest
from dask import core

import ray
from ray.util.dask import (
    ProgressBarCallback, RayDaskCallback, enable_dask_on_ray, local_ray_callbacks, ray_dask_get,
    ray_dask_get_sync, unpack_ray_callbacks,
)
from ray.util.dask import callbacks as public

GRAPH = {"a": 1, "b": (add, "a", 1), "c": (add, "b", 10), "d": (add, "c", "b")}


@pytest.fixture(autouse=True)
def node(cluster):
    yield
    assert not RayDaskCallback.ray_active


@ray.remote
class Store:
    def __init__(self):
        self.values = {}

    def get(self, key):
        return self.values[key]

    def put(self, key, value):
        self.values[key] = value

    def all(self):
        return self.values


class Note(RayDaskCallback):
    """Notes every hook of the driver, in the order of the calls; has no call of super().__init__."""

    def __init__(self):
        self.calls = []

    def _ray_presubmit(self, task, key, deps):
        self.calls.append(("presubmit", key, sorted(deps)))

    def _ray_postsubmit(self, task, key, deps, object_ref):
        assert isinstance(object_ref, ray.ObjectRef)
        self.calls.append(("postsubmit", key, sorted(deps)))

    def _ray_postsubmit_all(self, object_refs, dsk):
        # Older Dasks ask for nested keys, and get nested references.
        refs = list(core.flatten(object_refs, tuple)) if isinstance(object_refs, tuple) else object_refs
        self.calls.append(("all", ray.get(refs), sorted(dsk, key=str)))

    def _ray_finish(self, result):
        self.calls.append(("finish", result))


ALL_CALLS = [
    ("presubmit", "b", []), ("presubmit", "c", ["b"]), ("presubmit", "d", ["b", "c"]),
    ("postsubmit", "b", []), ("postsubmit", "c", ["b"]), ("postsubmit", "d", ["b", "c"]),
    ("all", 14, ["a", "b", "c", "d"]), ("finish", 14),
]


def without_literals(calls):
    """Older Dasks count the key of a literal among the dependencies, newer ones too; tests don't care."""
    return [call[:2] + ([k for k in call[2] if k != "a"],) if call[0].startswith("p") else call
            for call in calls]


# ------------------------------------------------------------ ways to give hooks


def test_a_context_calls_every_hook_in_order():
    with Note() as note:
        assert ray_dask_get(GRAPH, "d") == 14
    assert without_literals(note.calls) == ALL_CALLS
    ray_dask_get(GRAPH, "d")
    assert len(note.calls) == len(ALL_CALLS)


def test_callbacks_may_be_registered():
    note = Note()
    note.register()
    try:
        ray_dask_get(GRAPH, "d")
    finally:
        note.unregister()
    assert without_literals(note.calls) == ALL_CALLS
    with pytest.raises(KeyError):
        note.unregister()


def test_callbacks_of_one_call_take_the_place_of_active_ones():
    active, given = Note(), Note()
    with active:
        assert ray_dask_get(GRAPH, "d", ray_callbacks=[given]) == 14
    assert without_literals(given.calls) == ALL_CALLS and not active.calls


def test_hooks_are_given_by_keyword_and_several_callbacks_are_called_in_turn():
    order = []
    first = RayDaskCallback(ray_finish=lambda result: order.append(("first", result)))
    second = RayDaskCallback(
        ray_finish=lambda result: order.append(("second", result)),
        ray_postsubmit_all=lambda refs, dsk: order.append("all"),
    )
    with first, second, first:
        ray_dask_get(GRAPH, "c")
    assert order == ["all", ("first", 12), ("second", 12)]
    with pytest.raises(TypeError, match="ray_finnish"):
        RayDaskCallback(ray_finnish=print)


def test_collections_hand_callbacks_on():
    with Note() as note:
        x = da.ones((20, 20), chunks=10)
        assert (x + 1).sum().compute(scheduler=ray_dask_get) == 800
    assert note.calls[-1][0] == "finish"
    keys = [call[1] for call in note.calls if call[0] == "postsubmit"]
    assert len(keys) >= 5 and len(set(keys)) == len(keys)
    given = Note()
    (x + 1).sum().compute(scheduler=ray_dask_get, ray_callbacks=[given], num_workers=3, pool=None)
    assert len(given.calls) == len(note.calls)


def test_what_a_subclass_calls_of_its_base_class_is_there():
    class Loud(RayDaskCallback):
        def _ray_presubmit(self, task, key, deps):
            return super()._ray_presubmit(task, key, deps)

        def _ray_finish(self, result):
            super()._ray_finish(result)
            self.result = result

    with Loud() as loud:
        ray_dask_get(GRAPH, "c")
    assert loud.result == 12


def test_callbacks_are_unpacked_hook_by_hook():
    only = RayDaskCallback(ray_pretask=print, ray_finish=print)
    unpacked = unpack_ray_callbacks([only, RayDaskCallback(ray_finish=repr)])
    assert unpacked.ray_finish_cbs == [print, repr]
    assert unpacked.ray_pretask_cbs == [print, None]
    assert unpacked.ray_presubmit_cbs is None and unpacked.ray_posttask_cbs is None
    assert unpack_ray_callbacks(None) == ((),) * 6
    with pytest.raises(TypeError, match="RayDaskCallback"):
        unpack_ray_callbacks([print])
    with only:
        with local_ray_callbacks() as chosen:
            assert len(chosen) == 1 and not RayDaskCallback.ray_active
        assert RayDaskCallback.ray_active == {only._ray_callback}
    with public.add_ray_callbacks(only):
        assert only._ray_callback in RayDaskCallback.ray_active


def test_computations_of_hooks_call_no_hooks():
    seen = []

    def finish(result):
        seen.append(result)
        ray_dask_get({"x": (add, 1, 1)}, "x")

    with RayDaskCallback(ray_finish=finish):
        ray_dask_get(GRAPH, "c")
    assert seen == [12]


# ------------------------------------------------------------ presubmit


@pytest.mark.parametrize("value", [0, False, [], "", np.zeros(3), {"x": 1}], ids=repr)
def test_any_value_but_none_takes_the_place_of_a_task(value):
    ran = []

    def presubmit(task, key, deps):
        return value if key == "b" else None

    def fail():
        raise AssertionError("this must not run")

    with RayDaskCallback(
        ray_presubmit=presubmit, ray_postsubmit=lambda task, key, deps, ref: ran.append(key)
    ):
        b, c = ray_dask_get({"b": (fail,), "c": (lambda b: [b], "b")}, ["b", "c"])
    assert ran == ["c"]
    for found in (b, c[0]):
        assert type(found) is type(value)
        assert np.array_equal(found, value) if isinstance(value, np.ndarray) else found == value


def test_a_reference_takes_the_place_of_a_task():
    big = np.arange(100_000)
    ref = ray.put(big)
    with RayDaskCallback(ray_presubmit=lambda task, key, deps: ref if key == "b" else None):
        assert ray_dask_get({"b": (list, []), "c": (np.sum, "b")}, "c") == big.sum()


def test_presubmit_gets_the_task_and_may_wait_for_its_dependencies():
    seen = {}

    def presubmit(task, key, deps):
        seen[key] = task
        if key == "d":
            assert set(deps) >= {"b", "c"} and all(isinstance(deps[k], ray.ObjectRef) for k in "bc")
            return sum(ray.get([deps["b"], deps["c"]])) * 100

    with RayDaskCallback(ray_presubmit=presubmit):
        assert ray_dask_get({**GRAPH, "e": (add, "d", "b")}, ["e", "d", "b"]) == (1402, 1400, 2)
    assert set(seen) == {"b", "c", "d", "e"}
    assert seen["c"] == GRAPH["c"]


def test_dependencies_that_a_hook_keeps_are_good_afterwards():
    kept = {}

    class Keep(RayDaskCallback):
        def _ray_presubmit(self, task, key, deps):
            kept[key] = deps

        def _ray_finish(self, result):
            self.later = {key: dict(deps) for key, deps in kept.items()}

    with Keep() as keep:
        assert ray_dask_get(GRAPH, "d") == 14
    assert ray.get([keep.later["d"]["b"], keep.later["d"]["c"]]) == [2, 12]
    assert ray.get({**kept["d"]}["c"]) == 12


def test_references_from_postsubmit_may_be_kept_and_sent_to_actors():
    store = Store.remote()
    kept = {}

    def postsubmit(task, key, deps, object_ref):
        kept[key] = object_ref
        store.put.remote(key, object_ref)

    with RayDaskCallback(ray_postsubmit=postsubmit):
        assert ray_dask_get(GRAPH, "d") == 14
    assert {key: ray.get(ref) for key, ref in kept.items()} == {"b": 2, "c": 12, "d": 14}
    assert ray.get(store.all.remote()) == {"b": 2, "c": 12, "d": 14}


def test_a_graph_with_hooks_of_the_driver_is_sent_as_one(monkeypatch):
    session = ray._runtime.current_session()
    chunks = []
    send = session.send_chunk
    monkeypatch.setattr(
        session, "send_chunk", lambda chunk, refs=(): (chunks.append(chunk.task_count), send(chunk, refs))
    )
    graph = {("x", i): (add, i, 1) for i in range(500)}
    graph["sum"] = (sum, [("x", i) for i in range(500)])

    class Skip(Note):
        def _ray_presubmit(self, task, key, deps):
            super()._ray_presubmit(task, key, deps)
            return 7 if key == ("x", 3) else None

    with Skip() as note:
        assert ray_dask_get(graph, "sum") == 500 * 501 // 2 + 3
    assert chunks == [500]
    assert len([1 for call in note.calls if call[0] == "postsubmit"]) == 500


# ------------------------------------------------------------ hooks of the workers


def test_hooks_of_workers_get_values_and_their_own_state():
    store = Store.remote()

    class Pair(RayDaskCallback):
        def __init__(self, name):
            self.name = name

        def _ray_pretask(self, key, object_refs):
            ray.get(store.put.remote((self.name, "pre", key), tuple(object_refs)))
            return f"{self.name}:{key}"

        def _ray_posttask(self, key, result, pre_state):
            ray.get(store.put.remote((self.name, "post", key), (result, pre_state)))

    with Pair("one"), Pair("two"):
        assert ray_dask_get(GRAPH, "d") == 14
    seen = ray.get(store.all.remote())
    for name in ("one", "two"):
        assert seen[name, "post", "d"] == (14, f"{name}:d")
        assert sorted(seen[name, "pre", "d"]) == [2, 12]
        assert seen[name, "post", "b"] == (2, f"{name}:b")
    assert len(seen) == 2 * 2 * 3


def test_a_posttask_alone_has_no_state_and_is_not_called_after_an_error():
    store = Store.remote()

    def posttask(key, result, pre_state):
        ray.get(store.put.remote(key, pre_state))

    def fail(x):
        raise OSError("no")

    with RayDaskCallback(ray_posttask=posttask):
        with pytest.raises(OSError, match="no"):
            ray_dask_get({"a": (add, 1, 1), "b": (fail, "a")}, "b")
    assert ray.get(store.all.remote()) == {"a": None}


def test_hooks_of_workers_see_all_kinds_of_tasks():
    store = Store.remote()

    def posttask(key, result, pre_state):
        store.put.remote(str(key), None)

    ref = ray.put(5)
    big = np.ones(50_000)
    with RayDaskCallback(ray_posttask=posttask):
        x = da.from_array(big, chunks=10_000)
        assert ((x + 1) * 2).sum().compute(scheduler=ray_dask_get) == 200_000
        nested = dask.delayed(lambda a, b: a[0]["x"] + b)([{"x": ref}], ref)
        assert nested.compute(scheduler=ray_dask_get) == 10
        assert dask.delayed(lambda a, *, b: a.sum() + b)(big, b=ref).compute(scheduler=ray_dask_get) == 50_005
        held = dask.delayed(add)(1, 2).persist(scheduler=ray_dask_get)
        assert dask.delayed(add)(held, 1).compute(scheduler=ray_dask_get) == 4
    assert len(ray.get(store.all.remote())) >= 10


def test_an_error_in_a_hook_of_a_worker_fails_the_task():
    def pretask(key, object_refs):
        if key == "c":
            raise KeyError("from the hook")

    with RayDaskCallback(ray_pretask=pretask):
        with pytest.raises(KeyError, match="from the hook"):
            ray_dask_get(GRAPH, "d")
    assert ray_dask_get(GRAPH, "d") == 14


def test_the_traceback_of_a_task_with_hooks_begins_in_the_task():
    def fail(x):
        raise OSError("no")

    with RayDaskCallback(ray_posttask=lambda key, result, state: None), pytest.raises(OSError) as caught:
        ray_dask_get({"a": (fail, 1)}, "a")
    files = re.findall(r'File "(.+)", line', caught.value.traceback_str)
    assert files and all(path == __file__ for path in files)


def test_hooks_that_cannot_be_sent_to_workers_say_so():
    class Reading(RayDaskCallback):
        def __init__(self):
            self.lines = (line for line in "abc")

        def _ray_pretask(self, key, object_refs):
            pass

    with pytest.raises(TypeError, match="(?s)ray_pretask.*workers.*generator"):
        ray_dask_get(GRAPH, "d", ray_callbacks=[Reading()])


# ------------------------------------------------------------ errors, persist, debugging


@pytest.mark.parametrize("hook", ["ray_presubmit", "ray_postsubmit", "ray_postsubmit_all", "ray_finish"])
def test_an_error_in_a_hook_of_the_driver_is_raised_and_cancels(hook):
    def fail(*args):
        raise LookupError(hook)

    with RayDaskCallback(**{hook: fail}):
        with pytest.raises(LookupError, match=hook):
            ray_dask_get(GRAPH, "d")
    assert ray_dask_get(GRAPH, "d") == 14


def test_an_error_of_a_task_is_raised_when_hooks_looked_at_references():
    def fail(x):
        raise OSError("no")

    def presubmit(task, key, deps):
        deps.values()

    with RayDaskCallback(ray_presubmit=presubmit):
        with pytest.raises(OSError, match="no"):
            ray_dask_get({"a": (add, 1, 1), "b": (fail, "a"), "c": (add, "b", "a")}, "c")
    assert ray_dask_get(GRAPH, "d") == 14


def test_the_key_error_of_an_actor_is_a_key_error_and_the_actor_lives_on():
    store = Store.remote()
    missed = []

    def presubmit(task, key, deps):
        try:
            return ray.get(store.get.remote(key))
        except KeyError:
            missed.append(key)

    with RayDaskCallback(ray_presubmit=presubmit):
        ray_dask_get(GRAPH, "c")
        ray.get(store.put.remote("c", 5))
        assert ray_dask_get(GRAPH, "d") == 7
    assert missed == ["b", "c", "b", "d"]


def test_persisted_collections_have_their_hooks_called():
    note = Note()
    waited = []

    def wait(refs, dsk):
        refs = list(core.flatten(refs, tuple))
        ready, _ = ray.wait(refs, num_returns=len(refs))
        waited.append(len(ready))

    with enable_dask_on_ray(), note, RayDaskCallback(ray_postsubmit_all=wait):
        x = da.ones((20, 20), chunks=10).persist()
    assert waited == [4]
    assert note.calls[-1][0] == "finish"
    seen = []
    hooks = RayDaskCallback(ray_presubmit=lambda task, key, deps: seen.extend(deps.values()))
    assert x.sum().compute(scheduler=ray_dask_get, ray_callbacks=[hooks]) == 400
    assert len({ref for ref in seen if isinstance(ref, ray.ObjectRef)}) >= 4


def test_the_synchronous_scheduler_calls_hooks_in_this_process():
    order = []
    hooks = RayDaskCallback(
        ray_presubmit=lambda task, key, deps: 100 if key == "c" and deps["b"] == 2 else None,
        ray_pretask=lambda key, values: order.append(("pre", key, values)),
        ray_posttask=lambda key, result, state: order.append(("post", key, result)),
        ray_finish=lambda result: order.append(("finish", result)),
    )
    assert ray_dask_get_sync(GRAPH, ["d"], ray_callbacks=[hooks]) == (102,)
    assert [o[:2] for o in order] == [
        ("pre", "b"), ("post", "b"), ("pre", "d"), ("post", "d"), ("finish", (102,)),
    ]


def test_the_progress_bar_of_the_documentation_is_accepted():
    with ProgressBarCallback():
        assert ray_dask_get(GRAPH, "d", _ray_enable_progress_bar=True) == 14
