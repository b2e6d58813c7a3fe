"""The progress bar: when it is shown, what it says, and that it leaves no trace and hides nothing."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import types

import dask
import pytest
from tqdm import tqdm

import ray
from ray.util.dask import ProgressBarCallback, _progress, _progress_view, ray_dask_get

CLIENT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROWS, COLUMNS = 30, 100

SCRIPT = """
import sys, time
import ray
from ray.util.dask import ray_dask_get
ray.init({address!r})

def nap(i):
    time.sleep(0.1)
    if i == 50:
        print("a task says hello", flush=True)
    if i == {fails}:
        raise ValueError("no such number")
    return i

graph = {{("nap", i): (nap, i) for i in range({count})}}
graph["total"] = (sum, [("nap", i) for i in range({count})])
print("before", flush=True)
print("total", ray_dask_get(graph, "total"), flush=True)
print("after", file=sys.stderr, flush=True)
"""


class Screen:
    """What a terminal shows of what was written to it; knows what tqdm uses."""

    def __init__(self):
        self.lines = [""]
        self.row = self.column = 0

    def write(self, text):
        for part in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|.", text, re.S):
            if part == "\r":
                self.column = 0
            elif part == "\n":
                self.row += 1
                if self.row == len(self.lines):
                    self.lines.append("")
            elif part.startswith("\x1b"):
                assert part == "\x1b[A", f"tqdm uses {part!r} too"
                self.row -= 1
            else:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + part + line[self.column + 1 :]
                self.column += 1

    def text(self):
        return [line.rstrip() for line in self.lines if line.strip()]


def on_terminal(script, environment=None, until=None, send=b""):
    """Run a script on a terminal; what it wrote, what the terminal shows at the end, and its exit code.

    When it has written `until`, it gets `send`.
    """
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    paths = [CLIENT, os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=its, stdout=its, stderr=its, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env={
            **os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            **(environment or {}),
        },
    )
    os.close(its)
    written = b""
    try:
        while select.select([ours], [], [], 60)[0]:
            try:
                data = os.read(ours, 1 << 16)
            except OSError:  # the last one closed it
                break
            if not data:
                break
            written += data
            if until is not None and until in written:
                until = None
                os.write(ours, send)
        code = process.wait(10)
    finally:
        process.kill()
        os.close(ours)
    screen = Screen()
    screen.write(written.decode())
    return written.decode(), screen.text(), code


def script(node, count=60, fails=-1):
    return SCRIPT.format(address=str(node.directory), count=count, fails=fails)


def test_a_long_computation_shows_what_is_done_and_leaves_the_screen_as_it_was(shared_node):
    written, shown, code = on_terminal(script(shared_node))
    assert code == 0
    assert re.search(r"computing:\s+\d+%", written)
    assert re.search(r"\d+/61 \[00:0\d<", written), "the estimate"
    assert re.search(r"\d running, \d+ waiting, [\d.]+ \w+ stored", written)
    assert re.search(r"nap +[1-9]\d*/60", written)
    says = [line for line in shown if "a task says hello" in line]
    assert len(says) == 1 and says[0].startswith("(") and says[0].endswith("a task says hello")
    shown.remove(says[0])
    assert shown == ["before", "total 1770", "after"]


def test_a_short_computation_shows_nothing(shared_node):
    written, shown, code = on_terminal(script(shared_node, count=4))
    assert code == 0 and "computing" not in written
    assert shown == ["before", "total 6", "after"]


@pytest.mark.parametrize(
    "environment", [{"RAYLET_PROGRESS": "0"}, {"DASK_RAY__PROGRESS": "False"}], ids=["RAYLET", "DASK"]
)
def test_one_setting_turns_it_off(shared_node, environment):
    written, _, code = on_terminal(script(shared_node), environment)
    assert code == 0 and "computing" not in written and "total 1770" in written


def test_an_error_is_on_the_screen_and_the_bar_is_not(shared_node):
    written, shown, code = on_terminal(script(shared_node, fails=55))
    assert code == 1 and "computing" in written
    assert not any("computing" in line for line in shown)
    assert any("RayTaskError(ValueError): no such number" in line for line in shown)
    assert shown[0] == "before"


def test_an_interrupt_ends_it_and_its_bar(shared_node):
    written, shown, code = on_terminal(script(shared_node, count=400), until=b"computing:", send=b"\x03")
    assert code == -signal.SIGINT or code == 130 or code == 1
    assert any("KeyboardInterrupt" in line for line in shown)
    assert not any("computing" in line for line in shown)


def test_nothing_is_shown_where_nobody_looks(shared_node):
    done = subprocess.run(
        [sys.executable, "-c", script(shared_node)], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": CLIENT},
    )
    assert done.returncode == 0 and done.stderr == "after\n"


# ------------------------------------------------------------ in this process


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def on_a_terminal(monkeypatch, local_cluster):
    """To be called by the test itself: pytest sets standard error anew when a test begins."""
    monkeypatch.setattr(_progress, "_watcher", _progress.Watcher())

    def begin():
        made = Terminal()
        monkeypatch.setattr(sys, "stderr", made)
        return made

    return begin


def nap_graph(count):
    graph = {("nap", i): (time.sleep, 0.1) for i in range(count)}
    return {**graph, "end": (len, [("nap", i) for i in range(count)])}


def test_nothing_is_asked_of_the_raylet_before_the_bar_is_due(on_a_terminal, monkeypatch):
    terminal = on_a_terminal()
    asked = []
    monkeypatch.setattr(_progress, "Poll", lambda *args: asked.append(args))
    assert ray_dask_get(nap_graph(20), "end") == 20
    time.sleep(1.2)  # the thread has looked at it twice since
    assert not asked and not terminal.getvalue()
    assert not _progress._watcher._watched


def test_a_bar_that_is_asked_for_is_there_at_once_wherever_it_goes(local_cluster, capfd):
    with ProgressBarCallback():
        assert ray_dask_get(nap_graph(20), "end") == 20
    assert "computing" in capfd.readouterr().err
    assert ray_dask_get(nap_graph(20), "end", _ray_enable_progress_bar=True) == 20
    assert "computing" in capfd.readouterr().err
    assert ray_dask_get(nap_graph(2), "end") == 2
    assert not capfd.readouterr().err


def test_configuration_goes_before_what_is_found(on_a_terminal, monkeypatch):
    terminal = on_a_terminal()
    assert _progress.wanted() is False  # on a terminal, when it is due
    with dask.config.set({"ray.progress": False}):
        assert _progress.wanted() is None and _progress.wanted(True) is None
    assert _progress.wanted(False) is None and _progress.wanted(True) is True
    monkeypatch.setenv("RAYLET_PROGRESS", "0")
    assert _progress.wanted() is None
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert _progress.wanted() is None
    monkeypatch.setenv("RAYLET_PROGRESS", "1")
    assert _progress.wanted() is False
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.delenv("RAYLET_PROGRESS")
    assert _progress.wanted() is None


def test_a_notebook_without_widgets_gets_a_line_of_text(local_cluster, monkeypatch, capfd):
    class Shell:
        pass

    Shell.__name__ = "ZMQInteractiveShell"
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = Shell
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.setattr(_progress, "_watcher", _progress.Watcher())
    monkeypatch.setattr(_progress, "SHOWN_AFTER_S", 0.0)
    assert _progress.wanted() is False
    assert ray_dask_get(nap_graph(30), "end") == 30
    shown = capfd.readouterr().err
    assert "computing" in shown and "Warning" not in shown
    assert "\n" not in shown and "\x1b" not in shown, "a notebook knows no way up to an earlier line"


def test_a_notebooks_widget_is_gone_at_the_end_however_far_it_had_come(monkeypatch):
    class Container:
        shown = True

        def close(self):
            self.shown = False

    class Widget(tqdm):
        """As tqdm's widget, which hides itself at the end only if that was reached."""

        __module__ = "tqdm.notebook"

        def __init__(self, **options):
            super().__init__(file=io.StringIO(), **options)
            self.container = Container()

        def close(self):
            super().close()
            if self.n == self.total:
                self.container.close()

    monkeypatch.setattr(_progress_view, "_bar_class", lambda: Widget)
    for finished in (14, 16):
        view = _progress_view.View(time.monotonic(), several_lines=True)
        view.show(_progress_view.Found(16, finished, 2, 0, 100, []))
        container = view._whole.container
        assert container.shown
        view.close()
        assert not container.shown


def test_a_driver_over_grpc_has_its_bar_too(shared_node, monkeypatch, capfd):
    with ray.init(shared_node.description["raylet_address"]):
        assert ray_dask_get(nap_graph(30), "end", _ray_enable_progress_bar=True) == 30
    assert re.search(r"[1-9]\d*/31 ", capfd.readouterr().err)


def test_dasks_own_progress_bar_is_the_only_one(on_a_terminal, monkeypatch):
    terminal = on_a_terminal()
    monkeypatch.setattr(_progress, "SHOWN_AFTER_S", 0.0)
    from dask.diagnostics import ProgressBar

    out = io.StringIO()
    with ProgressBar(out=out, dt=0.05):
        assert ray_dask_get(nap_graph(30), "end") == 30
    assert "100%" in out.getvalue() and "computing" not in terminal.getvalue()
    assert ray_dask_get(nap_graph(30), "end") == 30
    assert "computing" in terminal.getvalue()


@pytest.mark.parametrize("broken", ["tqdm", "stderr", "raylet"])
def test_what_goes_wrong_with_the_bar_is_its_own_business(on_a_terminal, monkeypatch, broken):
    terminal = on_a_terminal()
    monkeypatch.setattr(_progress, "SHOWN_AFTER_S", 0.0)
    if broken == "tqdm":
        monkeypatch.setitem(sys.modules, "tqdm", None)
    elif broken == "stderr":
        monkeypatch.setattr(terminal, "write", lambda text: 1 / 0)
    else:
        monkeypatch.setattr(_progress.Poll, "ask", lambda self: 1 / 0)
    assert ray_dask_get(nap_graph(30), "end") == 30
    assert ray_dask_get(nap_graph(2), "end") == 2
    assert not _progress._watcher._watched
    assert "computing" not in terminal.getvalue()


def test_two_computations_at_once_have_one_bar_after_the_other(on_a_terminal, monkeypatch):
    import threading

    terminal = on_a_terminal()
    monkeypatch.setattr(_progress, "SHOWN_AFTER_S", 0.0)
    results = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(ray_dask_get(nap_graph(n), "end")))
        for n in (20, 30)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [20, 30]
    assert not _progress._watcher._watched and _progress._watcher._view is None
    assert "/21 " in terminal.getvalue() or "/31 " in terminal.getvalue()
