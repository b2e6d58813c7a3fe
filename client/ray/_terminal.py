"""What workers print and raylets want to say, on the driver's terminal."""

from __future__ import annotations

import sys
from typing import Any, Callable, ContextManager, Optional

from ray._wire import common_pb2 as wire_common
from ray._wire import session_pb2 as wire

_WEIGHTS = {wire_common.INFO: "INFO", wire_common.WARNING: "WARNING", wire_common.ERROR: "ERROR"}


def print_output(lines: wire.OutputLines) -> None:
    """As Ray does: `(name pid=N) line`."""
    stream = sys.stderr if lines.is_error else sys.stdout
    prefix = f"({lines.task_name} pid={lines.pid}) " if lines.task_name else f"(pid={lines.pid}) "
    _write(stream, "".join(f"{prefix}{line}\n" for line in lines.lines))


def print_notice(notice: wire.Notice) -> None:
    _write(sys.stderr, f"(raylet) {_WEIGHTS.get(notice.severity, 'INFO')}: {notice.text}\n")


# While a progress bar is on the screen: a context, given the stream, in which it is out of the way.
around_output: Optional[Callable[[Any], ContextManager]] = None


def _write(stream: Any, text: str) -> None:
    around = around_output
    try:
        if around is None:
            stream.write(text)
        else:
            with around(stream):
                stream.write(text)
        stream.flush()
    except (AttributeError, OSError, ValueError):  # closed, or there is none
        pass
