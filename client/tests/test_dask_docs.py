"""docs/dask.md does what it says: its Python examples run as they stand, one after the other."""

from __future__ import annotations

import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_every_example_of_the_dask_page_runs(tmp_path):
    with open(os.path.join(ROOT, "docs", "dask.md")) as file:
        blocks = re.findall(r"```python\n(.*?)```", file.read(), re.S)
    assert len(blocks) >= 8
    script = tmp_path / "examples.py"
    script.write_text("\n".join(blocks) + "\nprint('all done')\n")
    paths = [os.path.join(ROOT, "client"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=240, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert {"9", "((1, -1), 1)", "30", "6", "42", "1 2", "all done"} <= set(lines)
    assert lines.count("True") >= 3 and "False" not in lines
