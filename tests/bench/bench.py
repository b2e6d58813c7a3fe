"""Speed, side by side (`make bench`): Raylet, Dask's threads and distributed, and the Ray wheel if it is there.

Every contender gets the same work, two workers, a process of its own, and its results are checked. The table
shows medians and, in brackets, how many times better Raylet is. One JSON file a run goes to build/bench/.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Optional

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT = ROOT / "build" / "bench"

# (row, measure, more is better, to reach, contenders that can do it in reasonable time)
RAY = ("raylet", "ray wheel")
NULL = ("raylet, null workers",)
PLAIN = ("raylet, Dask's shuffle",)
EVERYONE = ("raylet", "dask threads", "distributed", "distributed, saturation inf", "ray wheel")
TABLE: list[tuple[str, str, bool, Optional[float], tuple[str, ...]]] = [
    ("start", "ms to first result", False, 1000, EVERYONE),
    ("start", "idle private MB", False, None, EVERYONE),
    ("fan-in 8,192", "tasks per second", True, 50_000, EVERYONE),
    ("fan-in, metrics polled", "tasks per second", True, None, ("raylet",)),
    ("fan-in, metrics polled", "longest answer ms", False, None, ("raylet",)),
    ("scheduler alone", "tasks per second", True, 300_000, NULL),
    ("tree 16,383", "tasks per second", True, 50_000, EVERYONE),
    ("chain 300", "µs per hop", False, 150, EVERYONE),
    ("single graph", "µs", False, 500, EVERYONE),
    ("ray.get(f.remote())", "µs", False, 300, RAY),
    ("5,000 f.remote()", "calls per second", True, 15_000, RAY),
    ("put/get 100 MB", "memcpy GB/s", True, None, RAY),
    ("put/get 100 MB", "first put GB/s", True, None, RAY),
    ("put/get 100 MB", "put GB/s", True, None, RAY),
    ("put/get 100 MB", "put / memcpy", True, 0.6, RAY),
    ("put/get 100 MB", "get µs", False, 300, RAY),
    ("array 8000²", "s", False, None, EVERYONE),
    ("set_index 1 GiB, 32 parts", "s", False, None, ("raylet", "distributed", "ray wheel")),
    ("set_index 64 MiB, 100 parts", "s", False, None, ("raylet", *PLAIN, "distributed", "ray wheel")),
    ("delayed 20,000", "µs per task", False, None, EVERYONE[:3]),
    ("delayed 20,000", "driver's µs per task", False, 5, ("raylet",)),
    ("graph beside calls", "s as a graph", False, None, RAY),
    ("graph beside calls", "s as calls", False, None, RAY),
    ("24 climate files", "files per second", True, None, EVERYONE[:3]),
    ("10,000 inputs", "ms", False, None, EVERYONE[:2]),
    ("10,000 readers", "ms", False, None, EVERYONE[:2]),
    ("fan-in 8,192", "µs per task", False, 20, EVERYONE[:2]),
    ("fan-in 100,000", "µs per task", False, None, EVERYONE[:2]),
    ("fan-in 1,000,000", "µs per task", False, None, ("raylet",)),
    ("fan-in 1,000,000", "tasks per second", True, 50_000, ("raylet",)),
    ("fan-in 1,000,000", "driver bytes per task", False, None, ("raylet",)),
    ("fan-in 1,000,000", "raylet bytes per task", False, None, ("raylet",)),
]

LIMIT_S = 900  # of one contender's whole part


def rows_of(contender: str, wanted: Optional[list[str]]) -> list[str]:
    rows = dict.fromkeys(row for row, _, _, _, who in TABLE if contender in who and row != "start")
    return [row for row in rows if not wanted or any(w in row for w in wanted)]


def interpreter(contender: str) -> Optional[Path]:
    """The Python that the contender runs on; nothing when it is not installed here."""
    python = ROOT / (".venv-ray" if contender == "ray wheel" else ".venv") / "bin" / "python"
    if contender == "ray wheel":
        if not python.exists():
            return None
        if subprocess.run([str(python), "-c", "import ray, dask.array"], capture_output=True).returncode != 0:
            return None
    return python


def run(contender: str, python: Path, rows: list[str]) -> dict[str, dict]:
    """What each row gave: its samples, or an error."""
    print(f"bench: {contender} ...", file=sys.stderr, flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAY_DEDUP_LOGS": "0"}
    environment.pop("RAY_ADDRESS", None)
    process = subprocess.Popen(
        [str(python), str(HERE / "runner.py"), contender, *rows],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )
    try:
        out, err = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err += f"\nstopped after {LIMIT_S} s"
    if process.returncode != 0:
        err += f"\nended with {process.returncode}"
    found = {}
    for line in out.splitlines():
        if line.startswith("{"):
            fields = json.loads(line)
            found[fields.pop("row")] = fields
    for row in ["start", *rows]:
        found.setdefault(row, {"error": err[-2000:]})
        problem = found[row].get("wrong") or found[row].get("error")
        if problem:
            found[row].pop("samples", None)
            print(f"bench: {contender}: {row}: {problem}", file=sys.stderr)
    return found


def cell(value: Optional[float], raylet: Optional[float], more_is_better: bool) -> str:
    if value is None:
        return "-"
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    if raylet is None or raylet == 0 or value == 0:
        return text
    return f"{text} ({raylet / value if more_is_better else value / raylet:.2g}x)"


def table(medians: dict[str, dict[str, dict[str, float]]]) -> str:
    names = [name for name in EVERYONE + NULL + PLAIN if name in medians]
    lines = [["", "", "to reach", *names]]
    for row, measure, more_is_better, goal, _ in TABLE:
        values = [medians[name].get(row, {}).get(measure) for name in names]
        if all(value is None for value in values):
            continue
        ours = medians.get("raylet", {}).get(row, {}).get(measure)
        cells = [cell(v, None if name == "raylet" else ours, more_is_better) for name, v in zip(names, values)]
        for i, name in enumerate(names):
            value = values[i]
            if value is None or goal is None or not name.startswith("raylet"):
                continue
            cells[i] += " !" if (value < goal if more_is_better else value > goal) else ""
        lines.append([row, measure, "" if goal is None else f"{goal:,g}", *cells])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines)


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--contender", action="append", choices=EVERYONE + NULL + PLAIN, help="may be given again; default: all"
    )
    parser.add_argument("--row", action="append", help="only rows whose name contains this; may be given again")
    arguments = parser.parse_args()

    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"bench: others use this machine too (load {load:.1f}): the numbers will be worse than they are",
              file=sys.stderr)
    results: dict[str, dict[str, dict]] = {}
    for contender in arguments.contender or EVERYONE + NULL + PLAIN:
        python = interpreter(contender)
        if python is None:
            print(f"bench: {contender} is not installed here (deploy/bootstrap.sh --ray); left out",
                  file=sys.stderr)
            continue
        results[contender] = run(contender, python, rows_of(contender, arguments.row))

    medians = {
        contender: {
            row: {measure: statistics.median(values) for measure, values in fields["samples"].items()}
            for row, fields in rows.items() if "samples" in fields
        }
        for contender, rows in results.items()
    }
    now = datetime.datetime.now(datetime.timezone.utc)
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(
        {
            "time": now.isoformat(), "cpus": len(os.sched_getaffinity(0)), "machine": platform.platform(),
            "load_before": load, "commit": commit(), "medians": medians, "results": results,
        },
        indent=1,
    ))
    print(table(medians))
    print("\nIn brackets: how many times better Raylet is. \"!\": what was to be reached is missed.")
    print(f"All samples: {path.relative_to(ROOT)}")
    wrong = [f"{c}: {row}" for c, rows in results.items() for row, fields in rows.items() if "wrong" in fields]
    failed = [row for row, fields in results.get("raylet", {}).items() if "samples" not in fields]
    if wrong or failed:
        print(f"WRONG RESULTS: {wrong}; raylet failed at: {failed}")
    return 1 if wrong or failed else 0


if __name__ == "__main__":
    sys.exit(main())
