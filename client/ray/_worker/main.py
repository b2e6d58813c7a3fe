"""A worker's life: hello, batches, results, exit.

Its one thread reads a batch, runs it and reports; it never reads further ahead than it must, because what
it has not read the raylet can give to another worker.
"""

from __future__ import annotations

import faulthandler
import os
import platform
import signal
import socket
import sys
from typing import Any

import cloudpickle

from ray import _runtime, _shield
from ray._local_carrier import LocalCarrier
from ray._packets import PacketError, PeerGone
from ray._session import PROTOCOL_VERSION, Session
from ray._version import __version__
from ray._warned import TaskWarnings
from ray._wire import session_pb2 as wire
from ray._worker import output
from ray._worker.execution import Execution


def run(worker: int, descriptor: int) -> None:
    """Be worker number `worker` on this socket until the raylet says to leave or is gone."""
    faulthandler.enable()
    sock = socket.socket(fileno=descriptor)
    sock.setblocking(True)
    session = Session(
        LocalCarrier(sock, "the raylet"),
        wire.Hello(
            protocol_version=PROTOCOL_VERSION, role=wire.Hello.WORKER,
            python_version=platform.python_version(), cloudpickle_version=cloudpickle.__version__,
            worker=worker, pid=os.getpid(), client_version=__version__,
        ),
    )
    execution = Execution(session)
    _runtime.in_worker = True
    _runtime.set_session(session)
    session.on_worker_frame = execution.take_frame
    running = execution.running
    session.current_task = running.current_task
    session.reports = execution.reports
    session.blocking = execution.blocking
    session.hand_back_rest = execution.hand_back_rest
    execution.streams = output.install(
        running.current_name, lambda lines: _send_output(session, lines)
    )
    TaskWarnings(lambda lines: _send_output(session, lines), running.current_graph).install()
    for body, frame in session.early_frames:
        execution.take_frame(body, frame)
    session.early_frames.clear()
    _shield.shield.deliver = running.deliver_interrupt
    signal.signal(signal.SIGINT, running.on_interrupt)
    signal.signal(signal.SIGTERM, _leave)
    try:
        _work(session, execution)
    finally:
        for stream in execution.streams:
            stream.flush_lines(partial=True)


def _leave(number: int, frame: Any) -> None:
    os._exit(0)


def _send_output(session: Session, lines: wire.OutputLines) -> None:
    session.send(wire.ClientFrame(output=lines))


def _work(session: Session, execution: Execution) -> None:
    carrier = session.carrier
    waiting = session.waiting

    def read_one() -> None:
        session.take_frame(*carrier.read_one())

    while not execution.leaving:
        batch = execution.next_batch()
        if batch is not None:
            execution.run_batch(batch)
            continue
        session.flush()  # what died with the last batch, or was not needed after all
        try:
            waiting.lead_once(read_one)
        except (PeerGone, PacketError, OSError):
            return
        if session.lost is not None:
            print(f"worker: {session.lost}", file=sys.__stderr__, flush=True)
            return
    session.flush()
