"""One conversation with a raylet: the hello, questions and their answers, reading, and the end.

Every frame goes out through send(), in the order of the calls. Reading is done by whoever waits
(ray._waiting). When the connection breaks, everything that waits fails with `lost`, and so does every later
use. What the frames mean is said by ray._objects (values) and ray._session (graphs, calls, actors).
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from ray import _shield, exceptions
from ray._background import Background
from ray._failures import to_exception
from ray._packets import PacketError, PeerGone
from ray._references import References
from ray._store import Store
from ray._waiting import Waiter, Waiting
from ray._warned import Warned
from ray._wire import common_pb2 as wire_common
from ray._wire import session_pb2 as wire

PROTOCOL_VERSION = 1
REQUEST_S = 30.0
_HELLO_S = 20.0
_BLOCK_AFTER_S = 0.001
_SEGMENT_S = 5.0


class Request(Waiter):
    """A question with one frame as its answer."""

    __slots__ = ("reply",)

    def __init__(self) -> None:
        super().__init__()
        self.reply: Any = None


class Conversation:
    """The part of a session that knows no graphs and no values. Thread-safe."""

    def __init__(self, carrier: Any, hello: wire.Hello) -> None:
        self.carrier = carrier
        self.is_driver = hello.role == wire.Hello.DRIVER
        self.job: bytes = hello.job
        self.references = References()
        self.store = Store(self.references)
        self.lost: Optional[BaseException] = None
        self.closed = False
        self._sending = threading.RLock()
        self._numbers = itertools.count(1)
        self._requests: Dict[int, Any] = {}
        self.waiting = Waiting(carrier.fileno(), self._read_ready)
        self.background: Optional[Background] = None
        self._background_lock = threading.Lock()
        # Workers: entered while a thread really waits inside a task.
        self.blocking: Optional[Any] = None
        # Workers: gives what waits behind the running task to others, when the task has to wait for one.
        self.hand_back_rest: Optional[Callable[[], None]] = None
        # Workers: takes frames that are for them. Those that came right behind the hello wait here.
        self.early_frames: List[Tuple[str, Any]] = []
        self.on_worker_frame: Optional[Callable[[str, Any], None]] = None
        # Which thread takes a frame in at the moment.
        self._taker = 0
        if not self.is_driver:
            self.store.await_segment = self._await_segment
        self.target: Any = None  # drivers: the address, for calls that go over gRPC
        self.warned = Warned()
        self.on_output: Callable[[wire.OutputLines], None] = lambda lines: None
        self.on_notice: Callable[[wire.Notice], None] = lambda notice: None
        self._handlers: Dict[str, Callable] = {
            "slab_grant": self._take_reply,
            "actor_found": self._take_reply,
            "ack": self._take_reply,
            "hello_reply": self._take_hello,
            "refusal": self._take_refusal,
            "output": lambda lines: self.warned.take(lines, self.on_output),
            "notice": lambda notice: self.on_notice(notice),
        }
        self._hello = Request()
        self.info: wire.HelloReply = self._say_hello(hello)

    def _say_hello(self, hello: wire.Hello) -> wire.HelloReply:
        try:
            self.send(wire.ClientFrame(hello=hello))
        except exceptions.LocalRayletDiedError:
            raise ConnectionError(
                f"the raylet at {self.carrier.name} closed the connection at once; its log is "
                "logs/rayletd.log in the session directory"
            ) from None
        if not self.waiting.wait(self._hello, _HELLO_S):
            self.carrier.close()
            raise ConnectionError(
                f"the raylet at {self.carrier.name} accepted the connection and did not answer the "
                f"hello within {_HELLO_S:.0f} s; its log is logs/rayletd.log in the session directory"
            )
        if self._hello.error is not None:
            raise self._hello.error
        reply = self._hello.reply
        if reply.HasField("failure") and reply.failure.code:
            self.carrier.close()
            raise ConnectionError(
                f"the raylet at {self.carrier.name} refused this process: {reply.failure.message}"
            )
        return reply

    # ------------------------------------------------------------ sending

    def flush(self) -> None:
        """Send whatever is buffered."""

    def flush_calls(self) -> None:
        """Send what others may wait for."""

    def start_background(self) -> None:
        """Have buffered calls sent soon and, in drivers, frames read although nobody waits."""
        with self._background_lock:
            if self.background is None and not self.closed:
                self.background = Background(
                    self.carrier.fileno(), self.waiting if self.is_driver else None,
                    self.flush_calls, self.flush, self.references.active, self._when_quiet, "ray-session",
                )

    def _when_quiet(self) -> None:
        self.warned.print_unless_computing()
        self.store.warm_up()

    def touch(self) -> None:
        """Something was buffered that the background should send soon."""
        background = self.background
        if background is None:
            self.start_background()
            background = self.background
        if background is not None:
            background.touch()

    def send(self, frame: wire.ClientFrame) -> int:
        """Send one frame after everything sent before; its size in bytes. Raises `lost`."""
        data = frame.SerializeToString()
        entered = _shield.enter()
        try:
            with self._sending:
                self._check()
                self.carrier.send(data)
        except ConnectionError:
            raise
        except exceptions.RayError:
            raise
        except ValueError as error:
            raise ValueError(f"{error}; pass large values by ray.put") from None
        except Exception as error:
            self._lose(str(error))
            raise self.lost from None  # type: ignore[misc]
        finally:
            _shield.leave(entered)
        return len(data)

    def _check(self) -> None:
        if self.lost is not None:
            raise self.lost
        if self.closed:
            raise exceptions.RaySystemError("this session was shut down; call ray.init()")

    # ------------------------------------------------------------ waiting

    def _ask(
        self, number: int, frame: wire.ClientFrame, timeout_s: float, what: str, quiet: bool = False
    ) -> Any:
        waiter = Request()
        self._requests[number] = waiter
        self.send(frame)
        try:
            # Short, and no reason for a worker to give up its place: not _wait().
            self.waiting.wait(waiter, timeout_s)
        finally:
            self._requests.pop(number, None)
        if waiter.error is not None:
            if quiet and not self.lost:
                return None
            raise waiter.error
        if not waiter.done:
            raise exceptions.RaySystemError(
                f"the raylet did not answer a {what} within {timeout_s:.0f} s; "
                "logs/rayletd.log in the session directory may tell why"
            )
        return waiter.reply

    def _barrier(self) -> None:
        """Until the raylet has taken in everything sent so far and its answers are here."""
        number = next(self._numbers)
        cancel = wire.Cancel(graph=os.urandom(16), request=number)
        self._ask(number, wire.ClientFrame(cancel=cancel), REQUEST_S, "barrier", quiet=True)

    def _wait(self, waiter: Waiter, timeout_s: Optional[float]) -> bool:
        """For objects: a task that really waits gives its resources back meanwhile."""
        blocking = self.blocking
        if blocking is None:
            return self.waiting.wait(waiter, timeout_s)
        first = _BLOCK_AFTER_S if timeout_s is None else min(timeout_s, _BLOCK_AFTER_S)
        if self.waiting.wait(waiter, first):
            return True
        left = None if timeout_s is None else timeout_s - first
        with blocking:
            return self.waiting.wait(waiter, left)

    # ------------------------------------------------------------ reading

    def _read_ready(self, until: Optional[Waiter]) -> None:
        """Take in what has come, but no more than it takes to complete `until`."""
        read_next = self.carrier.read_next
        try:
            while True:
                received = read_next()
                if received is None:
                    return
                self.take_frame(*received)
                if until is not None and until.done:
                    return
        except PeerGone as gone:
            self._lose(str(gone) or "the connection was closed by the other end")
        except (PacketError, OSError) as error:
            self._lose(str(error))

    def take_frame(self, frame: wire.ServerFrame, descriptor: int) -> None:
        """Act on one frame. Never raises for what came: a bad frame loses the session."""
        body = frame.WhichOneof("body")
        before, self._taker = self._taker, threading.get_ident()
        try:
            if body == "segment":
                self.store.add_segment(frame.segment.segment, frame.segment.size_bytes, descriptor)
                return
            if descriptor >= 0:
                os.close(descriptor)
            handler = self._handlers.get(body)
            if handler is not None:
                handler(getattr(frame, body))
            elif body is not None and self.on_worker_frame is not None:
                self.on_worker_frame(body, getattr(frame, body))
            elif body is not None and not self.is_driver:
                self.early_frames.append((body, getattr(frame, body)))
        except (KeyboardInterrupt, SystemExit):
            raise
        except Exception as error:
            self._lose(f"a {body} frame made no sense: {type(error).__name__}: {error}")
        finally:
            self._taker = before

    def _await_segment(self, number: int) -> None:
        """Until the segment has come, but no longer than _SEGMENT_S.

        A raylet that takes unread batches back reads every frame that waits and sends the others again. A
        frame that this worker reads at that very moment can so overtake the segment that it names.
        """
        deadline = time.monotonic() + _SEGMENT_S
        while not self.store.knows(number) and self.lost is None and time.monotonic() < deadline:
            if self._taker == threading.get_ident():
                self._read_ready(None)
            else:
                self.waiting.try_read()
            if not self.store.knows(number):
                time.sleep(0.0005)

    def _take_reply(self, reply: Any) -> None:
        waiter = self._requests.get(reply.request)
        if isinstance(waiter, Request):
            waiter.reply = reply
            waiter.complete()
        elif reply.DESCRIPTOR.name == "SlabGrant" and not reply.failure.code:
            # Nobody waits for it any more.
            self.send(wire.ClientFrame(slab_return=wire.SlabReturn(slab=reply.slab)))

    def _take_hello(self, reply: wire.HelloReply) -> None:
        self._hello.reply = reply
        self._hello.complete()

    def _take_refusal(self, refusal: wire.Refusal) -> None:
        if not self._hello.done:
            self._hello.fail(
                ConnectionError(f"the raylet refused the hello: {refusal.failure.message}")
            )
            return
        waiter = self._requests.pop(refusal.request, None) if refusal.request else None
        if waiter is not None:
            waiter.fail(to_exception(refusal.failure))
            return
        self.on_notice(
            wire.Notice(
                severity=wire_common.ERROR,
                text=f"the raylet refused a {refusal.about or 'frame'}: {refusal.failure.message}",
            )
        )

    # ------------------------------------------------------------ the end

    def _lose(self, reason: str) -> None:
        """The connection is gone: everything that waits fails."""
        if self.lost is not None or self.closed:
            return
        self.lost = exceptions.LocalRayletDiedError(
            f"the raylet at {self.carrier.name} is gone ({reason}). What was under way and the objects "
            "it held are lost. If the node is started again, the next call connects to it; after "
            "ray.init() without an address, call ray.shutdown() and ray.init()."
        )
        self._fail_all(self.lost)

    def _fail_all(self, error: BaseException) -> None:
        if not self._hello.done:
            self._hello.fail(ConnectionError(str(error)))
        while self._requests:
            try:
                self._requests.popitem()[1].fail(error)
            except KeyError:
                break
        if self.on_worker_frame is not None:
            self.on_worker_frame("lost", None)

    def close(self) -> None:
        """Leave on purpose."""
        if self.closed:
            return
        if self.lost is None:
            try:
                self.flush()
                self.send(wire.ClientFrame(goodbye=wire.Goodbye()))
            except Exception:
                pass
        self.closed = True
        if self.background is not None:
            self.background.close()
        self.carrier.close()
        self.warned.print_unless_computing()
        self._fail_all(exceptions.RaySystemError("ray.shutdown() was called meanwhile"))
        self.store.close()

    def abandon_after_fork(self) -> None:
        """In a forked child: this session is the parent's."""
        self.closed = True
        self.carrier.close_after_fork()
