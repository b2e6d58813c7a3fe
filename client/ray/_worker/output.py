"""What tasks print: to the worker's own file, and line by line to the driver with the task's name and pid."""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from typing import Any, Callable, List

from ray._wire import session_pb2 as wire

_LINE_BYTES_MAX = 16 << 10
_FRAME_BYTES_MAX = 32 << 10
_GATHER_S = 0.05


class LineStream(io.TextIOBase):
    """Stands for sys.stdout or sys.stderr in a worker. Thread-safe.

    `name()` is the running task's; `send(lines)` takes an OutputLines. Lines are gathered while they come
    fast, and sent by flush_lines() at the latest, which the worker calls when it reports results.
    """

    def __init__(
        self, descriptor: int, is_error: bool, name: Callable[[], str],
        send: Callable[[wire.OutputLines], None],
    ) -> None:
        self._file = open(descriptor, "w", buffering=1, errors="backslashreplace", closefd=False)
        self._descriptor = descriptor
        self._is_error = is_error
        self._name = name
        self._send = send
        self._lock = threading.RLock()
        self._partial = ""
        self._task = ""
        self._sent_at = 0.0
        self.lines: List[str] = []
        self._bytes = 0

    encoding = "utf-8"
    errors = "backslashreplace"

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._descriptor

    @property
    def buffer(self) -> Any:
        return _Bytes(self)

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        with self._lock:
            self._file.write(text)
            name = self._name()
            if name != self._task:
                self.flush_lines()
                self._task = name
            parts = (self._partial + text).split("\n")
            self._partial = parts.pop()
            for line in parts:
                # A progress bar's line is what it ends as.
                line = line.rsplit("\r", 1)[-1] if "\r" in line.rstrip("\r") else line.rstrip("\r")
                self.lines.append(line[:_LINE_BYTES_MAX])
                self._bytes += len(line)
                if self._bytes > _FRAME_BYTES_MAX:
                    self.flush_lines()
            if self.lines and time.monotonic() - self._sent_at > _GATHER_S:
                self.flush_lines()
        return len(text)

    def flush(self) -> None:
        self._file.flush()

    def flush_lines(self, partial: bool = False) -> None:
        """Send what is gathered; `partial`: also a line without its end."""
        with self._lock:
            if partial and self._partial:
                self.lines.append(self._partial[:_LINE_BYTES_MAX])
                self._partial = ""
            lines, self.lines = self.lines, []
            self._bytes = 0
            if not lines:
                return
            self._sent_at = time.monotonic()
            try:
                self._send(
                    wire.OutputLines(
                        lines=lines, is_error=self._is_error, task_name=self._task, pid=os.getpid()
                    )
                )
            except Exception:  # the raylet is gone; the file has it
                pass

    @property
    def waits(self) -> bool:
        return bool(self.lines or self._partial)


class _Bytes(io.RawIOBase):
    """sys.stdout.buffer."""

    def __init__(self, stream: LineStream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stream.write(bytes(data).decode("utf-8", "backslashreplace"))
        return len(data)

    def flush(self) -> None:
        self._stream.flush()


def install(name: Callable[[], str], send: Callable[[wire.OutputLines], None]) -> List[LineStream]:
    """Put both streams in the place of sys.stdout and sys.stderr."""
    streams = [LineStream(1, False, name, send), LineStream(2, True, name, send)]
    sys.stdout, sys.stderr = streams  # type: ignore[assignment]
    return streams
