"""docs/dask.md and docs/migrating.md do what they say: their Python examples run as they stand, in order."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def blocks_of(page: str) -> list:
    with open(os.path.join(ROOT, "docs", page)) as file:
        return re.findall(r"```python\n(.*?)```", file.read(), re.S)


def run(blocks: list, folder) -> list:
    """The lines that the blocks print, one after the other in one script."""
    script = folder / "examples.py"
    script.write_text("\n".join(blocks) + "\nprint('all done')\n")
    paths = [os.path.join(ROOT, "client"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=240, cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_example_of_the_dask_page_runs(tmp_path):
    blocks = blocks_of("dask.md")
    assert len(blocks) >= 8
    lines = run(blocks, tmp_path)
    assert {"9", "((1, -1), 1)", "30", "6", "42", "1 2", "all done"} <= set(lines)
    assert lines.count("True") >= 3 and "False" not in lines


def test_every_example_of_the_migration_page_prints_what_stands_beside_it(tmp_path):
    blocks = blocks_of("migrating.md")
    if importlib.util.find_spec("joblib") is None:
        blocks = [block for block in blocks if "joblib" not in block]
    expected = re.findall(r"^ *print\(.*\)  +# (.*)$", "\n".join(blocks), re.M)
    assert len(expected) >= 10 and len(expected) == "\n".join(blocks).count("print(")
    assert run(blocks, tmp_path) == [*expected, "all done"]
