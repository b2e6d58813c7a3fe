"""The demo's node: started and stopped with bin/raylet, and proof that nothing of it stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RAYLET = ROOT / "bin" / "raylet"
MARK = "RAYLET_DEMO_NODE"


class DemoNode:
    """One node of two CPUs in a session directory of its own. A mark in their environment tells its processes."""

    def __init__(self) -> None:
        self.session = Path(tempfile.gettempdir()) / f"raylet-demo-{os.getpid()}"
        self.mark = uuid.uuid4().hex
        self.environment = {**os.environ, MARK: self.mark}
        self.environment.pop("RAY_ADDRESS", None)

    def raylet(self, *arguments: str) -> str:
        """What `raylet ARGUMENTS` prints. Raises RuntimeError with its words when it fails."""
        done = subprocess.run(
            [str(RAYLET), *arguments, "--session-dir", str(self.session)],
            env=self.environment, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        return done.stdout

    def start(self) -> str:
        return self.raylet(
            "start", "--head", "--num-cpus", "2", "--object-store-memory", "2GiB", "--python", sys.executable
        )

    def stop(self) -> None:
        if self.session.exists():
            self.raylet("stop")

    def status(self) -> dict:
        return json.loads(self.raylet("status", "--json"))

    def processes(self) -> list[int]:
        """Every living process of this node."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def check_that_nothing_is_left(self) -> None:
        """Raises RuntimeError naming the processes and files that stayed."""
        give_up = time.monotonic() + 5
        while self.processes() and time.monotonic() < give_up:
            time.sleep(0.02)
        left = [f"process {pid}" for pid in self.processes()]
        if self.session.exists():
            left.append(str(self.session))
        if left:
            raise RuntimeError("left behind: " + ", ".join(left))
