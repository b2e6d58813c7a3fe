"""Starting, finding, losing and leaving nodes. These tests start nodes of their own."""

import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import ray
from ray import exceptions
from ray._cluster import status
from ray._node import find_program


@pytest.fixture(autouse=True)
def nothing_connected(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield
    ray.shutdown()


def run_script(text: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, **environment},
    )


def until(condition, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


def pids_of(directory: str) -> dict:
    return json.loads((Path(directory) / "node.json").read_text())["pids"]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@ray.remote
def one():
    return 1


def test_init_starts_a_node_and_shutdown_leaves_nothing():
    assert not ray.is_initialized()
    context = ray.init(num_cpus=1)
    assert ray.is_initialized() and ray.get(one.remote()) == 1
    directory = context["session_dir"]
    pids = pids_of(directory)
    assert len(pids) >= 3
    ray.shutdown()
    assert not ray.is_initialized()
    assert until(lambda: all(gone(pid) for pid in pids.values()))
    assert not os.path.exists(directory)


def test_a_second_init_is_an_error_unless_that_is_ignored():
    with ray.init(num_cpus=1) as first:
        with pytest.raises(RuntimeError, match="ignore_reinit_error"):
            ray.init()
        assert ray.init(ignore_reinit_error=True)["session_dir"] == first["session_dir"]
    assert not ray.is_initialized()


def test_the_first_use_connects_by_itself(shared_node, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", str(shared_node.directory))
    assert ray.get(one.remote()) == 1
    assert ray.is_initialized()


def test_a_node_is_reached_by_every_form_of_address(shared_node, monkeypatch):
    directory = str(shared_node.directory)
    for address in (
        directory, f"{directory}/node.json", f"{directory}/raylet.sock", f"{directory}/raylet.grpc",
        f"unix:{directory}/raylet.grpc",
    ):
        with ray.init(address):
            assert ray.get(one.remote()) == 1
    monkeypatch.setenv("RAY_ADDRESS", directory)
    for address in (None, "auto"):
        with ray.init(address) as context:
            assert context["session_dir"] == directory


def test_the_environment_of_a_job_is_not_that_of_the_next_one(shared_node, monkeypatch):
    @ray.remote
    def look(n):
        return os.environ.get("OF_A_JOB"), os.environ.get("AWS_REGION_OF_A_JOB")

    monkeypatch.setenv("AWS_REGION_OF_A_JOB", "here")
    with ray.init(str(shared_node.directory), runtime_env={"env_vars": {"OF_A_JOB": "first"}}):
        assert set(ray.get([look.remote(n) for n in range(50)])) == {("first", "here")}
    monkeypatch.delenv("AWS_REGION_OF_A_JOB")
    with ray.init(str(shared_node.directory)):
        assert set(ray.get([look.remote(n) for n in range(50)])) == {(None, None)}


@pytest.mark.parametrize(
    "address, error, words",
    [("/nowhere/at/all", ConnectionError, "raylet start"),
     ("unix:/tmp/nothing-here.grpc", ConnectionError, "no raylet answers"),
     ("127.0.0.1:1", ConnectionError, "no raylet answers"), ("rubbish", ValueError, "host:port")],
)
def test_a_wrong_address_is_an_error_that_says_what_to_do(address, error, words, monkeypatch):
    from ray import _grpc_carrier

    monkeypatch.setattr(_grpc_carrier, "_CONNECT_S", 0.5)
    with pytest.raises(error, match=words):
        ray.init(address)
    assert not ray.is_initialized()


def test_a_node_is_reached_over_tcp_with_its_token_only(monkeypatch):
    directory = Path("/tmp") / f"raylet-tcp-{os.getpid()}"
    node = subprocess.Popen(
        [find_program(), "start", "--head", "--block", "--num-cpus", "1", "--session-dir", str(directory),
         "--listen", "127.0.0.1:0", "--python", sys.executable],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        assert until(lambda: (directory / "node.json").exists(), 40)
        description = json.loads((directory / "node.json").read_text())
        monkeypatch.setenv("RAYLET_TOKEN", "wrong")
        with pytest.raises(exceptions.AuthenticationError, match="RAYLET_TOKEN"):
            ray.init(description["tcp_address"])
        monkeypatch.delenv("RAYLET_TOKEN")
        monkeypatch.setenv("RAYLET_TOKEN_PATH", description["token_path"])
        with ray.init(description["tcp_address"]):
            assert ray.get(one.remote()) == 1 and ray.cluster_resources()["CPU"] == 1
            assert ray.get(ray.put(np.ones(500_000))).sum() == 500_000
    finally:
        ray.shutdown()
        node.send_signal(signal.SIGTERM)
        node.wait(30)
        import shutil

        shutil.rmtree(directory, ignore_errors=True)


def test_resources_of_a_node_that_runs_can_not_be_chosen(shared_node):
    with pytest.raises(ValueError, match="num_cpus"):
        ray.init(str(shared_node.directory), num_cpus=1)


def test_what_init_does_not_know_is_a_warning(shared_node):
    with pytest.warns(UserWarning, match="no_such_option"):
        ray.init(str(shared_node.directory), no_such_option=1)


def test_a_directory_that_can_not_be_written_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConnectionError, match="file"):
        ray.init(num_cpus=1, _temp_dir=str(file / "below"))


def test_a_program_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("RAYLET_PROGRAM", "/nowhere/raylet")
    with pytest.raises(ConnectionError, match="/nowhere/raylet"):
        ray.init(num_cpus=1)


def test_a_killed_driver_leaves_nothing():
    script = run_script(
        """
        import ray, time
        context = ray.init(num_cpus=1)
        @ray.remote
        def sleeps():
            time.sleep(100)
        ref = sleeps.remote()
        time.sleep(0.5)
        print(context["session_dir"], flush=True)
        time.sleep(100)
        """
    )
    directory = script.stdout.readline().strip()
    pids = pids_of(directory)
    children = [
        int(entry) for entry in os.listdir("/proc")
        if entry.isdigit() and _parent(int(entry)) == pids["rayletd"]
    ]
    assert children
    script.kill()
    script.communicate()
    assert until(lambda: all(gone(pid) for pid in [*pids.values(), *children]))
    assert until(lambda: not os.path.exists(directory))


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def test_a_driver_that_leaves_an_outliving_node_frees_what_it_held(shared_node):
    ray.init(str(shared_node.directory))
    ray.get(one.remote())
    ray.shutdown()
    script = run_script(
        """
        import os, sys, ray, numpy as np
        ray.init(sys.argv[1])
        kept = [ray.put(np.ones(1_000_000)) for _ in range(10)]
        os._exit(0)
        """.replace("sys.argv[1]", repr(str(shared_node.directory)))
    )
    assert script.wait(60) == 0, script.stderr.read()
    script.communicate()
    ray.init(str(shared_node.directory))
    # Slabs that sessions still lease are small; the ten objects were 80 MB.
    assert until(lambda: status().store.sealed_bytes < 20_000_000)


def test_references_that_are_dropped_free_the_store(shared_node):
    ray.init(str(shared_node.directory))
    before = status().store.sealed_bytes
    refs = [ray.put(np.ones(1_000_000)) for _ in range(8)]
    assert until(lambda: status().store.sealed_bytes >= before + 60_000_000)
    view = ray.get(refs[0])
    del refs
    gc.collect()
    assert until(lambda: status().store.sealed_bytes <= before + 10_000_000)
    # The view outlives its reference, and its bytes stay what they were while others come and go.
    for _ in range(20):
        ray.put(np.zeros(1_000_000))
    assert view.sum() == 1_000_000
    del view
    gc.collect()
    assert until(lambda: status().store.sealed_bytes <= before + 1_000_000)


def test_values_that_may_be_written_are_private(shared_node):
    from ray._runtime import current_session

    ray.init(str(shared_node.directory))
    ref = ray.put({"large": np.zeros(1_000_000), "small": np.zeros(1_000)})
    mine = current_session().get_values([ref])[0]
    mine["large"][:] = 1
    mine["small"][:] = 1
    assert not ray.get(ref)["large"].any() and not ray.get(ref)["small"].any()
    del ref
    gc.collect()
    for _ in range(10):
        ray.put(np.full(1_000_000, 7.0))
    assert (mine["large"] == 1).all()


def test_an_object_larger_than_the_store_is_a_clear_error():
    ray.init(num_cpus=1, object_store_memory=128 << 20)
    with pytest.raises(exceptions.ObjectStoreFullError):
        ray.put(np.ones(40_000_000))
    assert ray.get(one.remote()) == 1

    @ray.remote
    def makes_too_much():
        return np.ones(40_000_000)

    with pytest.raises(exceptions.RayError):
        ray.get(makes_too_much.remote(), timeout=50)
    assert ray.get(one.remote()) == 1


def test_a_raylet_that_is_killed_is_noticed_and_nothing_stays():
    context = ray.init(num_cpus=1)

    @ray.remote
    def sleeps():
        time.sleep(100)

    ref = sleeps.remote()
    time.sleep(0.5)
    pids = pids_of(context["session_dir"])
    os.kill(pids["rayletd"], signal.SIGKILL)
    with pytest.raises(exceptions.LocalRayletDiedError, match="ray.init"):
        ray.get(ref, timeout=20)
    with pytest.raises(exceptions.LocalRayletDiedError):
        one.remote()
        ray.get(one.remote(), timeout=20)
    ray.shutdown()
    assert until(lambda: all(gone(pid) for pid in pids.values()))


def test_a_service_reconnects_after_its_node_was_restarted(tmp_path):
    directory = Path("/tmp") / f"raylet-restart-{os.getpid()}"

    def start() -> subprocess.Popen:
        node = subprocess.Popen(
            [find_program(), "start", "--head", "--block", "--num-cpus", "1", "--session-dir",
             str(directory), "--python", sys.executable],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        assert until(lambda: (directory / "raylet.sock").exists(), 40)
        return node

    def stop(node: subprocess.Popen) -> None:
        node.send_signal(signal.SIGTERM)
        node.wait(30)

    node = start()
    try:
        until(lambda: (directory / "node.json").exists(), 40)
        ray.init(str(directory))
        old = ray.put("old")
        assert ray.get(one.remote()) == 1
        stop(node)
        with pytest.raises(exceptions.LocalRayletDiedError):
            ray.get(one.remote(), timeout=20)
        with pytest.raises(exceptions.LocalRayletDiedError, match="reached"):
            ray.get(one.remote(), timeout=20)
        node = start()
        assert until(lambda: _works(one), 30)
        with pytest.raises(exceptions.ObjectLostError):
            ray.get(old, timeout=20)
        assert ray.get([one.remote() for _ in range(100)]) == [1] * 100
    finally:
        ray.shutdown()
        stop(node)
        import shutil

        shutil.rmtree(directory, ignore_errors=True)


def _works(function) -> bool:
    try:
        return ray.get(function.remote(), timeout=20) == 1
    except exceptions.LocalRayletDiedError:
        return False


def test_a_forked_child_is_told_what_to_do(shared_node):
    ray.init(str(shared_node.directory))
    ray.get(one.remote())
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            one.remote()
            said = "nothing"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    said = os.read(read, 4096).decode()
    os.close(read)
    assert said.startswith("RuntimeError") and "spawn" in said and "ray.init" in said
    assert ray.get(one.remote()) == 1


def test_a_forked_child_can_connect_for_itself(shared_node):
    ray.init(str(shared_node.directory))
    assert ray.get(one.remote()) == 1
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ray.init(str(shared_node.directory))
            status = 0 if ray.get(one.remote()) == 1 else 2
            ray.shutdown()
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert ray.get(one.remote()) == 1


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.3])
def test_an_interrupted_get_leaves_a_session_that_works(shared_node, after_s):
    script = run_script(
        f"""
        import os, signal, threading, time, ray
        ray.init({str(shared_node.directory)!r})
        @ray.remote
        def sleeps(s):
            time.sleep(s)
            return s
        ray.get(sleeps.remote(0))
        for _ in range(5):
            refs = []
            try:
                threading.Timer({after_s}, os.kill, (os.getpid(), signal.SIGINT)).start()
                for i in range(1000):
                    refs.append(sleeps.remote(i / 1000))
                ray.get(refs)
                time.sleep(30)
            except KeyboardInterrupt:
                pass
            for ref in refs[:]:
                ray.cancel(ref)
            del refs
            assert ray.get(sleeps.remote(0), timeout=30) == 0
        print("fine")
        """
    )
    out, err = script.communicate(timeout=55)
    assert out.strip() == "fine", err


def test_the_other_python_version_is_refused_by_name(shared_node, monkeypatch):
    monkeypatch.setattr("platform.python_version", lambda: "3.4.1")
    with pytest.raises(ConnectionError, match="3.4"):
        ray.init(str(shared_node.directory))
    assert not ray.is_initialized()
