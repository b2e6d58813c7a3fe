"""The zygote: a Python process that has imported the client and forks a worker whenever it is told to.

It stays single-threaded, because only the forking thread lives on in a child. It forks twice, so that the
worker's parent is the raylet, which hears of its death.
"""

from __future__ import annotations

import os

# Before anything can import a BLAS: one worker is one thread, workers are the parallelism.
for _name in (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
):
    os.environ.setdefault(_name, "1")

import argparse
import ctypes
import gc
import importlib
import platform
import random
import select
import signal
import socket
import sys
import threading
import time
from typing import Iterable, Optional

import cloudpickle

from ray._packets import PacketError, PeerGone, send_packet, wait_for_packet
from ray._wire import zygote_pb2 as wire
from ray._worker import main as worker_main

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# Arrays of some MB come and go with every task: their memory stays with the process instead of being given
# back and faulted in again.
_MMAP_BYTES = 32 << 20
_TRIM_BYTES = 64 << 20
_libc = ctypes.CDLL(None, use_errno=True)


class Zygote:
    """Obeys the raylet's commands until its channel closes."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._raylet = os.getppid()

    def run(self) -> None:
        """Import what RAYLET_PRELOAD names, say that it is ready, obey."""
        self._import([name for name in os.environ.pop("RAYLET_PRELOAD", "").split(",") if name])
        self._tell(
            wire.ZygoteEvent(
                ready=wire.ZygoteReady(
                    python_version=platform.python_version(),
                    cloudpickle_version=cloudpickle.__version__, pid=os.getpid(),
                )
            )
        )
        gc.collect()
        while True:
            try:
                frame, descriptor = wait_for_packet(self._channel)
            except (PeerGone, PacketError):
                return
            command = wire.ZygoteCommand.FromString(frame)
            if command.WhichOneof("body") == "fork":
                self._fork(command.fork, descriptor)
                continue
            if descriptor >= 0:
                os.close(descriptor)
            if command.WhichOneof("body") == "preload":
                self._preload(command.preload)

    def _preload(self, preload: wire.PreloadModules) -> None:
        for name in preload.modules:
            if self._has_command():
                # Forking comes first; whoever needs the module imports it then.
                return
            self._import([name])
        gc.collect()

    @staticmethod
    def _import(names: Iterable[str]) -> None:
        for name in names:
            if threading.active_count() > 1:
                return  # a module started a thread: none more, and forking has to be good enough
            try:
                importlib.import_module(name)
            except Exception as error:
                print(f"zygote: can't preload {name}: {error}", file=sys.stderr, flush=True)

    def _has_command(self) -> bool:
        return bool(select.select([self._channel], [], [], 0)[0])

    def _fork(self, fork: wire.ForkWorker, descriptor: int) -> None:
        if descriptor < 0:
            self._failed(fork.worker, "no socket came with the command")
            return
        answer_read, answer_write = os.pipe()
        gc.freeze()
        try:
            middle = os.fork()
        except OSError as error:
            os.close(descriptor)
            os.close(answer_read)
            os.close(answer_write)
            self._failed(fork.worker, f"fork: {error.strerror}")
            return
        if middle == 0:
            self._be_middle(fork, descriptor, answer_read, answer_write)
        os.close(descriptor)
        os.close(answer_write)
        answer = b""
        while True:
            part = os.read(answer_read, 64)
            if not part:
                break
            answer += part
        os.close(answer_read)
        os.waitpid(middle, 0)
        if answer.startswith(b"-") or not answer:
            self._failed(fork.worker, answer[1:].decode() or "the forked process died at once")
        else:
            self._tell(
                wire.ZygoteEvent(forked=wire.WorkerForked(worker=fork.worker, pid=int(answer)))
            )

    def _be_middle(
        self, fork: wire.ForkWorker, descriptor: int, answer_read: int, answer_write: int
    ) -> None:
        """The process between zygote and worker; never returns."""
        middle = os.getpid()
        try:
            worker = os.fork()
        except OSError as error:
            os.write(answer_write, b"-" + f"fork: {error.strerror}".encode())
            os._exit(1)
        if worker:
            os.write(answer_write, str(worker).encode())
            os._exit(0)
        status = 1
        try:
            os.close(answer_read)
            os.close(answer_write)
            self._channel.close()
            self._become_worker(fork, descriptor, middle)
            status = 0
        except SystemExit as leave:
            status = leave.code if isinstance(leave.code, int) else 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            except Exception:
                pass
            os._exit(status)

    def _become_worker(self, fork: wire.ForkWorker, descriptor: int, middle: int) -> None:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        for number, path in ((1, fork.stdout_path), (2, fork.stderr_path)):
            if path:
                file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                os.dup2(file, number)
                os.close(file)
        # The worker must not outlive the raylet, even in the middle of a long C call.
        while os.getppid() == middle:
            time.sleep(0.0002)
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _libc.prctl(_PR_SET_NAME, b"ray-worker", 0, 0, 0)
        if os.getppid() != self._raylet:
            raise SystemExit(0)
        try:
            _libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
            _libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
        except AttributeError:  # another C library
            pass
        random.seed()
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            numpy.random.seed()
        worker_main.run(fork.worker, descriptor)

    def _failed(self, worker: int, reason: str) -> None:
        self._tell(wire.ZygoteEvent(failed=wire.ForkFailed(worker=worker, reason=reason)))

    def _tell(self, event: wire.ZygoteEvent) -> None:
        try:
            send_packet(self._channel, event.SerializeToString())
        except PeerGone:
            pass


def main(arguments: Optional[list] = None) -> None:
    parser = argparse.ArgumentParser(description="forks Raylet workers; started by rayletd")
    parser.add_argument("--channel-fd", type=int, required=True, help="a SEQPACKET socket to the raylet")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = socket.socket(fileno=options.channel_fd)
    channel.setblocking(True)
    os.set_inheritable(options.channel_fd, False)
    Zygote(channel).run()


if __name__ == "__main__":
    main()
