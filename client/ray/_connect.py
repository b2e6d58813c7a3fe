"""init and shutdown: connecting this process to a node, which may be a private one, and leaving it."""

from __future__ import annotations

import atexit
import os
import platform
import sys
import warnings
from typing import Any, Dict, List, Optional

import cloudpickle

from ray import _runtime, _shield, _terminal
from ray._node import PrivateNode, Target, find_running, heavy_modules, resolve
from ray._session import PROTOCOL_VERSION, Session
from ray._version import __version__
from ray._wire import session_pb2 as wire

_ACCEPTED_AND_IGNORED = {
    "configure_logging", "dashboard_host", "dashboard_port", "include_dashboard", "job_config", "labels",
    "log_to_driver", "logging_config", "logging_format", "logging_level", "runtime_env",
    "enable_resource_isolation", "cgroup_path", "system_reserved_cpu", "system_reserved_memory",
    "proxy_server_url", "_system_config", "_node_ip_address", "_metrics_export_port",
    "object_spilling_directory", "_enable_object_reconstruction", "_driver_object_store_memory",
    "_redis_max_memory", "_plasma_directory", "_tracing_startup_hook",
}


class RayContext(dict):
    """What init() returns: where the node is; a context manager that shuts down at the end.

    Keys: node_id and job_id (32 hex digits each), session_dir (its sockets and logs), address (what this
    process is connected to), raylet_version.
    """

    @property
    def address_info(self) -> Dict[str, Any]:
        """The same as a plain dict."""
        return dict(self)

    @property
    def dashboard_url(self) -> str:
        """Empty: there is no dashboard; `raylet status` shows what there is."""
        return ""

    def disconnect(self) -> None:
        """As ray.shutdown()."""
        shutdown()

    def __enter__(self) -> "RayContext":
        return self

    def __exit__(self, *reason: Any) -> None:
        shutdown()


def init(
    address: Optional[str] = None,
    *,
    num_cpus: Optional[float] = None,
    num_gpus: Optional[float] = None,
    resources: Optional[Dict[str, float]] = None,
    object_store_memory: Optional[int] = None,
    local_mode: bool = False,
    ignore_reinit_error: bool = False,
    log_to_driver: Optional[bool] = True,
    namespace: Optional[str] = None,
    runtime_env: Optional[Dict[str, Any]] = None,
    _memory: Optional[int] = None,
    _temp_dir: Optional[str] = None,
    **kwargs: Any,
) -> RayContext:
    """Connect this process to a node, or start a private one that ends with it.

    `address`: None takes RAY_ADDRESS, else a node that `raylet start` started, else a private one; "auto"
    wants a running one; "local" always starts a private one; a path (session directory or raylet.sock); or
    "host:port" or "unix:/path" of a raylet's gRPC.

    Of a private node: `num_cpus`, `num_gpus`, `resources` (names and amounts of your own), and in bytes
    `object_store_memory` and `_memory` (what tasks may ask for as `memory`); what is None is found out.
    `_temp_dir`: where the directory with its sockets and logs is made. Asking for any of the amounts without an
    address starts a private node.

    `log_to_driver=False`: what workers print is not printed here. `namespace`: where names of actors are looked
    for. `runtime_env`: {"env_vars": {...}} sets environment variables on this job's workers. What else Ray takes
    is accepted and changes nothing.

    Raises RuntimeError if this process is connected already (unless ignore_reinit_error), ConnectionError
    if no node can be reached or started, ValueError for options that don't go together.
    """
    for key in kwargs:
        if key not in _ACCEPTED_AND_IGNORED:
            warnings.warn(f"ray.init: {key!r} is not known to Raylet and is ignored", stacklevel=2)
    if local_mode:
        warnings.warn("ray.init: local_mode is not supported and is ignored", stacklevel=2)
    if runtime_env and set(runtime_env) - {"env_vars"}:
        unknown = sorted(set(runtime_env) - {"env_vars"})
        warnings.warn(f"ray.init: runtime_env {unknown} is ignored; only env_vars is supported", stacklevel=2)
    with _runtime.lock():
        session = _runtime.peek()
        if session is not None:
            if ignore_reinit_error:
                return _context(session)
            raise RuntimeError(
                "Maybe you called ray.init twice by accident? This error can be suppressed by passing in "
                "'ignore_reinit_error=True' or by calling 'ray.shutdown()' prior to 'ray.init()'."
            )
        wanted = {
            "num_cpus": num_cpus, "num_gpus": num_gpus, "resources": resources, "memory": _memory,
            "object_store_memory": object_store_memory,
        }
        asked = sorted(key for key, value in wanted.items() if value is not None)
        node: Optional[PrivateNode] = None
        target = _choose(address, asked)
        if target is None:
            node = PrivateNode(wanted, _temp_dir)
            target = Target(node.description["raylet_socket"], description=node.description)
        try:
            job = os.urandom(16)
            environment = dict((runtime_env or {}).get("env_vars") or {})

            def connect() -> Session:
                assert target is not None
                return _connect(target, job, environment, log_to_driver is not False)

            session = connect()
        except BaseException:
            if node is not None:
                node.stop()
            raise
        _runtime.set_node(node, namespace or "")
        _runtime.set_session(session, None if node is not None else connect)
        _shield.install()
        return _context(session)


def _choose(address: Optional[str], asked: List[str]) -> Optional[Target]:
    """The raylet to connect to, or None for a private node."""
    if address is not None and not isinstance(address, str):
        raise TypeError(
            f"ray.init expected an address ('auto', 'local', a path or 'host:port'), got {address!r:.100}"
        )
    if address == "local":
        return None
    if address in (None, "auto"):
        address = os.environ.get("RAY_ADDRESS") or address
        if address == "local":
            return None
    if address is None:
        if asked:
            return None
        running = find_running()
        if running is None:
            return None
        try:
            from ray._local_carrier import LocalCarrier

            LocalCarrier.connect(running["raylet_socket"]).close()
        except ConnectionError:
            return None  # its supervisor is about to notice
        return resolve("auto")
    if asked:
        raise ValueError(
            f"When connecting to an existing node, {', '.join(asked)} must not be provided: it has what "
            "`raylet start` gave it."
        )
    if address.startswith("ray://"):
        address = address[len("ray://") :]
    return resolve(address)


def _connect(
    target: Target, job: bytes, environment: Dict[str, str], print_output: bool
) -> Session:
    hello = wire.Hello(
        protocol_version=PROTOCOL_VERSION,
        role=wire.Hello.DRIVER,
        python_version=platform.python_version(),
        cloudpickle_version=cloudpickle.__version__,
        dask_version=getattr(sys.modules.get("dask"), "__version__", ""),
        job=job,
        setup=_job_setup(environment),
        pid=os.getpid(),
        client_version=__version__,
    )
    carrier: Any
    if target.socket:
        from ray._local_carrier import LocalCarrier

        carrier = LocalCarrier.connect(target.socket)
    else:
        from ray._grpc_carrier import GrpcCarrier

        carrier = GrpcCarrier(target.grpc, target.token)
    try:
        session = Session(carrier, hello)
    except BaseException:
        carrier.close()
        raise
    session.target = target
    if print_output:
        session.on_output = _terminal.print_output
    session.on_notice = _terminal.print_notice
    session.start_background()
    return session


# Where libraries look for credentials and endpoints of object stores. What a task opens there, it opens as
# this process would, also on a node that was started without them.
_CREDENTIALS = ("AWS_", "AZURE_STORAGE_", "FSSPEC_", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_")


def _job_setup(environment: Dict[str, str]) -> wire.JobSetup:
    """What workers need to import what this process can, and to open what it can."""
    credentials = {name: value for name, value in os.environ.items() if name.startswith(_CREDENTIALS)}
    environment = {**credentials, **environment}
    try:
        directory = os.getcwd()
    except OSError:
        directory = ""
    paths = []
    for path in sys.path:
        path = os.path.abspath(path) if path else directory
        if path and path not in paths:
            paths.append(path)
    return wire.JobSetup(
        sys_path=paths, working_directory=directory, script=_runtime.script_name(),
        preload_modules=heavy_modules(), environment=environment,
    )


def _context(session: Session) -> RayContext:
    info = session.info
    return RayContext(
        node_id=info.node.hex(), session_dir=info.session_directory, address=session.carrier.name,
        raylet_version=info.raylet_version, job_id=session.job.hex(),
    )


def shutdown(_exiting_interpreter: bool = False) -> None:
    """Disconnect; the objects of this process are freed. A private node stops, and this waits for it.

    Does nothing in a process that is not connected.
    """
    with _runtime.lock():
        session, node = _runtime.peek(), _runtime.current_node()
        _runtime.set_session(None)
        _runtime.set_node(None, "")
        if session is not None:
            session.close()
        if node is not None:
            node.stop()
        _shield.uninstall()


atexit.register(shutdown, True)


def is_initialized() -> bool:
    """Whether this process is connected."""
    session = _runtime.peek()
    return session is not None and not session.closed
