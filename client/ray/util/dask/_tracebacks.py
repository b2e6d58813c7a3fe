"""Tracebacks of tasks that failed: the worker's frames behind the caller's, shortened as Dask's are.

A frame can't travel, but the text of the worker's traceback tells what is shown of one: file, line and name.
From these, frames are made that show the same. Dask leaves out those that `admin.traceback.shorten` names; ours
are among them, unless the user has emptied that list.
"""

from __future__ import annotations

import re
import types
from typing import List, Optional, Tuple

import dask

from ray.exceptions import RayTaskError

_SHORTEN_KEY = "admin.traceback.shorten"
_OURS = r"[\\\/]ray[\\\/](_\w+\.py|util[\\\/]dask[\\\/]|_worker[\\\/])"
_FRAME = re.compile(r'^  File "(.+)", line (\d+), in (.+)$', re.MULTILINE)
_HEADING = "Traceback (most recent call last):"
_FRAMES_MAX = 200


def install() -> None:
    """Have Dask leave out our frames where it leaves out its own."""
    paths = dask.config.get(_SHORTEN_KEY, None)
    if paths and _OURS not in paths:
        dask.config.set({_SHORTEN_KEY: [*paths, _OURS]})


def show_as_with_threads(error: RayTaskError) -> None:
    """Let the error's traceback go on with the frames of the worker, and its text be that of its cause."""
    last = error.__traceback__
    made = _traceback_of(_frames_in(error.traceback_str))
    if last is None or made is None:
        return
    while last.tb_next is not None:
        last = last.tb_next
    last.tb_next = made
    error.speak_as_cause()


def _frames_in(text: str) -> List[Tuple[str, int, str]]:
    """File, line and name of each frame of the last traceback in the text."""
    text = text[text.rfind(_HEADING):] if _HEADING in text else ""
    return [(path, int(line), name) for path, line, name in _FRAME.findall(text)][:_FRAMES_MAX]


def _traceback_of(frames: List[Tuple[str, int, str]]) -> Optional[types.TracebackType]:
    made: Optional[types.TracebackType] = None
    for path, line, name in reversed(frames):
        code = compile("raise LookupError", path, "exec").replace(co_name=name, co_firstlineno=line)
        try:
            exec(code, {"__name__": "worker", "__file__": path})
        except LookupError as error:
            own = error.__traceback__
            assert own is not None and own.tb_next is not None
            made = types.TracebackType(made, own.tb_next.tb_frame, own.tb_next.tb_lasti, line)
    return made
