"""Keeps KeyboardInterrupt out of the few places where it would leave a conversation half-done.

The main thread raises `shield.depth` around taking frames in and sending them; a SIGINT that comes
meanwhile is remembered and delivered when the place is left. Other threads are never interrupted.
"""

from __future__ import annotations

import signal
import threading
from typing import Any, Callable, Optional


def _raise_interrupt() -> None:
    raise KeyboardInterrupt


class _Shield:
    depth = 0
    pending = False
    deliver: Callable[[], None] = staticmethod(_raise_interrupt)


shield = _Shield()
MAIN_THREAD = threading.main_thread().ident
_before: Optional[Any] = None


def is_main_thread() -> bool:
    return threading.get_ident() == MAIN_THREAD


def enter() -> bool:
    """Begin a shielded place; give the result to leave()."""
    if threading.get_ident() != MAIN_THREAD:
        return False
    shield.depth += 1
    return True


def leave(entered: bool) -> None:
    """End a shielded place; a remembered interrupt is raised here."""
    if entered:
        shield.depth -= 1
        if shield.pending and not shield.depth:
            shield.pending = False
            shield.deliver()


def _on_interrupt(number: int, frame: Any) -> None:
    if shield.depth:
        shield.pending = True
    else:
        raise KeyboardInterrupt


def install() -> None:
    """Take SIGINT over from Python's own handler, if that is what is there and this is the main thread."""
    global _before
    if not is_main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    _before = signal.signal(signal.SIGINT, _on_interrupt)


def uninstall() -> None:
    """Give SIGINT back."""
    global _before
    if _before is not None and is_main_thread() and signal.getsignal(signal.SIGINT) is _on_interrupt:
        signal.signal(signal.SIGINT, _before)
        _before = None


def after_fork() -> None:
    """The forking thread is the only one, so it is the main one."""
    global MAIN_THREAD
    MAIN_THREAD = threading.get_ident()
    shield.depth = 0
    shield.pending = False
