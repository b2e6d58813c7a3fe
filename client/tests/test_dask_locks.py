"""Locks in graphs hold between processes, and are released when their holder dies."""

import os
import pickle
import signal
import threading
import time

import pytest
from dask.utils import SerializableLock

import ray
from ray._cluster_lock import lock_of
from ray.util.dask import ray_dask_get

pytestmark = pytest.mark.usefixtures("local_cluster")


def _read_and_write(lock, path, barrier):
    """Counts one up, in a way that loses counts unless the lock holds."""
    with lock:
        count = int(path.read_text())
        for _ in range(20):
            time.sleep(0)
        barrier.append(count)
        path.write_text(str(count + 1))
    return os.getpid()


class NamedLock(SerializableLock):
    """As a library may have one: it has a name, and counts how often it was taken in this process."""

    def __init__(self, name=None):
        super().__init__(name)
        self.taken = 0

    def __enter__(self):
        self.taken += 1
        return super().__enter__()


class LockWithState(SerializableLock):
    def __getstate__(self):
        return {"token": self.token, "note": getattr(self, "note", "")}

    def __setstate__(self, state):
        self.__init__(state["token"])
        self.note = state["note"]


class StrictLock(NamedLock):
    """A subclass of a subclass."""


@pytest.mark.parametrize(
    "make", [threading.Lock, threading.RLock, SerializableLock, NamedLock, LockWithState, StrictLock], ids=str,
)
def test_a_lock_in_a_graph_excludes_tasks_of_all_workers(make, tmp_path):
    lock = make()
    path = tmp_path / "count"
    path.write_text("0")
    graph = {("a", n): (_read_and_write, lock, path, []) for n in range(100)}
    pids = ray_dask_get(graph, list(graph))
    assert path.read_text() == "100"
    assert len(set(pids)) > 1 or os.cpu_count() == 1
    assert lock.acquire(blocking=False)  # the caller's own was never touched
    lock.release()


def test_locks_of_two_graphs_are_one_if_they_are_one_here(tmp_path):
    lock, other = SerializableLock(), SerializableLock()

    def token(lock):
        return lock.token

    graph = {"a": (token, lock), "b": (token, other)}
    first = ray_dask_get(graph, ["a", "b"])
    assert first == ray_dask_get(graph, ["a", "b"])
    assert first[0] != first[1]


def test_a_lock_of_a_subclass_stays_one_and_is_one_lock_for_all_tasks():
    named, noted = StrictLock("a name"), LockWithState("a name")
    noted.note = "what the class adds"

    def look(lock):
        with lock:
            inside = lock.locked()
        return type(lock).__name__, lock.token, getattr(lock, "note", None), inside, lock.lock.token

    first, second = ray_dask_get({"a": (look, named), "b": (look, noted)}, ["a", "b"])
    assert first[:4] == ("StrictLock", "a name", None, True)
    assert second[:4] == ("LockWithState", "a name", "what the class adds", True)
    assert first[4] == second[4]
    assert pickle.loads(pickle.dumps(noted)).lock is noted.lock  # outside of graphs, as ever
    assert pickle.loads(pickle.dumps(noted)).note == "what the class adds"


def test_a_lock_is_released_when_its_holder_dies(tmp_path):
    lock = SerializableLock()
    mark = tmp_path / "died"

    def die_once(lock):
        with lock:
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return 1

    def work(lock, _):
        with lock:
            return 2

    assert ray_dask_get({"a": (die_once, lock), "b": (work, lock, "a")}, ["a", "b"]) == (1, 2)


def test_a_lock_is_released_when_its_task_raises():
    lock = threading.Lock()

    def fail(lock):
        with lock:
            raise ValueError("while it was held")

    for _ in range(3):
        with pytest.raises(ValueError, match="while it was held"):
            ray_dask_get({"a": (fail, lock)}, "a")


def test_who_waits_for_a_lock_holds_nobody_up(tmp_path):
    """The holder waits for a task that may have been given to the worker that waits for the lock."""
    lock = threading.Lock()

    def hold(lock):
        with lock:
            return sum(ray_dask_get({("x", n): (int, n) for n in range(50)}, [("x", n) for n in range(50)]))

    graph = {("a", n): (hold, lock) for n in range(6)}
    assert ray_dask_get(graph, list(graph)) == (1225,) * 6


def test_a_cluster_lock_is_as_threadings_locks():
    lock = lock_of("some-token", False)
    assert lock is pickle.loads(pickle.dumps(lock))
    assert not lock.locked()
    with lock:
        assert lock.locked()
        assert not lock.acquire(blocking=False)
        assert not lock.acquire(timeout=0.01)
    assert not lock.locked()
    with pytest.raises(RuntimeError):
        lock.release()
    reentrant = lock_of("some-token", True)
    with reentrant:
        with reentrant:
            assert not lock.acquire(timeout=0.01)  # another process's would not be had either
    assert lock.acquire(timeout=1)
    lock.release()


def test_threads_of_a_process_exclude_each_other():
    lock = lock_of("between-threads", False)
    seen = []

    def work():
        for _ in range(50):
            with lock:
                seen.append(1)
                assert seen == [1]
                time.sleep(0)
                seen.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not seen and not lock.locked()


def test_locks_do_not_travel_outside_of_graphs():
    with pytest.raises(TypeError, match="lock"):
        pickle.dumps(threading.Lock())
    with pytest.raises(TypeError, match="lock"):
        ray.put([threading.Lock()])
    lock = SerializableLock()
    assert pickle.loads(pickle.dumps(lock)).lock is lock.lock
