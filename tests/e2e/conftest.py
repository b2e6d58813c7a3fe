"""Real nodes for tests: started with the command line, told from everything else by a mark in the environment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Callable, Iterator

import pytest

ROOT = Path(__file__).resolve().parents[2]
RAYLET = ROOT / "bin" / "raylet"
MARK = "RAYLET_TEST_NODE"


def wait_until(condition: Callable[[], object], what: str, limit_s: float = 20) -> None:
    """Returns as soon as `condition()` is true; fails, with what was waited for, after `limit_s`."""
    give_up = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > give_up:
            pytest.fail(f"waited {limit_s} s for {what}")
        time.sleep(0.01)


class Node:
    """One node of one test, in a session directory of its own. Everything it starts carries its mark."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp"))
        self.session = self.directory / "s"
        self.mark = uuid.uuid4().hex
        self.environment = {**os.environ, MARK: self.mark, "RAYLET_SESSION_DIR": str(self.session)}
        self.environment.pop("RAY_ADDRESS", None)

    def raylet(self, *arguments: str, limit_s: float = 30) -> subprocess.CompletedProcess:
        """`raylet ARGUMENTS`, finished, whatever it said."""
        return subprocess.run(
            [str(RAYLET), *arguments], env=self.environment, capture_output=True, text=True,
            timeout=limit_s, stdin=subprocess.DEVNULL,
        )

    def start(self, *flags: str) -> None:
        done = self.raylet(
            "start", "--head", "--session-dir", str(self.session), "--num-cpus", "2",
            "--object-store-memory", "256MiB", "--python", sys.executable, *flags,
        )
        assert done.returncode == 0, done.stderr

    def python(self, script: str, limit_s: float = 60, **more_environment: str) -> str:
        """What a driver of this node prints."""
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=limit_s,
            env={**self.environment, "RAY_ADDRESS": str(self.session), **more_environment},
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    def note(self) -> dict:
        return json.loads((self.session / "node.json").read_text())

    def pid(self, component: str) -> int:
        return self.note()["pids"][component]

    def is_back(self, component: str, before: int) -> bool:
        """It was started again after process `before` died. (In between it has no process.)"""
        return self.note()["pids"].get(component, before) != before

    def status(self) -> dict:
        done = self.raylet("status", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def processes(self) -> dict[int, str]:
        """Every living process that this node or its drivers started, with its command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (OSError, UnicodeDecodeError):
                continue
        return found

    def logs(self) -> str:
        parts = []
        for log in sorted((self.session / "logs").glob("*")):
            parts.append(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}")
        return "\n".join(parts)

    def clean_up(self) -> None:
        if (self.session / "supervisor.pid").exists():
            self.raylet("stop", "--force")
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        shutil.rmtree(self.directory, ignore_errors=True)


# What a driver script of these tests begins with. `meet` makes a kill land in mid-task: the task says its
# pid, then stays until the file `go` is there.
PRELUDE = """
import os, time
import ray
from pathlib import Path
ray.init()
here = Path(os.environ["FAULT_DIRECTORY"])

def meet(name):
    (here / f"{name}.{os.getpid()}.tmp").write_text(str(os.getpid()))
    os.rename(here / f"{name}.{os.getpid()}.tmp", here / f"{name}.{os.getpid()}")
    while not (here / "go").exists():
        time.sleep(0.005)
"""


class Driver:
    """A driver in a process of its own, with a directory in which its tasks leave signs."""

    def __init__(self, node: Node, script: str, address: str = "") -> None:
        self.directory = node.directory / "signs"
        self.directory.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={
                **node.environment, "RAY_ADDRESS": address or str(node.session),
                "FAULT_DIRECTORY": str(self.directory),
            },
        )

    def pids_at(self, name: str, count: int = 1, limit_s: float = 20) -> list[int]:
        """The processes that have reached `meet(name)`, once there are `count`."""
        def found() -> list[Path]:
            return [sign for sign in self.directory.glob(f"{name}.*") if sign.suffix != ".tmp"]

        wait_until(lambda: len(found()) >= count or self.process.poll() is not None, f"{count} at {name}", limit_s)
        assert len(found()) >= count, self.process.stderr.read()[-4000:]
        return [int(sign.suffix[1:]) for sign in found()]

    def go(self) -> None:
        (self.directory / "go").touch()

    def output(self, limit_s: float = 30) -> str:
        said, errors = self.process.communicate(timeout=limit_s)
        assert self.process.returncode == 0, errors[-4000:]
        return said


@pytest.fixture
def idle_node(request: pytest.FixtureRequest) -> Iterator[Node]:
    """A node that was not started yet. Whatever the test leaves of it is removed."""
    if not RAYLET.exists():
        pytest.fail("bin/raylet is not there; build it: make build")
    node = Node()
    yield node
    node.clean_up()


@pytest.fixture
def node(idle_node: Node) -> Node:
    """A running node of two CPUs."""
    idle_node.start()
    return idle_node


@pytest.fixture
def drive(node: Node) -> Iterator[Callable[..., Driver]]:
    """Starts drivers of the node; `address` is another door of it than its session directory."""
    drivers = []

    def start(script: str, address: str = "") -> Driver:
        drivers.append(Driver(node, script, address))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.process.kill()
        driver.process.wait()


@pytest.fixture
def drive_staying(drive: Callable[..., Driver]) -> Callable[..., tuple[Driver, int]]:
    """Starts a driver whose only task stays where it is, and tells that task's process. The driver prints the
    name of the error that it gets in the end, and when it got it."""
    def start(address: str = "") -> tuple[Driver, int]:
        driver = drive("""
@ray.remote
def stay():
    meet("stay")

try:
    ray.get(stay.remote())
except ray.exceptions.RayError as error:
    print(type(error).__name__, time.time())
""", address)
        (worker,) = driver.pids_at("stay")
        return driver, worker

    return start
