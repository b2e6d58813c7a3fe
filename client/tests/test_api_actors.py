"""Actors on a real node, over both carriers."""

import os
import time

import numpy as np
import pytest

import ray
from ray import exceptions


@ray.remote
class Counter:
    def __init__(self, start=0):
        self.value = start

    def add(self, amount=1):
        self.value += amount
        return self.value

    def fail(self):
        raise KeyError("from the actor")

    @ray.method(num_returns=2)
    def pair(self):
        return self.value, -self.value

    def die(self):
        os._exit(1)

    def sleep(self, seconds):
        time.sleep(seconds)
        return self.value

    def pid(self):
        return os.getpid()

    async def later(self):
        return self.value


def test_calls_run_in_order_and_keep_state(cluster):
    counter = Counter.remote(10)
    assert ray.get([counter.add.remote() for _ in range(100)]) == list(range(11, 111))
    first, second = counter.pair.remote()
    assert ray.get([first, second]) == [110, -110]
    assert ray.get(counter.later.remote()) == 110


def test_an_error_leaves_the_actor_as_it_was(cluster):
    counter = Counter.remote()
    with pytest.raises(KeyError):
        ray.get(counter.fail.remote())
    assert ray.get(counter.add.remote()) == 1


def test_arguments_may_be_references_and_large(cluster):
    counter = Counter.remote(ray.put(5))
    assert ray.get(counter.add.remote(ray.put(2))) == 7
    total = ray.get(counter.add.remote(np.ones(50_000)))
    assert total.sum() == 8 * 50_000


def test_a_handle_can_be_passed_to_tasks_and_actors(cluster):
    @ray.remote
    def use(handle, times):
        return ray.get([handle.add.remote() for _ in range(times)])[-1]

    counter = Counter.remote()
    ray.get([use.remote(counter, 5) for _ in range(4)])
    assert ray.get(counter.add.remote(0)) == 20


def test_actors_live_in_processes_of_their_own(cluster):
    counters = [Counter.remote() for _ in range(3)]
    pids = ray.get([counter.pid.remote() for counter in counters])
    assert len(set(pids)) == 3 and os.getpid() not in pids


def test_an_actor_is_found_by_its_name(cluster):
    counter = Counter.options(name="by-name").remote(1)
    found = ray.get_actor("by-name")
    assert ray.get(found.add.remote()) == 2 and found == counter
    with pytest.raises(ValueError, match="by-name"):
        Counter.options(name="by-name").remote()
    again = Counter.options(name="by-name", get_if_exists=True).remote(100)
    assert ray.get(again.add.remote()) == 3
    ray.kill(counter)


def test_a_name_that_nobody_has_is_a_value_error(cluster):
    with pytest.raises(ValueError, match="nobody"):
        ray.get_actor("nobody")
    with pytest.raises(exceptions.ActorHandleNotFoundError):
        ray.get_actor("nobody")


def test_a_killed_actor_fails_its_calls(cluster):
    counter = Counter.remote()
    ray.get(counter.add.remote())
    waiting = counter.sleep.remote(30)
    time.sleep(0.2)
    ray.kill(counter)
    with pytest.raises(exceptions.RayActorError):
        ray.get(waiting, timeout=20)
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(counter.add.remote(), timeout=20)


def test_an_actor_whose_process_dies_fails_its_calls(cluster):
    counter = Counter.remote()
    with pytest.raises(exceptions.RayActorError):
        ray.get(counter.die.remote(), timeout=20)
    with pytest.raises(exceptions.RayActorError):
        ray.get(counter.add.remote(), timeout=20)


def test_an_error_in_the_constructor_is_told_by_the_first_call(cluster):
    @ray.remote
    class Broken:
        def __init__(self):
            raise RuntimeError("can not be made")

        def method(self):
            return 1

    with pytest.raises((exceptions.RayActorError, RuntimeError), match="can not be made"):
        ray.get(Broken.remote().method.remote(), timeout=20)


def test_an_actor_without_handles_ends(cluster):
    counter = Counter.remote()
    pid = ray.get(counter.pid.remote())
    del counter
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{pid}")


def test_calls_made_before_the_last_handle_went_are_run(cluster):
    assert ray.get([Counter.remote(i).add.remote() for i in range(3)]) == [1, 2, 3]


def test_misuse_is_an_error_that_says_what_to_do(cluster):
    with pytest.raises(TypeError, match="remote"):
        Counter()
    counter = Counter.remote()
    with pytest.raises(TypeError, match="remote"):
        counter.add()
    with pytest.raises(AttributeError, match="nothing_like_it"):
        counter.nothing_like_it.remote()
    with pytest.raises(ValueError, match="ray.cancel"):
        ray.kill(counter.add.remote())
    with pytest.raises(TypeError, match="ray.kill"):
        ray.cancel(counter)


def test_an_actor_can_make_actors_and_tasks(cluster):
    @ray.remote
    class Parent:
        def __init__(self):
            self.child = Counter.remote(7)

        def ask(self):
            return ray.get(self.child.add.remote())

    parent = Parent.remote()
    assert ray.get([parent.ask.remote() for _ in range(3)]) == [8, 9, 10]
