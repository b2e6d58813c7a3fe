"""Nodes: finding one that runs, and starting a private one that lives as long as this process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

_START_S = 60.0
_STOP_S = 15.0
_POLL_S = 0.002
_serial = 0


def sessions_root() -> Path:
    return Path(f"/tmp/raylet-{os.getuid()}")


class Target:
    """Where a raylet is: `socket` for the same node, or `grpc` (and its token) from anywhere."""

    def __init__(
        self, socket: str = "", grpc: str = "", token: str = "",
        description: Optional[Dict[str, Any]] = None,
    ) -> None:
        self.socket = socket
        self.grpc = grpc
        self.token = token
        self.description = description or {}


def _read_description(directory: Path) -> Optional[Dict[str, Any]]:
    try:
        description = json.loads((directory / "node.json").read_text())
    except (OSError, ValueError):
        return None
    return description if isinstance(description, dict) else None


def is_alive(description: Dict[str, Any]) -> bool:
    """Whether the node's supervisor or raylet still runs."""
    if description.get("state", "ready") != "ready":
        return False
    pids = description.get("pids") or {}
    pid = pids.get("supervisor") or pids.get("rayletd")
    if not pid:
        return os.path.exists(description.get("raylet_socket", ""))
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def find_running() -> Optional[Dict[str, Any]]:
    """The newest node of this user that `raylet start` started, if it runs."""
    directory = os.environ.get("RAYLET_SESSION_DIR")
    description = _read_description(Path(directory) if directory else sessions_root() / "current")
    if description is None or not is_alive(description):
        return None
    return description


def resolve(address: str) -> Target:
    """The raylet at an address: "auto", a path (session directory, node.json or raylet.sock), "host:port",
    or "unix:/path" of a gRPC socket. Raises ConnectionError with what to do."""
    if address == "auto":
        description = find_running()
        if description is None:
            raise ConnectionError(
                "Could not find any running Raylet node of this user (looked in "
                f"{sessions_root()}/current). Start one by `raylet start --head`, or call ray.init() "
                "without an address for a private one."
            )
        return Target(description["raylet_socket"], description=description)
    if address.startswith("unix:"):
        return Target(grpc=address)
    if "/" in address or os.path.exists(address):
        return _resolve_path(Path(address))
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(
            f"can't make sense of the address {address!r}: expected 'auto', 'local', a path, 'host:port' or "
            "'unix:/path/raylet.grpc'"
        )
    return Target(grpc=address, token=_read_token())


def _resolve_path(path: Path) -> Target:
    if path.is_dir():
        description = _read_description(path)
        if description is None:
            raise ConnectionError(f"{path} has no node.json: no node runs there (or it is still starting)")
        return Target(description["raylet_socket"], description=description)
    if path.name == "node.json":
        return _resolve_path(path.parent)
    if path.suffix == ".grpc":
        return Target(grpc=f"unix:{path}")
    return Target(str(path), description=_read_description(path.parent))


def _read_token() -> str:
    token = os.environ.get("RAYLET_TOKEN")
    if token:
        return token.strip()
    path = os.environ.get("RAYLET_TOKEN_PATH")
    if path:
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise ConnectionError(f"RAYLET_TOKEN_PATH: can't read {path}: {error.strerror}") from None
    description = find_running()
    if description is not None and description.get("token_path"):
        try:
            return Path(description["token_path"]).read_text().strip()
        except OSError:
            pass
    return ""


def find_program() -> str:
    """The `raylet` command. Raises ConnectionError with where it was looked for."""
    chosen = os.environ.get("RAYLET_PROGRAM")
    if chosen:
        return chosen
    package = Path(__file__).resolve().parent
    for candidate in (package.parent.parent / "bin" / "raylet", package / "_bin" / "raylet"):
        if os.access(candidate, os.X_OK):
            return str(candidate)
    found = shutil.which("raylet")
    if found:
        return found
    raise ConnectionError(
        f"can't start a node: the `raylet` program is neither in {package.parent.parent / 'bin'} nor in "
        "PATH. Build it by `make build`, name it by RAYLET_PROGRAM, or give ray.init the address of a node."
    )


class PrivateNode:
    """A node of this process: it ends when this process does, however that happens, because the other end
    of its lifeline closes."""

    def __init__(self, options: Dict[str, Any], root: Optional[str] = None) -> None:
        global _serial
        _serial += 1
        program = find_program()
        base = Path(root) if root else sessions_root()
        try:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConnectionError(
                f"can't make the directory {base} for a node's sockets and logs: {error.strerror}; choose "
                "another by ray.init(_temp_dir=...)"
            ) from None
        stamp = time.strftime("%Y%m%d-%H%M%S")
        self.directory = base / f"session-{stamp}-{os.getpid()}-{_serial}"
        lifeline, self._lifeline = os.pipe()
        arguments = [
            program, "start", "--head", "--private", "--lifeline-fd", str(lifeline),
            "--session-dir", str(self.directory), "--python", sys.executable,
        ]
        arguments += _flags(options)
        environment = dict(os.environ)
        environment.setdefault("PYTHONHASHSEED", "0")
        # The first workers are forked before this process can say what it will need.
        environment.setdefault("RAYLET_PRELOAD", ",".join(heavy_modules()))
        self._complaints = tempfile.TemporaryFile()
        try:
            self._process: Optional[subprocess.Popen] = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=self._complaints, stderr=self._complaints,
                pass_fds=(lifeline,), start_new_session=True, env=environment,
            )
        except OSError as error:
            os.close(self._lifeline)
            raise ConnectionError(f"can't start {program}: {error.strerror}") from None
        finally:
            os.close(lifeline)
        try:
            self.description = self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self) -> Dict[str, Any]:
        deadline = time.monotonic() + _START_S
        assert self._process is not None
        while time.monotonic() < deadline:
            description = _read_description(self.directory)
            if description is not None and description.get("state", "ready") == "ready":
                return description
            if self._process.poll() is not None:
                raise ConnectionError(
                    f"the node did not start (exit code {self._process.returncode}): {self._said()}"
                )
            if description is not None and description.get("state") == "failed":
                raise ConnectionError(f"the node did not start: {description.get('error', '')}")
            time.sleep(_POLL_S)
        raise ConnectionError(
            f"the node was not ready after {_START_S:.0f} s; its logs are in {self.directory}/logs. "
            f"It said: {self._said()}"
        )

    def _said(self) -> str:
        try:
            self._complaints.seek(0)
            return self._complaints.read()[-4000:].decode("utf-8", "replace").strip() or "nothing"
        except (OSError, ValueError):
            return "nothing"

    def stop(self) -> None:
        """Stop everything of the node and wait for it."""
        process, self._process = self._process, None
        if process is None:
            return
        os.close(self._lifeline)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._complaints.close()

    def forget_after_fork(self) -> None:
        """In a forked child: the node is the parent's, and must not outlive it because of us."""
        if self._process is not None:
            os.close(self._lifeline)
            self._process.returncode = 0  # not ours to wait for
            self._process = None


_HEAVY = (
    "numpy", "scipy", "pandas", "pyarrow", "dask", "dask.array", "dask.bag", "dask.dataframe", "xarray",
    "ray.util.dask",
)


def heavy_modules() -> List[str]:
    """What this process has imported that takes long and does no harm in a zygote."""
    return [name for name in _HEAVY if name in sys.modules]


def _flags(options: Dict[str, Any]) -> List[str]:
    flags = []
    for key, flag in (
        ("num_cpus", "--num-cpus"), ("num_gpus", "--num-gpus"), ("memory", "--memory"),
        ("object_store_memory", "--object-store-memory"),
    ):
        value = options.get(key)
        if value is not None:
            flags += [flag, str(int(value) if key.endswith("memory") else value)]
    if options.get("resources"):
        flags += ["--resources", json.dumps(options["resources"])]
    return flags
