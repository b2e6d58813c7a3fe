"""Runs Dask's own test suite with our scheduler forced everywhere, and counts the tests that we lose.

A test counts if Dask's synchronous scheduler, forced in the same way on the same version, passes it and it
computes something. It is lost if it does not pass on Raylet. expected_losses.txt names those that are known,
each with its reason; any other loss makes the exit code 1. See forced_scheduler.py for how it is done.

    run.py                                every version on every Python (make test-matrix)
    run.py --dask 2026.8.0 --python 3.11  one of them
    run.py --here array/tests/test_fft    these modules, with the Python that runs this
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import versions

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT = Path(os.environ.get("RAYLET_MATRIX_OUT") or ROOT / "build" / "matrix")

TEST_LIMIT_S = 60
MODULE_LIMIT_S = 1800
CRASHES_MAX = 5  # of one module, before it is given up
CLIENT_TESTS_LIMIT_S = 1200

# GPUs, and tests that bring a scheduler of their own as an object, which nothing can take the place of.
NOT_OURS = ("test_cupy", "test_distributed")


class Lost(NamedTuple):
    id: str
    why: str
    reason: Optional[str]  # if it was expected


class Count(NamedTuple):
    computing: int  # tests that compute something and that the synchronous scheduler passes
    lost: List[Lost]


def python_of_here() -> Path:
    return Path(sys.executable)


def package_of(python: Path, package: str) -> Tuple[Path, str]:
    """Where a package is installed for this Python, and its version."""
    script = f"import {package} as p, os; print(os.path.dirname(p.__file__)); print(p.__version__)"
    lines = subprocess.run(
        [str(python), "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return Path(lines[-2]), lines[-1]


def modules_of(package: Path, chosen: List[str]) -> List[Path]:
    """Test modules, largest concept first as the file system has them; `chosen` are parts of their paths."""
    found = sorted(package.glob("**/tests/test_*.py"))
    found = [path for path in found if not path.name.startswith(NOT_OURS)]
    if chosen:
        found = [path for path in found if any(part in str(path) for part in chosen)]
    return found


def read_outcomes(path: Path) -> Dict[str, Dict]:
    outcomes: Dict[str, Dict] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            one = json.loads(line)
            outcomes[one["id"]] = one
    return outcomes


def run_module(
    python: Path, site: Path, module: Path, scheduler: str, outcomes: Path, only: Optional[List[str]]
) -> None:
    """Have pytest write the outcomes of a module; goes on behind a test that kills the interpreter."""
    outcomes.parent.mkdir(parents=True, exist_ok=True)
    outcomes.unlink(missing_ok=True)
    command = [
        str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "forced_scheduler",
        "-c", str(HERE / "pytest.ini"), "--rootdir", str(site), "--import-mode=importlib",
        f"--timeout={TEST_LIMIT_S}", "--no-header", "--tb=short", str(module),
    ]
    only_file = outcomes.with_suffix(".only")
    for _ in range(CRASHES_MAX):
        environment = {
            **os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{ROOT / 'client'}",
            "RAYLET_MATRIX_SCHEDULER": scheduler,
            "RAYLET_MATRIX_OUTCOMES": str(outcomes), "MPLBACKEND": "Agg",
        }
        if only is not None:
            done = read_outcomes(outcomes)
            only_file.write_text("\n".join(id for id in only if id not in done))
            environment["RAYLET_MATRIX_ONLY"] = str(only_file)
        with open(outcomes.with_suffix(".log"), "w") as log:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=outcomes.parent,
                start_new_session=True,
            )
            try:
                code = process.wait(MODULE_LIMIT_S)
            except subprocess.TimeoutExpired:
                code = -signal.SIGKILL
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.wait()
        unfinished = [one for one in read_outcomes(outcomes).values() if one["outcome"] == "started"]
        if not unfinished or only is None:
            return
        with open(outcomes, "a") as file:
            for one in unfinished:
                line = {"id": one["id"], "outcome": "failed", "why": f"pytest ended with {code}"}
                file.write(json.dumps(line) + "\n")


def expected_losses(dask: str) -> List[Tuple[str, str]]:
    """(pattern, reason) of what is known to be lost with this Dask."""
    found = []
    for line in (HERE / "expected_losses.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            pattern, where, reason = (part.strip() for part in line.split("|", 2))
            if _holds_for(where, dask):
                found.append((pattern, reason))
    return found


def _holds_for(where: str, dask: str) -> bool:
    """Whether the second column of a line means this Dask (or this package, which is what `dask` is then)."""
    if where.endswith("+"):
        return _key(dask) >= _key(where[:-1])
    if where.endswith("-"):
        return [] < _key(dask) <= _key(where[:-1])
    return where in ("*", dask)


def _key(version: str) -> List[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def compare(python: Path, package: str, chosen: List[str], again: bool, label: str) -> Count:
    """Run the package's tests twice and print, module by module, what we lose."""
    directory, version = package_of(python, package)
    modules = modules_of(directory, chosen)
    if not modules:
        print(f"{label}: {package} {version} brings no tests (or none of these)", flush=True)
    expected = expected_losses(version if package == "dask" else package)
    out = OUT / label / package
    count = Count(0, [])
    for module in modules:
        name = str(module.relative_to(directory).with_suffix("")).replace(os.sep, ".")
        yardstick = out / f"{name}.sync.jsonl"
        if again or not yardstick.exists():
            run_module(python, directory.parent, module, "sync", yardstick, None)
        only = [
            id for id, one in read_outcomes(yardstick).items()
            if one["outcome"] == "passed" and one["computes"]
        ]
        if not only:
            continue
        ours = out / f"{name}.raylet.jsonl"
        started = time.monotonic()
        run_module(python, directory.parent, module, "raylet", ours, only)
        outcomes = read_outcomes(ours)
        lost = []
        for id in only:
            one = outcomes.get(id, {"outcome": "failed", "why": f"not run, see {ours.with_suffix('.log')}"})
            if one["outcome"] != "passed":
                reason = next((r for pattern, r in expected if fnmatch.fnmatch(id, pattern)), None)
                lost.append(Lost(id, one.get("why", one["outcome"]), reason))
        seconds = time.monotonic() - started
        print(f"{label}: {package}.{name}: {len(only)} compute, {len(lost)} lost, {seconds:.0f} s", flush=True)
        for one_lost in lost:
            what = f"expected: {one_lost.reason}" if one_lost.reason else one_lost.why.replace("\n", " ")[:160]
            print(f"    {one_lost.id.split('/')[-1]}: {what}", flush=True)
        count = Count(count.computing + len(only), count.lost + lost)
    return count


def combinations(arguments: argparse.Namespace) -> Iterator[Tuple[str, Path]]:
    """(label, Python) of each environment there is; says loudly which there is not."""
    if arguments.here:
        yield "here", python_of_here()
        return
    for version in versions.VERSIONS:
        for python in versions.PYTHONS:
            if arguments.dask not in (None, version.dask) or arguments.python not in (None, python):
                continue
            program, reason = versions.environment(version, python)
            if program is None:
                print(f"LEFT OUT: Dask {version.dask} on Python {python}: {reason}", flush=True)
            else:
                yield f"{version.dask}-py{python}", program


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="parts of the paths of the test modules; all without")
    parser.add_argument("--here", action="store_true", help="only the Python that runs this")
    parser.add_argument("--dask", help="only this version")
    parser.add_argument("--python", help="only this one, as 3.11")
    parser.add_argument("--package", default="dask", help="whose tests: dask, xarray, dask_ml (dask)")
    parser.add_argument("--again", action="store_true", help="run the synchronous scheduler again, too")
    parser.add_argument("--client", action="store_true", help="also the client's own tests")
    arguments = parser.parse_args()
    rows: List[Tuple[str, Count]] = []
    failed = False
    for label, python in combinations(arguments):
        if arguments.client:
            done = subprocess.run(
                [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=120", "client/tests"],
                cwd=ROOT, stdin=subprocess.DEVNULL, timeout=CLIENT_TESTS_LIMIT_S,
            )
            failed = failed or done.returncode != 0
        rows.append((label, compare(python, arguments.package, arguments.modules, arguments.again, label)))
    print()
    for label, count in rows:
        unexpected = [one for one in count.lost if one.reason is None]
        failed = failed or bool(unexpected)
        print(
            f"{label:22} {count.computing:6} tests compute, {len(count.lost):4} lost, "
            f"{len(unexpected):4} of them unexpected"
        )
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
