"""A worker, frame by frame: what it reports, hands back and interrupts. Its raylet is the test."""

import os
import pickle
import signal
import socket
import time

import cloudpickle
import numpy as np
import pytest

from ray._calls import INPUTS, dep
from ray._packets import send_packet, wait_for_packet
from ray._serialize import deserialize, serialize
from ray._wire import common_pb2, session_pb2 as wire

GRAPH = b"g" * 16
STORED = b"s" * 28


class Worker:
    """The raylet's end of one worker's socket."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(30)
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                self.socket.close()
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # as the zygote has it
                from ray._worker import main

                main.run(1, theirs.detach())
                status = 0
            finally:
                os._exit(status)
        theirs.close()
        assert self.read().WhichOneof("body") == "hello"
        self.send(hello_reply=wire.HelloReply(protocol_version=1, inline_bytes_max=64 << 10))
        self._functions = {}
        self._numbers = {"batch": 0, "group": 0}

    def send(self, **body: object) -> None:
        send_packet(self.socket, wire.ServerFrame(**body).SerializeToString())

    def read(self) -> wire.ClientFrame:
        return wire.ClientFrame.FromString(wait_for_packet(self.socket)[0])

    def read_until(self, body: str) -> list:
        """Frames up to and including the first of this kind."""
        frames = [self.read()]
        while frames[-1].WhichOneof("body") != body:
            frames.append(self.read())
        return frames

    def results(self, count: int) -> dict:
        """Position -> (status, value or failure), from as many Results as it takes."""
        found = {}
        while len(found) < count:
            results = self.read_until("results")[-1].results
            values, failures = iter(results.inline_values), iter(results.failures)
            for number, position in enumerate(results.positions):
                status = results.statuses[number] if results.statuses else wire.TASK_OK
                if status == wire.TASK_OK:
                    found[position] = (status, deserialize(next(values)))
                elif status == wire.TASK_HANDED_BACK:
                    found[position] = (status, None)
                else:
                    found[position] = (status, next(failures))
        return found

    def batch(self, calls: list, follows: int = 0, **more: object) -> wire.RunBatch:
        """A batch of (function, args) calls."""
        self._numbers["batch"] += 1
        self._numbers["group"] += 1
        group = self._numbers["group"]
        batch = wire.RunBatch(batch=self._numbers["batch"], graphs=[GRAPH], follows=follows, **more)
        for position, (function, _) in enumerate(calls):
            if function not in self._functions:
                number = self._functions[function] = len(self._functions) + 1
                batch.functions.append(
                    wire.FunctionDef(
                        number=number, name=function.__name__, pickled=cloudpickle.dumps(function)
                    )
                )
            batch.tasks.append(position)
            batch.function_numbers.append(self._functions[function])
            batch.group_numbers.append(group)
            batch.group_positions.append(position)
        blob = pickle.dumps([args for _, args in calls])
        batch.groups.append(wire.TaskGroup(number=group, blob=blob))
        return batch

    def store(self, value: object) -> wire.RunBatch:
        """What a batch says of a value in the store: the parts that name it as its only located input."""
        data = serialize(value).to_bytes()
        descriptor = os.memfd_create("segment")
        os.pwrite(descriptor, data, 0)
        segment = wire.ServerFrame(segment=wire.SegmentDef(segment=1, size_bytes=len(data)))
        send_packet(self.socket, segment.SerializeToString(), descriptor)
        os.close(descriptor)
        at = common_pb2.Location(segment=1, offset=0, size_bytes=len(data))
        return wire.RunBatch(located_inputs=[at], located_ids=STORED)

    def unpins(self, frames: list) -> int:
        """How often the value in the store is unpinned by these frames."""
        total = 0
        for frame in frames:
            if frame.WhichOneof("body") == "references" and frame.references.unpinned:
                assert frame.references.unpinned == STORED
                total += sum(frame.references.unpin_counts) or 1
        return total

    def close(self) -> None:
        self.socket.close()
        os.waitpid(self.pid, 0)


@pytest.fixture
def worker():
    made = Worker()
    yield made
    made.close()


def double(x):
    return 2 * x


def nap(seconds):
    time.sleep(seconds)
    return "slept"


def fail():
    raise ValueError("on purpose")


def test_a_batch_runs_in_order_and_is_reported_whole(worker):
    worker.send(run_batch=worker.batch([(double, (i,)) for i in range(200)]))
    assert worker.results(200) == {i: (wire.TASK_OK, 2 * i) for i in range(200)}


def test_what_is_done_is_reported_before_a_task_of_unknown_length(worker):
    worker.send(run_batch=worker.batch([(double, (1,)), (nap, (0.5,))]))
    first = worker.read_until("results")[-1].results
    assert list(first.positions) == [0]
    assert worker.results(1) == {1: (wire.TASK_OK, "slept")}


def test_a_result_is_the_input_of_a_later_task_of_the_batch(worker):
    batch = worker.batch([(double, (4,)), (double, (dep(0),)), (double, INPUTS)])
    batch.input_counts.extend([0, 1, 1])
    batch.inputs.extend([4 * (0 << 8) + wire.INPUT_EARLIER, 4 * (1 << 8) + wire.INPUT_EARLIER])
    worker.send(run_batch=batch)
    assert worker.results(3) == {0: (0, 8), 1: (0, 16), 2: (0, 32)}


def test_what_needs_a_failed_task_of_the_batch_is_handed_back(worker):
    batch = worker.batch([(fail, ()), (double, (dep(0),)), (double, (1,))])
    batch.input_counts.extend([0, 1, 0])
    batch.inputs.append(4 * (0 << 8) + wire.INPUT_EARLIER)
    worker.send(run_batch=batch)
    found = worker.results(3)
    assert [found[i][0] for i in range(3)] == [wire.TASK_FAILED, wire.TASK_HANDED_BACK, wire.TASK_OK]
    failure = found[0][1]
    assert failure.code == common_pb2.TASK_RAISED and failure.pid == worker.pid
    assert isinstance(deserialize(failure.cause), ValueError) and "in fail" in failure.traceback


def frames_of(worker, tasks: int) -> list:
    """All frames up to the one that reports the last of so many tasks, and what comes while it is idle."""
    frames, reported = [], 0
    while reported < tasks:
        frames += worker.read_until("results")
        reported += len(frames[-1].results.positions)
    worker.socket.settimeout(1.5)
    try:
        while True:
            frames.append(worker.read())
    except OSError:
        worker.socket.settimeout(30)
        return frames


def test_what_several_tasks_of_a_batch_read_in_the_store_is_unpinned_once_after_the_last(worker):
    batch = worker.batch([(len, INPUTS), (sum, INPUTS), (nap, (0.1,)), (max, INPUTS)])
    batch.MergeFrom(worker.store(np.arange(7_000)))
    batch.input_counts.extend([1, 1, 0, 1])
    batch.inputs.extend([wire.INPUT_LOCATED] * 3)
    worker.send(run_batch=batch)
    frames = frames_of(worker, 4)
    last = max(number for number, frame in enumerate(frames) if frame.WhichOneof("body") == "results")
    assert list(frames[last].results.positions) == [3]
    assert worker.unpins(frames[:last]) == 0
    assert worker.unpins(frames[last:]) == 1


def test_a_view_that_a_later_task_of_the_batch_needs_keeps_its_memory_pinned(worker):
    batch = worker.batch([(np.ravel, INPUTS), (len, INPUTS), (nap, (0.1,)), (sum, INPUTS)])
    batch.MergeFrom(worker.store(np.arange(7_000)))
    batch.input_counts.extend([1, 1, 0, 1])
    batch.inputs.extend([wire.INPUT_LOCATED] * 2 + [4 * (0 << 8) + wire.INPUT_EARLIER])
    worker.send(run_batch=batch)
    frames = [worker.read()]
    while frames[-1].WhichOneof("body") != "results" or 1 not in frames[-1].results.positions:
        if frames[-1].WhichOneof("body") == "lease_slab":
            pytest.fail("the view was to fit into the report")
        frames.append(worker.read())
    rest = frames_of(worker, 2)
    last = max(number for number, frame in enumerate(rest) if frame.WhichOneof("body") == "results")
    assert worker.unpins(frames + rest[:last]) == 0
    assert worker.unpins(rest[last:]) == 1


def test_what_tasks_that_are_handed_back_were_to_read_is_unpinned_once(worker):
    taken_back = worker.batch([(double, (1,))])
    batch = worker.batch([(len, INPUTS), (sum, INPUTS)], follows=taken_back.batch)
    batch.MergeFrom(worker.store(np.arange(7_000)))
    batch.input_counts.extend([1, 1])
    batch.inputs.extend([wire.INPUT_LOCATED] * 2)
    worker.send(run_batch=batch)
    frames = frames_of(worker, 2)
    assert worker.unpins(frames) == 1


def test_a_batch_behind_one_that_was_taken_back_is_handed_back_but_its_functions_stay(worker):
    taken_back = worker.batch([(double, (1,))])
    late = worker.batch([(nap, (0,))], follows=taken_back.batch)
    worker.send(run_batch=late)
    assert worker.results(1) == {0: (wire.TASK_HANDED_BACK, None)}
    again = worker.batch([(nap, (0,))], follows=late.batch)
    assert not again.functions
    worker.send(run_batch=again)
    assert worker.results(1) == {0: (wire.TASK_OK, "slept")}


def test_a_stray_interrupt_hits_nothing(worker):
    worker.send(run_batch=worker.batch([(nap, (0.5,)), (double, (2,))]))
    for _ in range(10):
        os.kill(worker.pid, signal.SIGINT)
        time.sleep(0.03)
    assert worker.results(2) == {0: (0, "slept"), 1: (0, 4)}


def test_a_cancel_interrupts_the_task_it_names_and_no_other(worker):
    batch = worker.batch([(double, (1,)), (nap, (30,)), (double, (3,))])
    worker.send(run_batch=batch)
    assert worker.results(1) == {0: (0, 2)}
    time.sleep(0.2)
    worker.send(cancel_task=wire.CancelTask(batch=batch.batch, position=1))
    os.kill(worker.pid, signal.SIGINT)
    found = worker.results(2)
    assert found[1][0] == wire.TASK_FAILED and found[1][1].code == common_pb2.TASK_CANCELLED
    assert found[2] == (0, 6)


def test_a_cancel_of_what_is_done_or_not_begun_does_not_hit_what_runs(worker):
    first = worker.batch([(double, (1,))])
    worker.send(run_batch=first)
    assert worker.results(1) == {0: (0, 2)}
    second = worker.batch([(nap, (0.6,)), (double, (5,))])
    worker.send(run_batch=second)
    time.sleep(0.2)
    for cancel in ((first.batch, 0), (second.batch, 1)):
        worker.send(cancel_task=wire.CancelTask(batch=cancel[0], position=cancel[1]))
        os.kill(worker.pid, signal.SIGINT)
    found = worker.results(2)
    assert found[0] == (0, "slept")
    assert found[1][0] == wire.TASK_FAILED and found[1][1].code == common_pb2.TASK_CANCELLED


def test_an_argument_that_a_task_changed_is_as_sent_when_it_runs_again(worker):
    def extend(items):
        items.append(1)
        return len(items)

    batch = worker.batch([(extend, ([],))])
    worker.send(run_batch=batch)
    assert worker.results(1) == {0: (0, 1)}
    again = wire.RunBatch()
    again.CopyFrom(batch)
    again.batch += 1
    again.attempts.append(1)
    del again.groups[:], again.functions[:]
    worker.send(run_batch=again)
    assert worker.results(1) == {0: (0, 1)}


def test_an_exception_worth_a_retry_is_told_as_one(worker):
    filter_ = serialize((ValueError,)).to_bytes()
    batch = worker.batch([(fail, ())] * 3, retry_exceptions=[filter_, serialize((OSError,)).to_bytes()])
    batch.retry_numbers.extend([1, 2, 3])
    worker.send(run_batch=batch)
    found = worker.results(3)
    assert [found[i][0] for i in range(3)] == [wire.TASK_RETRY, wire.TASK_RETRY, wire.TASK_FAILED]


def test_calls_inside_a_task_come_before_its_report_and_have_the_same_names_again(worker):
    def submits():
        import ray

        return [ray.remote(double).remote(1), ray.put(5)]

    graphs = []
    for _ in range(2):
        worker.send(run_batch=worker.batch([(submits, ())]))
        frames = worker.read_until("results")
        bodies = [frame.WhichOneof("body") for frame in frames]
        assert bodies.count("graph_chunk") >= 1 and bodies.count("put") == 1
        chunk = frames[bodies.index("graph_chunk")].graph_chunk
        put = frames[bodies.index("put")].put
        assert chunk.submitted_by_batch and chunk.hold_all and not chunk.fail_fast
        contained = frames[-1].results.contained[0]
        assert contained.ids == chunk.graph + bytes(12) + put.id
        released = worker.read_until("references")[-1].references.released
        assert sorted([released[:28], released[28:]]) == sorted([contained.ids[:28], put.id])
        graphs.append((chunk.graph, put.id))
    assert graphs[0] == graphs[1]


def test_a_task_that_waits_gives_the_rest_of_its_batch_back(worker):
    def waits():
        import ray

        return ray.get(ray.put("there"))

    worker.send(run_batch=worker.batch([(waits, ()), (double, (1,)), (double, (2,))]))
    frames = worker.read_until("get")
    put = next(frame.put for frame in frames if frame.WhichOneof("body") == "put")
    found = worker.results(2)
    assert found == {1: (wire.TASK_HANDED_BACK, None), 2: (wire.TASK_HANDED_BACK, None)}
    assert worker.read_until("blocked")[-1].blocked.blocked
    worker.send(
        object_answers=wire.ObjectAnswers(
            request=frames[-1].get.request, ids=put.id, inline_values=[put.inline_value]
        )
    )
    assert not worker.read_until("blocked")[-1].blocked.blocked
    assert worker.results(1) == {0: (0, "there")}


def test_code_that_can_not_be_unpickled_is_a_failure_with_the_modules_name(worker):
    batch = worker.batch([(double, (1,))])
    batch.functions[0].pickled = b"cno_such_module\nfunction\n."
    worker.send(run_batch=batch)
    status, failure = worker.results(1)[0]
    assert status == wire.TASK_FAILED and failure.code == common_pb2.TASK_UNPICKLABLE
    assert "no_such_module" in failure.message and "double" in failure.message


def test_a_worker_whose_raylet_is_gone_leaves(worker):
    worker.socket.shutdown(socket.SHUT_RDWR)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and os.waitid(
        os.P_PID, worker.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT
    ) is None:
        time.sleep(0.01)
    assert os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
