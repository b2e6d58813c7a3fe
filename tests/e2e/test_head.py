"""The head with a real Redis: whatever was acknowledged survives the death of either, at any moment."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, Iterator, Optional

import grpc
import pytest

from ray._wire import common_pb2, head_pb2, head_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]
GCS = Path(os.environ.get("RAYLET_TEST_GCS", ROOT / "bin" / "gcs"))
WAIT_S = 60


def wait_until(condition: Callable[[], object], what: str, limit_s: float = WAIT_S) -> None:
    give_up = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > give_up:
            pytest.fail(f"waited {limit_s} s for {what}")
        time.sleep(0.01)


class HeadAndRedis:
    """One gcs and one redis-server of this test, in a directory of their own."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="rh-", dir="/tmp"))
        self.redis_socket = self.directory / "redis.sock"
        self.address = f"unix:{self.directory}/gcs.grpc"
        self.redis: Optional[subprocess.Popen] = None
        self.gcs: Optional[subprocess.Popen] = None
        self.channel = grpc.insecure_channel(
            self.address,
            options=[("grpc.initial_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 100),
                     ("grpc.min_reconnect_backoff_ms", 500)],
        )
        self.stub = head_pb2_grpc.HeadStub(self.channel)

    def start_redis(self, *settings: str) -> None:
        settings = settings or ("--appendonly", "yes", "--appendfsync", "always")
        with open(self.directory / "redis.log", "ab") as log:
            self.redis = subprocess.Popen(
                ["redis-server", "--port", "0", "--unixsocket", str(self.redis_socket), "--save", "",
                 "--dir", str(self.directory), *settings],
                stdout=log, stderr=log,
            )
        wait_until(lambda: self.redis_says("PING") == "PONG", "Redis to answer")

    def start_gcs(self, *flags: str) -> subprocess.Popen:
        with open(self.directory / "gcs.log", "ab") as log:
            self.gcs = subprocess.Popen(
                [str(GCS), "--redis", f"unix:{self.redis_socket}", "--listen", self.address,
                 "--session-dir", str(self.directory), *flags],
                stdout=log, stderr=log,
            )
        return self.gcs

    def kill(self, process: subprocess.Popen) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()

    def redis_says(self, *command: str) -> str:
        """Redis' answer to one command, in the form in which redis-cli prints it."""
        done = subprocess.run(
            ["redis-cli", "-s", str(self.redis_socket), *command], capture_output=True, text=True,
        )
        return done.stdout.strip()

    def keys(self) -> set[str]:
        return set(self.redis_says("KEYS", "*").split())

    def table_keys(self) -> set[str]:
        """The keys of tables that are not empty: nodes, jobs, graphs, names."""
        fixed = ("epoch", "commit", "cluster")
        return {key.rsplit(":", 1)[1] for key in self.keys()} - set(fixed)

    def log(self) -> str:
        return (self.directory / "gcs.log").read_text()

    def status(self) -> head_pb2.HeadStatus:
        return ask(self.stub.GetHeadStatus, head_pb2.GetHeadStatusRequest())

    def close(self) -> None:
        self.channel.close()
        for process in (self.gcs, self.redis):
            if process is not None and process.poll() is None:
                self.kill(process)
        shutil.rmtree(self.directory)


@pytest.fixture
def pair() -> Iterator[HeadAndRedis]:
    made = HeadAndRedis()
    made.start_redis()
    made.start_gcs()
    yield made
    made.close()


def ask(method: Callable, request: object, stop: Optional[threading.Event] = None) -> object:
    """Asks until there is an answer, as a raylet does; None if `stop` is set before."""
    give_up = time.monotonic() + WAIT_S
    while stop is None or not stop.is_set():
        try:
            return method(request, timeout=5)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise
            assert time.monotonic() < give_up, f"no answer for {WAIT_S} s: {error.details()}"
            time.sleep(0.01)
    return None


NODE = bytes(range(1, 17))


def register_node(pair: HeadAndRedis, incarnation: int = 1) -> head_pb2.RegisterNodeReply:
    info = head_pb2.NodeInfo(
        node=NODE, incarnation=incarnation, host="here", address="unix:/nowhere",
        total=[common_pb2.ResourceAmount(name="CPU", amount=2)],
    )
    return ask(pair.stub.RegisterNode, head_pb2.RegisterNodeRequest(info=info))


def job_request(job: bytes) -> head_pb2.RegisterJobRequest:
    return head_pb2.RegisterJobRequest(info=head_pb2.JobInfo(job=job, node=NODE, script="load", pid=1))


def part_request(graph: bytes, job: bytes, part: int, last: bool) -> head_pb2.RecordGraphRequest:
    return head_pb2.RecordGraphRequest(
        graph=graph, job=job, owner=NODE, owner_incarnation=1, part=part, last=last,
        record=graph * 50 + bytes([part]),
    )


def name_request(name: str, job: bytes) -> head_pb2.RegisterNameRequest:
    return head_pb2.RegisterNameRequest(
        namespace="load", name=name, actor=job + bytes(12), job=job, node=NODE, handle=b"handle",
    )


class Load:
    """Threads that register jobs, record graphs and take names, and note what was acknowledged."""

    def __init__(self, pair: HeadAndRedis, threads: int = 6) -> None:
        self.pair = pair
        self.stop = threading.Event()
        self.jobs: list[bytes] = []
        self.parts: list[tuple[bytes, bytes, int, bool]] = []
        self.names: list[tuple[str, bytes]] = []
        self.errors: list[str] = []
        self.threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def acknowledged(self) -> int:
        return len(self.jobs) + len(self.parts) + len(self.names)

    def _ask(self, method: Callable, request: object) -> bool:
        reply = ask(method, request, self.stop)
        if reply is not None and reply.HasField("failure"):
            self.errors.append(reply.failure.message)
        return reply is not None

    def _run(self) -> None:
        stub = self.pair.stub
        try:
            while not self.stop.is_set():
                job = os.urandom(16)
                if self._ask(stub.RegisterJob, job_request(job)):
                    self.jobs.append(job)
                graph = os.urandom(16)
                for part in range(3):
                    if self._ask(stub.RecordGraph, part_request(graph, job, part, part == 2)):
                        self.parts.append((graph, job, part, part == 2))
                name = job.hex()
                if self._ask(stub.RegisterName, name_request(name, job)):
                    self.names.append((name, job))
        except Exception as error:  # noqa: BLE001: shown by the test
            self.errors.append(repr(error))

    def finish(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()
        assert self.errors == []

    def check_nothing_is_lost(self) -> None:
        stub = self.pair.stub
        jobs = {info.job for info in ask(stub.ListJobs, head_pb2.ListJobsRequest()).jobs}
        assert set(self.jobs) <= jobs
        graphs = {info.graph: info for info in ask(stub.ListGraphs, head_pb2.ListGraphsRequest()).graphs}
        for graph, _, part, last in self.parts:
            assert graph in graphs
            assert graphs[graph].parts > part
            assert graphs[graph].complete or not last
        for name, job in self.names:
            found = ask(stub.FindName, head_pb2.FindNameRequest(namespace="load", name=name))
            assert found.found and found.actor == job + bytes(12)
        # The bytes are the very same, too: sent again they are the same request, with others they are not.
        for graph, job, part, last in self.parts[::7]:
            request = part_request(graph, job, part, last)
            assert not ask(stub.RecordGraph, request).HasField("failure")
            request.record += b"x"
            assert ask(stub.RecordGraph, request).HasField("failure")

    def end_jobs(self) -> None:
        for info in ask(self.pair.stub.ListJobs, head_pb2.ListJobsRequest()).jobs:
            ask(self.pair.stub.EndJob, head_pb2.EndJobRequest(job=info.job))


def let_it_work(load: Load, more: int) -> None:
    before = load.acknowledged()
    wait_until(lambda: load.errors or load.acknowledged() >= before + more, "more to be acknowledged")


def keep_alive(pair: HeadAndRedis, load: Load) -> None:
    """Leases must not run out while a test takes its time."""
    ask(pair.stub.Heartbeat, head_pb2.HeartbeatRequest(
        node=NODE, incarnation=1, jobs=load.jobs, graphs={graph for graph, _, _, _ in load.parts}))


@pytest.mark.parametrize("victims", ["gcs", "redis", "both"])
def test_nothing_acknowledged_is_lost_when_the_head_or_redis_is_killed(
    pair: HeadAndRedis, victims: str
) -> None:
    register_node(pair)
    load = Load(pair)
    for kill in range(12):
        let_it_work(load, 40)
        keep_alive(pair, load)
        if victims != "redis":
            pair.kill(pair.gcs)
        if victims != "gcs":
            pair.kill(pair.redis)
            time.sleep(0.05 * (kill % 3))
            pair.start_redis()
        if victims != "redis":
            pair.start_gcs()
    let_it_work(load, 40)
    load.finish()
    load.check_nothing_is_lost()

    pair.kill(pair.gcs)
    pair.start_gcs()
    load.check_nothing_is_lost()
    assert pair.status().epoch == (14 if victims != "redis" else 2)

    load.end_jobs()
    assert pair.table_keys() == {"nodes"}
    ask(pair.stub.LeaveNode, head_pb2.LeaveNodeRequest(node=NODE, incarnation=1))
    assert pair.table_keys() == set()
    assert "can't be read" not in pair.log()


def test_the_head_gives_redis_its_state_again_when_that_was_emptied(pair: HeadAndRedis) -> None:
    register_node(pair)
    load = Load(pair, threads=2)
    let_it_work(load, 60)
    pair.redis_says("FLUSHALL")
    let_it_work(load, 60)
    load.finish()
    wait_until(lambda: pair.status().redis_connected, "Redis to be in order")
    pair.kill(pair.gcs)
    pair.start_gcs()
    load.check_nothing_is_lost()


def test_the_head_gives_redis_its_state_again_when_that_came_back_older(pair: HeadAndRedis) -> None:
    register_node(pair)
    load = Load(pair, threads=2)
    let_it_work(load, 30)
    shutil.copytree(pair.directory / "appendonlydir", pair.directory / "old")
    let_it_work(load, 60)
    load.finish()
    pair.kill(pair.redis)
    shutil.rmtree(pair.directory / "appendonlydir")
    shutil.move(str(pair.directory / "old"), str(pair.directory / "appendonlydir"))
    pair.start_redis()
    wait_until(lambda: "writing the whole state again" in pair.log(), "the head to notice")
    wait_until(lambda: pair.status().redis_connected, "the state to be written")
    pair.kill(pair.gcs)
    pair.start_gcs()
    load.check_nothing_is_lost()


def test_of_two_heads_the_older_one_stops_and_says_why(pair: HeadAndRedis) -> None:
    register_node(pair)
    first = pair.gcs
    second = subprocess.Popen(
        [str(GCS), "--redis", f"unix:{pair.redis_socket}", "--listen", f"unix:{pair.directory}/2.grpc",
         "--session-dir", str(pair.directory)],
        stderr=subprocess.DEVNULL,
    )
    try:
        assert first.wait(WAIT_S) == 3
        assert "a later head took over" in pair.log()
        with grpc.insecure_channel(f"unix:{pair.directory}/2.grpc") as channel:
            stub = head_pb2_grpc.HeadStub(channel)
            view = ask(stub.GetClusterView, head_pb2.GetClusterViewRequest())
            assert [node.node for node in view.nodes] == [NODE]
    finally:
        pair.kill(second)


def test_a_head_never_writes_over_another_clusters_state(pair: HeadAndRedis) -> None:
    register_node(pair)
    pair.redis_says("FLUSHALL")
    pair.redis_says("SET", "raylet:cluster", "0" * 31 + "1")
    assert pair.gcs.wait(WAIT_S) == 3
    assert f"belongs to cluster {'0' * 31}1" in pair.log()
    assert pair.keys() == {"raylet:cluster"}


def test_when_redis_can_not_write_requests_wait_and_are_done_later(pair: HeadAndRedis) -> None:
    register_node(pair)
    pair.redis_says("CONFIG", "SET", "maxmemory", "1")
    job = os.urandom(16)
    waiting = pair.stub.RegisterJob.future(job_request(job))
    wait_until(lambda: "out of memory" in pair.status().last_error, "the head to say what is wrong")
    assert not waiting.done()
    assert pair.log().count("out of memory") == 1
    pair.redis_says("CONFIG", "SET", "maxmemory", "0")
    assert not waiting.result(WAIT_S).HasField("failure")
    assert pair.status().last_error == ""


def test_a_redis_with_dangerous_settings_is_complained_about() -> None:
    pair = HeadAndRedis()
    try:
        pair.start_redis("--appendonly", "no", "--appendfsync", "always", "--maxmemory-policy", "allkeys-lru")
        pair.start_gcs()
        wait_until(lambda: len(pair.status().complaints) == 2, "two complaints")
        assert "appendonly no instead of yes" in pair.status().complaints[0]
        assert "allkeys-lru" in pair.log()
    finally:
        pair.close()


def test_a_password_is_named_as_what_is_missing() -> None:
    pair = HeadAndRedis()
    try:
        with open(pair.directory / "redis.log", "ab") as log:
            pair.redis = subprocess.Popen(
                ["redis-server", "--port", "0", "--unixsocket", str(pair.redis_socket), "--save", "",
                 "--dir", str(pair.directory), "--requirepass", "secret"], stdout=log, stderr=log)
        wait_until(pair.redis_socket.exists, "Redis")
        pair.start_gcs()
        wait_until(lambda: "NOAUTH" in pair.status().last_error, "the reason")
    finally:
        pair.close()


def test_the_head_starts_before_redis_and_serves_when_it_is_there() -> None:
    pair = HeadAndRedis()
    try:
        pair.start_gcs()
        wait_until(lambda: pair.status().last_error, "the head to say what is missing")
        with pytest.raises(grpc.RpcError) as caught:
            pair.stub.ListJobs(head_pb2.ListJobsRequest(), timeout=10)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        pair.start_redis()
        assert register_node(pair).epoch == 1
    finally:
        pair.close()


def test_an_id_twice_with_another_body_and_nonsense_are_refused_and_nobody_else_notices(
    pair: HeadAndRedis,
) -> None:
    register_node(pair)
    job = os.urandom(16)
    ask(pair.stub.RegisterJob, job_request(job))
    other = job_request(job)
    other.info.pid = 2
    assert "another driver's" in ask(pair.stub.RegisterJob, other).failure.message
    for nonsense in (
        lambda: pair.stub.RegisterJob(head_pb2.RegisterJobRequest()),
        lambda: pair.stub.EndJob(head_pb2.EndJobRequest(job=b"short")),
        lambda: pair.stub.EndGraph(head_pb2.EndGraphRequest(graph=bytes(16))),
        lambda: pair.stub.Heartbeat(head_pb2.HeartbeatRequest(node=NODE, jobs=[b"x"])),
        lambda: pair.stub.RegisterNode(head_pb2.RegisterNodeRequest(info=head_pb2.NodeInfo(
            node=NODE, total=[common_pb2.ResourceAmount(name="CPU", amount=-1)]))),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            nonsense()
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details()
    assert [info.job for info in ask(pair.stub.ListJobs, head_pb2.ListJobsRequest()).jobs] == [job]


def test_an_older_life_of_a_node_is_refused(pair: HeadAndRedis) -> None:
    assert not register_node(pair, incarnation=5).HasField("failure")
    assert "must stop" in register_node(pair, incarnation=4).failure.message
    pair.kill(pair.gcs)
    pair.start_gcs()
    assert "must stop" in register_node(pair, incarnation=4).failure.message
    assert register_node(pair, incarnation=5).epoch == 2


def test_the_view_is_watched_across_changes(pair: HeadAndRedis) -> None:
    ask(pair.stub.ListJobs, head_pb2.ListJobsRequest())
    stream = pair.stub.WatchClusterView(head_pb2.GetClusterViewRequest())
    first = next(stream)
    assert first.is_snapshot and len(first.nodes) == 0
    register_node(pair)
    second = next(stream)
    assert second.base_version == first.version
    assert [node.node for node in second.nodes] == [NODE]
    ask(pair.stub.LeaveNode, head_pb2.LeaveNodeRequest(node=NODE, incarnation=1))
    third = next(stream)
    assert not third.nodes[0].alive
    stream.cancel()


def test_metrics_are_served_by_rpc_and_over_http() -> None:
    import urllib.error
    import urllib.request

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pair = HeadAndRedis()
    try:
        pair.start_redis()
        pair.start_gcs("--metrics-http", f"127.0.0.1:{port}")
        register_node(pair)
        text = ask(pair.stub.GetMetrics, head_pb2.GetHeadMetricsRequest()).prometheus_text
        assert "\nraylet_head_nodes 1\n" in text
        over_http = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        assert "\nraylet_head_nodes 1\n" in over_http
    finally:
        pair.close()


def test_the_head_leaves_on_sigterm_also_with_requests_that_wait(pair: HeadAndRedis) -> None:
    register_node(pair)
    stream = pair.stub.WatchClusterView(head_pb2.GetClusterViewRequest())
    next(stream)
    pair.redis.send_signal(signal.SIGSTOP)
    try:
        waiting = pair.stub.RegisterJob.future(job_request(os.urandom(16)))
        wait_until(lambda: pair.status().writes_waiting == 1, "the request to wait")
        asked_at = time.monotonic()
        pair.gcs.terminate()
        assert pair.gcs.wait(WAIT_S) == 0
        assert time.monotonic() - asked_at < 5  # what is promised of SIGTERM, whatever is under way
        assert waiting.exception(WAIT_S).code() == grpc.StatusCode.UNAVAILABLE
    finally:
        pair.redis.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("flags, expected", [
    (["--redis", "nonsense"], "unix:/path or host:port"),
    (["--redis", "unix:/tmp/r", "--log-level", "loud"], "--log-level must be one of"),
    (["--redis", "unix:/tmp/r", "--listen-tcp", "127.0.0.1:0"], "--token-file"),
    (["--redis", "unix:/tmp/r", "--no-such-flag"], "--no-such-flag"),
    ([], "--redis"),
])
def test_a_bad_flag_is_answered_with_what_was_expected(flags: list[str], expected: str) -> None:
    done = subprocess.run(
        [str(GCS), "--listen", "unix:/tmp/raylet-never.sock", "--session-dir", "/tmp", *flags],
        capture_output=True, text=True, timeout=WAIT_S,
    )
    assert done.returncode == 2
    assert expected in done.stderr


def test_a_place_where_the_head_can_not_listen_is_named(pair: HeadAndRedis) -> None:
    done = subprocess.run(
        [str(GCS), "--redis", f"unix:{pair.redis_socket}", "--listen", "unix:/nowhere/at/all.sock",
         "--session-dir", "/tmp"], capture_output=True, text=True, timeout=WAIT_S,
    )
    assert done.returncode == 1
    assert "/nowhere/at/all.sock" in done.stderr


def test_health_and_reflection_are_served(pair: HeadAndRedis) -> None:
    register_node(pair)
    # By hand, so that no package is needed: Check({}) is answered with status = 1, SERVING ...
    check = pair.channel.unary_unary("/grpc.health.v1.Health/Check")
    assert check(b"") == b"\x08\x01"
    # ... and ServerReflectionInfo({list_services: ""}) with the names of the services.
    info = pair.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    listing = next(info(iter([b"\x3a\x00"])))
    assert b"raylet.v1.Head" in listing and b"grpc.health.v1.Health" in listing
