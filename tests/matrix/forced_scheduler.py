"""A pytest plug-in that has one scheduler run everything, and writes down what became of each test.

Replacing Dask's table of named schedulers is essential: the `assert_eq` helpers of Dask's own suite ask for
"sync" by name, so that DASK_SCHEDULER or the configuration alone reaches almost nothing.

    RAYLET_MATRIX_SCHEDULER   "sync" (Dask's own, which is the yardstick) or "raylet"
    RAYLET_MATRIX_OUTCOMES    the file that gets a line of JSON for each test: id, outcome, computes, why
    RAYLET_MATRIX_ONLY        a file of test ids, one a line; others are left out (optional)
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
from typing import Any, Dict, Iterator, List

import dask
import dask.base
import pytest

_SCHEDULER = os.environ["RAYLET_MATRIX_SCHEDULER"]
_outcomes = open(os.environ["RAYLET_MATRIX_OUTCOMES"], "a", buffering=1)
_computes = 0  # of the test that runs, by the forced scheduler


def _sync() -> Any:
    from dask.local import get_sync

    @functools.wraps(get_sync)
    def counted(*args: Any, **kwargs: Any) -> Any:
        global _computes
        _computes += 1
        return get_sync(*args, **kwargs)

    return counted


def _raylet() -> Any:
    import ray
    from ray.util.dask import ray_dask_get

    ray.init(num_cpus=2, log_to_driver=False)
    return ray_dask_get


def _force() -> None:
    get = _sync() if _SCHEDULER == "sync" else _raylet()
    for name in list(dask.base.named_schedulers):
        dask.base.named_schedulers[name] = get
    # As a name, since tests that store their configuration can't store a function.
    dask.config.set(scheduler="sync")


_force()


# ---------------------------------------------------- what Dask's own conftest.py outside of the package has

_BRINGS_CONFTEST = importlib.util.find_spec("dask.conftest") is not None


def pytest_addoption(parser: Any) -> None:
    for option in ("--runslow", "--runarrayexpr"):
        try:
            parser.addoption(option, action="store_true")
        except ValueError:  # Dask's own is there
            pass


if not _BRINGS_CONFTEST:

    @pytest.fixture(params=["disk", "tasks"])
    def shuffle_method(request: Any) -> Iterator[str]:
        with dask.config.set({"shuffle": request.param, "dataframe.shuffle.method": request.param}):
            yield request.param


# ------------------------------------------------------------ which tests, and what became of them


def pytest_collection_modifyitems(config: Any, items: List[Any]) -> None:
    path = os.environ.get("RAYLET_MATRIX_ONLY")
    if path:
        with open(path) as file:
            only = set(file.read().splitlines())
        dropped = [item for item in items if item.nodeid not in only]
        items[:] = [item for item in items if item.nodeid in only]
        config.hook.pytest_deselected(items=dropped)
    for item in items:
        if "slow" in item.keywords or "network" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow, or needs a network"))


def pytest_runtest_logstart(nodeid: str, location: Any) -> None:
    global _computes
    _computes = 0
    _outcomes.write(json.dumps({"id": nodeid, "outcome": "started"}) + "\n")


_reports: Dict[str, Any] = {}


def pytest_runtest_logreport(report: Any) -> None:
    worst = _reports.get(report.nodeid)
    if worst is None or report.failed or (report.skipped and not worst.failed):
        _reports[report.nodeid] = report
    if report.when != "teardown":
        return
    worst = _reports.pop(report.nodeid)
    outcome = "xfailed" if hasattr(worst, "wasxfail") else worst.outcome
    line: Dict[str, Any] = {"id": report.nodeid, "outcome": outcome, "computes": _computes}
    if outcome == "failed":
        crash = getattr(worst.longrepr, "reprcrash", None)
        line["why"] = str(crash.message if crash is not None else worst.longrepr)[:500]
    _outcomes.write(json.dumps(line) + "\n")
