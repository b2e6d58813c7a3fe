"""The scripts beside this file do what their readers expect: each runs as `python script.py`, starts its own
node, and prints what is computed here in another way.

They use the calls that the pages on Dask on Ray (2020, 2021, today) and on Dask on Mars show.
"""

from __future__ import annotations

import collections
import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

HERE = Path(__file__).resolve().parent
LIMIT_S = 100


def run(script: str, *arguments: object, limit_s: float = LIMIT_S) -> list[str]:
    """What the script prints. It has to end well and to say nothing on stderr."""
    client = str(HERE.parents[1] / "client")
    paths = [client, os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(HERE / script), *map(str, arguments)],
        capture_output=True, text=True, timeout=limit_s,
        env={**os.environ, "RAY_ADDRESS": "local", "PYTHONPATH": os.pathsep.join(p for p in paths if p)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_delayed_work_that_sleeps_runs_at_the_same_time(tmp_path):
    assert run("delayed_sum.py", tmp_path) == [
        "sum: 5", "in a list: ([1, 2, 3, 4],)", "workers at the same time: 2",
    ]


def test_groupby_and_mean():
    table = pd.DataFrame(
        np.random.RandomState(42).randint(0, 100, size=(10_000, 2)), columns=["age", "grade"]
    )
    means = table.groupby("age")["grade"].mean()
    got = dict(line.split(": ") for line in run("groupby_mean.py"))
    assert float(got["first"]) == pytest.approx(means.iloc[0])
    assert int(got["groups"]) == len(means) and float(got["highest"]) == pytest.approx(means.max())
    assert got["scheduler"] == "None"


def test_a_shuffle_with_and_without_what_was_configured_for_it():
    table = pd.DataFrame(np.random.RandomState(7).randint(0, 100, size=(20_000, 4)), columns=list("abcd"))
    spread = table.groupby("b").c.max() - table.groupby("b").c.min()
    assert run("shuffle_optimized.py") == [
        "rows: 20000 ordered: True",
        f"b by a: {(table.a * table.b).sum()}",
        f"groups: {len(spread)} spread: {spread.sum()}",
    ]


def test_a_persisted_collection_is_made_of_references():
    lines = run("persist_refs.py")
    assert lines[:2] == ["before: [False]", "after: 2 entries, 2 references"]
    assert lines[3:] == ["ready: 2 first piece: 50.0", "sum: 100.0 min: 1.0", "again: 200.0"]
    assert "Ref" in lines[2]


def test_callbacks_by_class_and_by_keyword():
    assert run("timer_callback.py") == [
        "result: 6",
        "timed: ['b', 'c', 'd'] True",
        "submitted: 3 3",
        "finished with: (2, 6)",
        "one call: (2, 6)",
        "delayed: 5",
        "submitted since: 3 timed since: 3",
        "replaced: (40, 43)",
        "as before: 6",
    ]


def test_an_actor_keeps_what_took_long(tmp_path):
    log = tmp_path / "ran"
    assert run("cache_actor.py", log) == ["first: 22", "second: 22"]
    assert collections.Counter(log.read_text().split()) == {"slow": 1, "quick": 2}


def test_annotations_reach_the_tasks(tmp_path):
    assert run("annotations.py", tmp_path) == [
        "built with: (1, 1, 1, 1)",
        "computed with: (1, 1, 1, 1)",
        "in the call: (1, 1, 1, 1)",
        "an array: 64.0",
        "refused: True",
    ]


def test_mars_scheduler():
    table = pd.DataFrame({"k": np.arange(100) % 7, "v": np.arange(100.0)})
    means = table.groupby("k").v.mean().round(6).tolist()
    assert run("mars_scheduler.py") == ["delayed: 2", "array: 2000000.0", f"frame: {means}"]


def test_mars_objects_and_spawn():
    lines = run("mars_spawn.py")
    assert re.fullmatch(r"Object <op=RemoteFunction, key=[0-9a-f]{32}>", lines[0])
    assert lines[1:] == ["converted: 2", "spawned: 3", "rows: 500", "several: [40, 90]", "together: 133"]


def test_a_plain_graph():
    one, two = range(len("some file")), range(len("another file"))
    total = sum(i for i in [*one, *two] if i % 2 == 0)
    assert run("plain_graph.py") == [
        f"without a node: {total} False", "one: 21", f"several: (21, ({total}, 21))", "no such key: 'nothing'",
    ]


def test_words_of_gzipped_json_lines(tmp_path):
    rng = np.random.RandomState(3)
    counted: collections.Counter = collections.Counter()
    for part in range(4):
        with gzip.open(tmp_path / f"part-{part}.json.gz", "wt") as file:
            for _ in range(250):
                words = [f"word{n}" for n in rng.geometric(0.2, size=12)]
                counted.update(words)
                file.write(json.dumps({"text": " ".join(words).title()}) + "\n")
    top = sorted(counted.items(), key=lambda pair: (pair[1], pair[0]), reverse=True)[:5]
    assert run("word_count.py", tmp_path / "*.json.gz") == [
        "lines: 1000", *[f"{word} {count}" for word, count in top],
    ]


def test_a_logistic_regression_of_dask_ml():
    pytest.importorskip("dask_ml", reason="dask-ml is only in .venv")
    got = dict(line.split(": ") for line in run("logistic_regression.py", limit_s=240))
    weights = np.array([float(number) for number in got["coefficients"].split()])
    # The direction of the plane that divides the points, and its distance.
    assert np.corrcoef(weights, [2.0, -1.0, 0.5])[0, 1] > 0.999
    assert float(got["intercept"]) / weights[0] == pytest.approx(-0.3 / 2.0, abs=0.03)
    assert float(got["right"]) > 0.98


def test_ten_thousand_squared():
    import dask.array as da

    lines = run("large_array.py", limit_s=300)
    x = da.random.RandomState(0).random_sample((10_000, 10_000), chunks=(1000, 1000))
    mean = float(lines[0].split(": ")[1])
    row = lines[1].split()
    # The mean of x + x.T - x.mean(axis=0) is that of x.
    expected = x.mean().compute(scheduler="threads")
    assert mean == pytest.approx(expected, rel=1e-9)
    assert row[1] == "10000"
    for column, value in ((17, row[2]), (9876, row[3])):
        entry = x[1234, column] + x[column, 1234] - x[:, column].mean()
        assert float(value) == pytest.approx(float(entry.compute(scheduler="threads")), rel=1e-9)
