"""Runs every test of every layer and says how many there were (`make test`).

The last line is the one that CI reads: "N passed, M failed, K skipped", where a C++ test case and a Python
test count alike. The exit code is 0 only when nothing failed and every layer ran.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.parse
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple, Optional

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "tests"

# The part that is run again under AddressSanitizer and UBSan: whatever decodes outside bytes, and the cores.
SANITIZED = [
    "//protocol/...",
    "//gcs/...",
    "//plasma/...",
    "//daemons/raylet/core/...",
    "//daemons/raylet:frame_codec_test",
    "//daemons/store:store_codec_test",
]

# Each Python test's own limit in seconds, unless it sets another.
TEST_LIMIT_S = 120


class Count(NamedTuple):
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def plus(self, other: "Count") -> "Count":
        return Count(*(a + b for a, b in zip(self, other)))


def run(command: list[str], limit_s: float, env: Optional[dict[str, str]] = None) -> int:
    """The command's exit code; 124 when it ran into its limit, and then all of it is gone."""
    print("+", shlex.join(command), flush=True)
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True, env={**os.environ, **(env or {})}
    )
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        print(f"run_tests: this took longer than {limit_s:.0f} s and is stopped", flush=True)
        return 124
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def count_catch(log: str, passed: bool) -> Count:
    """The test cases of one Catch2 program; a program that is no Catch2 test counts as one."""
    if match := re.search(r"^All tests passed \(.* in (\d+) test cases?\)", log, re.M):
        return Count(passed=int(match[1]))
    if match := re.search(r"^test cases: *(\d+)(?: \| *(\d+) passed)?(?: \| *(\d+) failed)?", log, re.M):
        failed = int(match[3] or 0)
        # A program that died on the way has failed, whatever it counted.
        return Count(passed=int(match[2] or 0), failed=max(failed, 0 if passed else 1))
    return Count(passed=1) if passed else Count(failed=1)


def bazel(name: str, targets: list[str], flags: list[str], limit_s: float) -> Count:
    events = OUT / f"{name}.events.json"
    events.unlink(missing_ok=True)
    code = run(
        [os.environ.get("BAZEL") or "bazel", *shlex.split(os.environ.get("BAZEL_STARTUP", "")), "test"]
        + shlex.split(os.environ.get("BAZEL_FLAGS", ""))
        + ["--keep_going", "--noshow_progress", "--color=no", f"--build_event_json_file={events}"]
        + flags
        + targets,
        limit_s,
    )
    count = Count()
    lines = events.read_text().splitlines() if events.exists() else []
    for line in lines:
        event = json.loads(line)
        if "testResult" not in event.get("id", {}) or "testResult" not in event:
            continue
        result = event["testResult"]
        log = ""
        for output in result.get("testActionOutput", []):
            if output.get("name") == "test.log":
                path = Path(urllib.parse.unquote(urllib.parse.urlparse(output["uri"]).path))
                log = path.read_text(errors="replace") if path.exists() else ""
        one = count_catch(log, result["status"] in ("PASSED", "FLAKY"))
        if one.failed:
            print(f"run_tests: {event['id']['testResult']['label']}: {result['status']}", flush=True)
        count = count.plus(one)
    # 0: all passed; 3: built, and tests failed. Anything else means that some tests never ran.
    if code not in (0, 3) or (code == 3 and count.failed == 0) or (code == 0 and count.passed == 0):
        print(f"run_tests: bazel ended with {code}", flush=True)
        count = count.plus(Count(failed=1))
    return count


def pytest(name: str, python: str, paths: list[str], flags: list[str], limit_s: float) -> Count:
    report = OUT / f"{name}.xml"
    report.unlink(missing_ok=True)
    code = run(
        [str(ROOT / python), "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider"]
        + [f"--timeout={TEST_LIMIT_S}", f"--junitxml={report}"]
        + flags
        + paths,
        limit_s,
    )
    count = Count()
    if report.exists():
        suites = ElementTree.parse(report).getroot().iter("testsuite")
        for suite in suites:
            number = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
            failed = number["failures"] + number["errors"]
            count = count.plus(
                Count(max(0, number["tests"] - failed - number["skipped"]), failed, number["skipped"])
            )
    if code not in (0, 1) or (code == 1 and count.failed == 0):
        print(f"run_tests: pytest ended with {code}", flush=True)
        count = count.plus(Count(failed=1))
    return count


def layers(quick: bool) -> dict[str, object]:
    """Every layer by name, in the order in which they run: what breaks most cheaply first."""
    newest, oldest = ".venv/bin/python", ".venv-oldest/bin/python"
    result = {
        "tidy": lambda: pytest("tidy", newest, ["tests/tidy"], [], 300),
        "c++": lambda: bazel("cpp", ["//..."], ["--build_tests_only"], 1800),
        "client": lambda: pytest("client", newest, ["client/tests"], [], 900),
        "client, oldest dask": lambda: pytest("client-oldest", oldest, ["client/tests"], [], 900),
        "examples": lambda: pytest("examples", newest, ["tests/examples"], ["--timeout=350"], 1200),
        "e2e": lambda: pytest("e2e", newest, ["tests/e2e"], [], 900),
        "c++ under asan and ubsan":
            lambda: bazel("asan", SANITIZED, ["--config=asan", "--build_tests_only"], 1500),
    }
    if quick:
        for slow in ("client, oldest dask", "c++ under asan and ubsan"):
            del result[slow]
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="LAYER", action="append", help="one layer; may be given again")
    parser.add_argument("--quick", action="store_true", help="without the oldest Dask and the sanitizers")
    arguments = parser.parse_args()
    chosen = layers(arguments.quick)
    for name in arguments.only or []:
        if name not in chosen:
            parser.error(f"no layer {name!r}; there are: {', '.join(chosen)}")
    OUT.mkdir(parents=True, exist_ok=True)
    # A shell that puts this in the background has SIGINT ignored, and every test of Ctrl-C would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    total, rows = Count(), []
    for name, layer in chosen.items():
        if arguments.only and name not in arguments.only:
            continue
        print(f"\n=== {name}", flush=True)
        start = time.monotonic()
        count = layer()
        rows.append((name, count, time.monotonic() - start))
        total = total.plus(count)

    print("\n=== in all")
    for name, count, seconds in rows:
        print(f"{name:26} {count.passed:5} ok {count.failed:3} bad {count.skipped:3} left out {seconds:7.0f} s")
    print(f"\n{total.passed} passed, {total.failed} failed, {total.skipped} skipped", flush=True)
    return 0 if total.failed == 0 and total.passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
