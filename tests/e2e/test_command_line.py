"""`raylet` as a user meets it: start, look, stop, and every wrong turn."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading

import pytest
from conftest import RAYLET, Node, wait_until

SQUARE = """
import ray
ray.init(address="auto")

@ray.remote
def square(x):
    return x * x

print(ray.get([square.remote(i) for i in range(4)]))
"""


def test_a_node_runs_a_task_and_leaves_nothing_behind(node: Node) -> None:
    assert node.python(SQUARE).strip() == "[0, 1, 4, 9]"
    status = node.status()
    assert status["total"]["CPU"] == 2
    assert status["head_connected"] and status["store_connected"]
    assert "Workers" in node.raylet("status").stdout

    assert len(node.processes()) >= 5  # supervisor, redis, gcs, rayletd, store ...
    done = node.raylet("stop")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: not node.processes(), f"no process to be left of {node.processes()}", 5)
    assert not node.session.exists()


def test_start_says_how_to_use_and_stop_it(idle_node: Node) -> None:
    done = idle_node.raylet(
        "start", "--head", "--session-dir", str(idle_node.session), "--num-cpus", "1",
        "--object-store-memory", "64MiB", "--python", sys.executable,
    )
    assert done.returncode == 0, done.stderr
    assert 'ray.init(address="auto")' in done.stdout
    assert "stop" in done.stdout


def test_the_session_is_for_its_user_alone(node: Node) -> None:
    assert stat.S_IMODE(node.session.stat().st_mode) == 0o700
    assert stat.S_IMODE((node.session / "redis.sock").stat().st_mode) == 0o600


def test_a_second_node_in_the_same_directory_is_refused(node: Node) -> None:
    done = node.raylet("start", "--head", "--session-dir", str(node.session))
    assert done.returncode == 1
    assert "a node is running in" in done.stderr and "raylet stop" in done.stderr
    wait_until(lambda: node.status()["head_connected"], "the first node goes on")


def test_a_private_node_ends_with_its_lifeline(idle_node: Node) -> None:
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [str(RAYLET), "start", "--head", "--private", "--lifeline-fd", str(read_end), "--num-cpus", "1",
         "--object-store-memory", "64MiB", "--session-dir", str(idle_node.session), "--python", sys.executable],
        pass_fds=[read_end], env=idle_node.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    os.close(read_end)
    wait_until((idle_node.session / "node.json").exists, "the private node")
    os.close(write_end)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, b"", b"")
    wait_until(lambda: not idle_node.processes(), "no process to be left", 5)
    assert not idle_node.session.exists()


def test_ctrl_c_ends_a_node_in_the_foreground(idle_node: Node) -> None:
    process = subprocess.Popen(
        [str(RAYLET), "start", "--head", "--block", "--session-dir", str(idle_node.session), "--num-cpus", "1",
         "--object-store-memory", "64MiB", "--python", sys.executable],
        env=idle_node.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    wait_until((idle_node.session / "node.json").exists, "the node")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 0
    wait_until(lambda: not idle_node.processes(), "no process to be left", 5)


@pytest.mark.parametrize("component", ["gcs", "redis"])
def test_the_head_and_redis_are_started_again(node: Node, component: str) -> None:
    before = node.pid(component)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: node.note()["pids"].get(component, before) != before, f"another {component}")
    wait_until(
        lambda: (head := node.status()["head"]) is not None and head["redis_connected"],
        "the head to be well again"
    )
    assert node.python(SQUARE).strip() == "[0, 1, 4, 9]"


def test_a_rayletd_that_is_killed_ends_the_node_with_a_reason(node: Node) -> None:
    os.kill(node.pid("rayletd"), signal.SIGKILL)
    wait_until(lambda: not node.processes(), "no process to be left", 10)
    note = node.note()
    assert note["state"] == "failed" and "rayletd" in note["error"] and "signal 9" in note["error"]
    done = node.raylet("status")
    assert done.returncode == 1 and "has failed" in done.stderr
    assert not list(node.session.glob("*.sock")) + list(node.session.glob("*.grpc"))


def test_a_supervisor_that_is_killed_takes_its_node_with_it(node: Node) -> None:
    os.kill(node.pid("supervisor"), signal.SIGKILL)
    wait_until(lambda: not node.processes(), "no process to be left", 10)
    assert node.raylet("stop").returncode == 0
    assert not (node.session / "node.json").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--num-cpus", "many"], "--num-cpus"),
        (["--num-cpus", "-1"], "--num-cpus"),
        (["--object-store-memory", "2XB"], "expected a size such as 2GB"),
        (["--resources", "[1]"], "expected a JSON object"),
        (["--resources", '{"CPU": 1}'], "--num-cpus"),
        (["--colour", "blue"], "--colour"),
    ],
)
def test_a_flag_that_makes_no_sense_is_refused_by_name(idle_node: Node, flags: list[str], said: str) -> None:
    done = idle_node.raylet("start", "--head", *flags)
    assert done.returncode == 2
    assert said in done.stderr and "--help" in done.stderr


def test_a_directory_that_cannot_be_written_to(idle_node: Node) -> None:
    done = idle_node.raylet("start", "--head", "--session-dir", "/proc/raylet")
    assert done.returncode == 1
    assert "can't make the directory /proc/raylet" in done.stderr


def test_a_port_that_is_taken(idle_node: Node) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = "127.0.0.1:%d" % other.getsockname()[1]
        done = idle_node.raylet("start", "--head", "--session-dir", str(idle_node.session), "--listen", address)
    assert done.returncode == 1
    assert address in done.stderr and "another process has the port" in done.stderr
    assert not idle_node.session.exists()


def test_no_redis_at_the_address(idle_node: Node) -> None:
    done = idle_node.raylet(
        "start", "--head", "--session-dir", str(idle_node.session), "--redis-address", "unix:/tmp/no-redis-here"
    )
    assert done.returncode == 1
    assert "no Redis answers at unix:/tmp/no-redis-here" in done.stderr


def test_a_redis_that_answers_with_errors(idle_node: Node) -> None:
    path = str(idle_node.directory / "bad.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                while connection.recv(4096):
                    connection.sendall(b"-NOAUTH Authentication required.\r\n")

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        done = idle_node.raylet(
            "start", "--head", "--session-dir", str(idle_node.session), "--redis-address", f"unix:{path}"
        )
        thread.join(5)
    assert done.returncode == 1
    assert "NOAUTH" in done.stderr and "CONFIG GET" in done.stderr


def test_no_node_is_said_so(idle_node: Node) -> None:
    for command in (["status"], ["stop"], ["logs"], ["explain", "00" * 16]):
        done = idle_node.raylet(*command)
        assert done.returncode == 1, command
        assert str(idle_node.session) in done.stderr


def test_a_command_that_is_missing_or_mistyped_is_said_so(idle_node: Node) -> None:
    for command, said in (([], "start, stop, status"), (["statsu"], "statsu")):
        done = idle_node.raylet(*command)
        assert done.returncode == 2 and said in done.stderr and "--help" in done.stderr


def test_explain_of_a_worker_names_it_once(node: Node) -> None:
    node.python("import ray; ray.init(address='auto'); ray.get(ray.remote(lambda: 1).remote())")
    workers = json.loads(node.raylet("status", "--json").stdout)["workers"]
    done = node.raylet("explain", f"worker:{workers[0]['worker']}")
    assert done.stdout.startswith(f"worker {workers[0]['worker']}: ")


def test_explain_of_something_unknown(node: Node) -> None:
    done = node.raylet("explain", "ab" * 28)
    assert done.returncode == 1
    assert "ab" * 28 in done.stderr


def test_explain_tells_why_a_task_waits(node: Node) -> None:
    script = """
import ray, subprocess, sys
ray.init(address="auto")

@ray.remote(resources={"unobtainium": 1})
def never():
    return 1

ref = never.remote()
ready, waiting = ray.wait([ref], timeout=0.5)
assert not ready
print(subprocess.run([sys.argv[1], "explain", "--json", ref.hex()], capture_output=True, text=True).stdout)
""".replace("sys.argv[1]", repr(str(RAYLET)))
    explained = json.loads(node.python(script))
    assert "unobtainium" in explained["reason"] + " ".join(explained["details"])


def test_logs_of_one_component_and_of_all(node: Node) -> None:
    assert "started component=rayletd" in node.raylet("logs", "supervisor").stdout
    assert "supervisor.log" in node.raylet("logs").stdout
    done = node.raylet("logs", "nonsense")
    assert done.returncode == 1 and "rayletd.log" in done.stderr


def test_version_and_help(idle_node: Node) -> None:
    assert idle_node.raylet("version").stdout.startswith("raylet ")
    assert idle_node.raylet("--version").returncode == 0
    assert "--object-store-memory" in idle_node.raylet("start", "--help").stdout
    for program in ("gcs", "rayletd", "plasma-store"):
        path = str(RAYLET.with_name(program))
        assert subprocess.run([path, "--help"], capture_output=True, timeout=20).returncode == 0
        assert subprocess.run([path, "--version"], capture_output=True, timeout=20).returncode == 0
        bad = subprocess.run([path, "--colour", "blue"], capture_output=True, text=True, timeout=20)
        assert bad.returncode == 2 and "--" in bad.stderr and "--help" in bad.stderr
