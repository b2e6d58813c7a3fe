"""Tasks on a real node, over both carriers."""

import gc
import os
import sys
import threading
import time

import numpy as np
import pytest

import ray
from ray import exceptions


@ray.remote
def add(x, y=1):
    return x + y


@ray.remote
def identity(value):
    return value


@ray.remote
def fail(error):
    raise error


class Picky(Exception):
    def __init__(self, code, detail):
        super().__init__(f"{code} {detail}")
        self.code = code


def test_a_call_gives_its_value(cluster):
    assert ray.get(add.remote(1)) == 2
    assert ray.get(add.remote(1, y=2)) == 3
    assert ray.get([add.remote(i) for i in range(100)]) == list(range(1, 101))


def test_calls_are_joined_by_references(cluster):
    ref = add.remote(1)
    for _ in range(20):
        ref = add.remote(ref, y=ref)
    assert ray.get(ref) == 2 * 2**20


def test_a_call_directly_is_an_error_that_names_remote(cluster):
    with pytest.raises(TypeError, match=r"add.remote\(\)"):
        add(1)


def test_arguments_that_do_not_fit_are_an_error_of_the_caller(cluster):
    with pytest.raises(TypeError):
        add.remote()
    with pytest.raises(TypeError):
        add.remote(1, 2, 3)
    with pytest.raises(TypeError):
        add.remote(1, z=2)


def test_several_results(cluster):
    @ray.remote(num_returns=3)
    def three():
        return 1, [2], "3"

    @ray.remote(num_returns=2)
    def too_few():
        return (1,)

    first, second, third = three.remote()
    assert ray.get([third, second, first]) == ["3", [2], 1]
    assert three.options(num_returns=0).remote() is None
    assert ray.get(three.options(num_returns=1).remote()) == (1, [2], "3")
    with pytest.raises(ValueError, match="num_returns=2"):
        ray.get(too_few.remote())


@pytest.mark.parametrize("size", [10, 5_000, 200_000, 2_000_000])
def test_arrays_of_any_size_go_both_ways(cluster, size):
    array = np.random.default_rng(size).random(size)
    assert np.array_equal(ray.get(identity.remote(array)), array)
    ref = ray.put(array)
    assert np.array_equal(ray.get(ref), array)
    assert np.array_equal(ray.get(identity.remote(ref)), array)
    assert np.array_equal(ray.get(identity.remote({"deep": [array]}))["deep"][0], array)


def test_a_large_keyword_argument_beside_references(cluster):
    array = np.arange(50_000)

    @ray.remote
    def total(first, second, *, big, more):
        return int(first + second + big.sum() + more)

    made = total.remote(ray.put(1), 2, big=array, more=ray.put(3))
    assert ray.get(made) == 6 + int(array.sum())


def test_a_reference_deep_inside_stays_one_and_is_kept_alive(cluster):
    @ray.remote
    def unwrap(box):
        assert isinstance(box[0], ray.ObjectRef)
        return ray.get(box[0])

    made = unwrap.remote([ray.put("inside")])
    gc.collect()
    assert ray.get(made) == "inside"


def test_references_in_results_and_puts_keep_their_objects(cluster):
    @ray.remote
    def make():
        return [add.remote(1), ray.put(np.ones(50_000))]

    inner = ray.get(make.remote())
    gc.collect()
    time.sleep(0.3)  # releases are on their way; the objects must not be
    assert ray.get(inner[0]) == 2 and ray.get(inner[1]).sum() == 50_000
    outer = ray.put([ray.put("kept")])
    gc.collect()
    time.sleep(0.3)
    assert ray.get(ray.get(outer)[0]) == "kept"


def test_nested_tasks_and_get_inside_tasks_with_more_than_there_are_workers(cluster):
    @ray.remote
    def tree(depth):
        if not depth:
            return 1
        return sum(ray.get([tree.remote(depth - 1) for _ in range(2)]))

    assert ray.get(tree.remote(4)) == 16


def test_an_error_is_both_of_its_class_and_a_task_error(cluster):
    with pytest.raises(ZeroDivisionError) as caught:
        ray.get(add.remote(identity.remote(1), fail.remote(ZeroDivisionError("zero"))))
    assert isinstance(caught.value, exceptions.RayTaskError)
    assert isinstance(caught.value.cause, ZeroDivisionError)
    assert "test_api_tasks.py" in str(caught.value) and "in fail" in str(caught.value)

    @ray.remote
    def picky():
        raise Picky(3, "detail")

    with pytest.raises(Picky) as caught:
        ray.get(picky.remote())
    assert caught.value.code == 3


def test_an_error_of_a_nested_task_comes_through(cluster):
    @ray.remote
    def outer():
        return ray.get(fail.remote(KeyError("inner")))

    with pytest.raises(KeyError) as caught:
        ray.get(outer.remote())
    assert isinstance(caught.value, exceptions.RayTaskError)


def test_an_exception_that_can_not_be_pickled_arrives_as_text(cluster):
    @ray.remote
    def bad():
        error = ValueError("with a lock")
        error.lock = threading.Lock()
        raise error

    with pytest.raises(exceptions.RayTaskError, match="with a lock"):
        ray.get(bad.remote())


def test_a_result_that_can_not_be_pickled_names_task_object_and_reason(cluster):
    @ray.remote
    def makes_a_lock():
        return {"key": threading.Lock()}

    with pytest.raises(TypeError) as caught:
        ray.get(makes_a_lock.remote())
    for part in ("makes_a_lock", "_thread.lock", "value['key']", "cannot pickle"):
        assert part in str(caught.value)


def test_an_argument_that_can_not_be_pickled_is_an_error_of_the_caller(cluster):
    with pytest.raises(TypeError) as caught:
        identity.remote([threading.Lock()])
    assert "identity" in str(caught.value) and "_thread.lock" in str(caught.value)


def test_a_module_that_is_missing_on_the_worker_is_named(cluster, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def function():\n    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here

    with pytest.raises(exceptions.RayTaskError) as caught:
        ray.get(ray.remote(only_here.function).remote())
    assert "only_here" in str(caught.value) and "function" in str(caught.value)


def test_functions_of_main_lambdas_and_closures_travel(cluster):
    n = 10
    assert ray.get(ray.remote(lambda x: x * n).remote(4)) == 40

    def helper(x):
        return x + n

    @ray.remote
    def uses_helper(x):
        return helper(x)

    assert ray.get(uses_helper.remote(1)) == 11


def test_a_closure_over_a_reference_keeps_it(cluster):
    ref = ray.put("captured")

    @ray.remote
    def reads():
        return ray.get(ref)

    made = reads.remote()
    del ref
    gc.collect()
    assert ray.get(made) == "captured"


def test_what_a_task_does_to_its_arguments_stays_there(cluster):
    @ray.remote
    def spoil(items):
        items.append(1)
        return len(items)

    shared = ray.put([])
    assert ray.get([spoil.remote(shared) for _ in range(20)]) == [1] * 20
    mine = []
    refs = [spoil.remote(mine) for _ in range(5)]
    mine.append("later")
    assert ray.get(refs) == [1] * 5


def test_values_from_the_store_are_read_only(cluster):
    back = ray.get(ray.put(np.ones(100_000)))
    assert not back.flags.writeable


def test_exceptions_are_tried_again_as_often_as_was_said(cluster, tmp_path):
    @ray.remote(max_retries=3, retry_exceptions=[OSError])
    def third_time(path):
        with open(path, "a") as file:
            file.write("x")
        if os.path.getsize(path) < 3:
            raise OSError("not yet")
        return os.path.getsize(path)

    @ray.remote(max_retries=3, retry_exceptions=[OSError])
    def wrong_kind(path):
        with open(path, "a") as file:
            file.write("x")
        raise ValueError("no retry")

    assert ray.get(third_time.remote(str(tmp_path / "a"))) == 3
    with pytest.raises(ValueError):
        ray.get(wrong_kind.remote(str(tmp_path / "b")))
    assert os.path.getsize(tmp_path / "b") == 1


def test_a_worker_that_dies_has_its_task_run_again(cluster, tmp_path):
    @ray.remote
    def dies_once(path):
        if not os.path.exists(path):
            open(path, "w").close()
            os.kill(os.getpid(), 9)
        return "survived"

    assert ray.get(dies_once.remote(str(tmp_path / "mark"))) == "survived"


def test_a_worker_that_always_dies_is_an_error_with_task_and_signal(cluster):
    @ray.remote(max_retries=1)
    def always_dies():
        os.kill(os.getpid(), 9)

    with pytest.raises(exceptions.WorkerCrashedError) as caught:
        ray.get(always_dies.remote())
    assert "always_dies" in str(caught.value) and "9" in str(caught.value)


def test_get_checks_what_it_is_given(cluster):
    for wrong in (1, "x", None, (add.remote(1),), [1], {"a": 1}):
        with pytest.raises(ValueError, match="ObjectRef"):
            ray.get(wrong)
    assert ray.get([]) == []
    ref = add.remote(1)
    assert ray.get([ref, ref]) == [2, 2]


def test_get_with_a_time_out(cluster):
    @ray.remote
    def slow():
        time.sleep(5)

    ref = slow.remote()
    for timeout in (0, 0.05):
        with pytest.raises(exceptions.GetTimeoutError):
            ray.get(ref, timeout=timeout)
    with pytest.raises(TimeoutError):
        ray.get(ref, timeout=0.01)
    ray.cancel(ref)
    ready = ray.put(7)
    assert ray.get(ready, timeout=0) == 7


def test_wait_checks_what_it_is_given(cluster):
    ref = add.remote(1)
    with pytest.raises(TypeError):
        ray.wait(ref)
    with pytest.raises(TypeError):
        ray.wait([1])
    with pytest.raises(ValueError, match="unique"):
        ray.wait([ref, ref])
    for wrong in (0, -1, 2):
        with pytest.raises(ValueError):
            ray.wait([ref], num_returns=wrong)
    with pytest.raises(ValueError):
        ray.wait([ref], timeout=-1)
    assert ray.wait([]) == ([], [])


def test_wait_tells_ready_from_not_ready_in_order(cluster):
    @ray.remote
    def slow():
        time.sleep(20)

    late = slow.remote()
    quick = [add.remote(i) for i in range(3)]
    ready, rest = ray.wait([late, *quick], num_returns=3, timeout=30)
    assert ready == quick and rest == [late]
    ready, rest = ray.wait([quick[2], late, quick[0]], num_returns=1)
    assert ready == [quick[2]] and rest == [late, quick[0]]
    assert ray.wait([late], timeout=0) == ([], [late])
    assert ray.wait([quick[0]], timeout=0) == ([quick[0]], [])
    ray.cancel(late)


def test_a_failed_task_is_ready(cluster):
    ref = fail.remote(ValueError())
    assert ray.wait([ref], timeout=30) == ([ref], [])


def test_put_refuses_a_reference_and_what_can_not_be_pickled(cluster):
    with pytest.raises(TypeError, match="not allowed"):
        ray.put(ray.put(1))
    with pytest.raises(TypeError, match="_thread.lock"):
        ray.put(threading.Lock())


def test_cancel_interrupts_the_task_and_not_the_next_one(cluster):
    @ray.remote
    def sleeps():
        time.sleep(30)

    running = sleeps.remote()
    after = [add.remote(i) for i in range(50)]
    time.sleep(0.3)
    ray.cancel(running)
    with pytest.raises(exceptions.TaskCancelledError):
        ray.get(running, timeout=20)
    assert ray.get(after, timeout=20) == list(range(1, 51))


def test_cancel_of_a_task_that_waits_in_get(cluster):
    @ray.remote
    def sleeps():
        time.sleep(30)

    @ray.remote
    def waits(box):
        return ray.get(box[0])

    inner = sleeps.remote()
    outer = waits.remote([inner])
    time.sleep(0.3)
    ray.cancel(outer)
    with pytest.raises(exceptions.TaskCancelledError):
        ray.get(outer, timeout=20)
    ray.cancel(inner)


def test_cancel_by_force_ends_even_a_task_that_does_not_listen(cluster):
    @ray.remote
    def deaf():
        while True:
            try:
                time.sleep(30)
            except KeyboardInterrupt:
                pass

    ref = deaf.remote()
    time.sleep(0.3)
    ray.cancel(ref, force=True)
    with pytest.raises((exceptions.TaskCancelledError, exceptions.WorkerCrashedError)):
        ray.get(ref, timeout=20)


def test_cancel_of_what_is_done_changes_nothing(cluster):
    ref = add.remote(1)
    ray.get(ref)
    ray.cancel(ref)
    assert ray.get(ref) == 2


def test_options_are_checked(cluster):
    with pytest.raises(ValueError, match="num_cpu"):
        ray.remote(num_cpu=1)(lambda: 1)
    with pytest.raises(ValueError):
        add.options(num_returns=-1)
    with pytest.raises(ValueError):
        add.options(num_cpus=-1)
    with pytest.raises(ValueError):
        add.options(resources={"CPU": 1})
    with pytest.raises(ValueError):
        add.options(max_retries=-2)
    with pytest.raises(TypeError):
        ray.remote()
    with pytest.raises(TypeError):
        ray.remote(5)


def test_resources_bound_what_runs_at_once(cluster, tmp_path):
    @ray.remote
    def overlap(directory, number):
        mine = os.path.join(directory, str(number))
        open(mine, "w").close()
        others = len(os.listdir(directory))
        time.sleep(0.05)
        os.unlink(mine)
        return others

    limited = overlap.options(resources={"thing": 3})
    assert set(ray.get([limited.remote(str(tmp_path), i) for i in range(6)])) == {1}
    assert ray.get(overlap.options(num_cpus=0).remote(str(tmp_path), 99)) >= 1


def test_a_task_that_no_node_can_run_waits(cluster):
    ref = add.options(num_gpus=3).remote(1)
    assert ray.wait([ref], timeout=0.3) == ([], [ref])
    ray.cancel(ref)


def test_many_calls_at_once(cluster):
    refs = [add.remote(i) for i in range(3000)]
    assert ray.get(refs) == list(range(1, 3001))


def test_calls_from_many_threads(cluster):
    results = {}

    def work(number):
        refs = [add.remote(i, number) for i in range(50)]
        results[number] = sum(ray.get(refs)) + sum(ray.get(add.remote(i)) for i in range(20))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert results == {n: 50 * 49 // 2 + 50 * n + 210 for n in range(8)}


def test_calls_that_nobody_waits_for_are_sent_all_the_same(cluster, tmp_path):
    @ray.remote
    def mark(path):
        open(path, "w").close()

    kept = mark.remote(str(tmp_path / "done"))
    deadline = time.monotonic() + 20
    while not (tmp_path / "done").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (tmp_path / "done").exists()
    del kept


def test_a_future_and_await(cluster):
    import asyncio

    assert add.remote(1).future().result(20) == 2

    async def both():
        return await add.remote(2), await asyncio.gather(*[add.remote(i) for i in range(5)])

    assert asyncio.run(both()) == (3, [1, 2, 3, 4, 5])
    with pytest.raises(ValueError):
        fail.remote(ValueError()).future().result(20)


def test_get_in_an_executor_of_a_running_loop(cluster):
    import asyncio

    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            *[loop.run_in_executor(None, ray.get, add.remote(i)) for i in range(8)]
        )

    assert asyncio.run(main()) == list(range(1, 9))


def test_workers_have_the_drivers_path_and_directory(cluster):
    @ray.remote
    def where():
        return os.getcwd(), list(sys.path)

    directory, path = ray.get(where.remote())
    assert directory == os.getcwd()
    assert set(os.path.abspath(p) for p in sys.path if p) <= set(path)


def test_a_worker_has_one_thread_for_arithmetic_and_the_clusters_hash_seed(cluster):
    @ray.remote
    def look():
        return os.environ.get("OMP_NUM_THREADS"), hash("raylet"), os.getpid()

    seen = ray.get([look.remote() for _ in range(20)])
    assert {threads for threads, _, _ in seen} == {"1"}
    assert len({value for _, value, _ in seen}) == 1


def test_random_numbers_differ_between_workers(cluster):
    @ray.remote
    def draw():
        time.sleep(0.05)
        import random

        return os.getpid(), random.random(), float(np.random.random())

    seen = ray.get([draw.remote() for _ in range(8)])
    assert len({value for _, value, _ in seen}) == 8 and len({value for *_, value in seen}) == 8


def test_what_a_task_prints_reaches_the_driver_with_its_name(cluster, capfd):
    @ray.remote
    def speaks():
        print("a line of output")
        print("a line of error", file=sys.stderr)
        return os.getpid()

    pid = ray.get(speaks.remote())
    deadline = time.monotonic() + 10
    out = err = ""
    while time.monotonic() < deadline and not ("output" in out and "error" in err):
        time.sleep(0.05)
        more = capfd.readouterr()
        out, err = out + more.out, err + more.err
    assert f"(speaks pid={pid}) a line of output" in out
    assert f"(speaks pid={pid}) a line of error" in err


def test_the_runtime_context_tells_task_from_driver(cluster):
    @ray.remote
    def look():
        context = ray.get_runtime_context()
        return context.get_task_name(), context.get_task_id(), context.get_job_id()

    ref = look.remote()
    name, task, job = ray.get(ref)
    assert name == "look" and ref.hex().startswith(task)
    context = ray.get_runtime_context()
    assert context.get_task_id() is None and context.get_job_id() == job


def test_the_clusters_resources(cluster):
    assert ray.cluster_resources()["CPU"] == 2 and ray.cluster_resources()["thing"] == 4
    assert ray.available_resources()["thing"] == 4
    (node,) = ray.nodes()
    assert node["Alive"] and node["Resources"]["CPU"] == 2
