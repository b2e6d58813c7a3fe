"""joblib's backend "ray": scikit-learn and plain Parallel on a real node, over both carriers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import ray

joblib = pytest.importorskip("joblib", reason="joblib is only in the newest environment (.venv)")
from ray.util.joblib import register_ray  # noqa: E402

CLIENT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture
def backend(cluster):
    """Everything in the test runs through joblib's backend "ray"."""
    register_ray()
    with joblib.parallel_backend("ray"):
        yield


def square(x):
    return x * x


def where(_):
    return os.getpid()


def test_calls_run_on_workers_and_results_come_in_order(backend):
    assert joblib.Parallel()(joblib.delayed(square)(i) for i in range(200)) == [i * i for i in range(200)]
    pids = set(joblib.Parallel()(joblib.delayed(where)(i) for i in range(50)))
    assert pids and os.getpid() not in pids


def test_lambdas_closures_and_keywords_travel(backend):
    offset = 5
    assert joblib.Parallel()(joblib.delayed(lambda x, by: x + by + offset)(i, by=1) for i in range(5)) == [
        6, 7, 8, 9, 10,
    ]


def test_an_error_arrives_as_itself_and_the_next_call_works(backend):
    def fail(i):
        if i == 7:
            raise LookupError("seven")
        return i

    with pytest.raises(LookupError, match="seven"):
        joblib.Parallel()(joblib.delayed(fail)(i) for i in range(20))
    assert joblib.Parallel()(joblib.delayed(square)(i) for i in range(3)) == [0, 1, 4]


def test_generators_give_results_as_they_come(backend):
    given = joblib.Parallel(return_as="generator")(joblib.delayed(square)(i) for i in range(30))
    assert list(given) == [i * i for i in range(30)]


def test_one_job_runs_here(backend):
    assert set(joblib.Parallel(n_jobs=1)(joblib.delayed(where)(i) for i in range(3))) == {os.getpid()}


def test_the_number_of_jobs_is_that_of_the_node(cluster):
    register_ray()
    with joblib.parallel_backend("ray"):
        assert joblib.effective_n_jobs(-1) == 2 and joblib.effective_n_jobs(7) == 7
    with joblib.parallel_backend("ray", ray_remote_args={"num_cpus": 2}):
        assert joblib.effective_n_jobs(-1) == 1


def test_task_options_reach_the_tasks(cluster):
    register_ray()
    with joblib.parallel_backend("ray", ray_remote_args={"resources": {"thing": 1}}):
        assert joblib.Parallel()(joblib.delayed(square)(i) for i in range(4)) == [0, 1, 4, 9]
    with pytest.raises(ValueError, match="Invalid option keyword colour"):
        with joblib.parallel_backend("ray", ray_remote_args={"colour": 1}):
            pass


def test_large_arguments_are_put_once(backend, monkeypatch):
    put, sizes = ray.put, []
    monkeypatch.setattr(ray, "put", lambda value: (sizes.append(value.nbytes), put(value))[1])
    table = np.arange(100_000.0)
    sums = joblib.Parallel(batch_size=1)(
        joblib.delayed(lambda t, i, more: float(t[i] + more[i]))(table, i, more=table) for i in range(12)
    )
    assert sums == [2.0 * i for i in range(12)] and sizes == [table.nbytes]


def test_parallel_within_parallel(backend):
    def inner(n):
        return sum(joblib.Parallel(n_jobs=2)(joblib.delayed(square)(i) for i in range(n)))

    assert joblib.Parallel()(joblib.delayed(inner)(n) for n in range(5)) == [0, 0, 1, 5, 14]


def test_two_threads_compute_at_once(cluster):
    register_ray()
    results = {}

    def compute(number):
        with joblib.parallel_backend("ray"):
            results[number] = sum(joblib.Parallel()(joblib.delayed(square)(i) for i in range(number)))

    threads = [threading.Thread(target=compute, args=(number,)) for number in (10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {10: 285, 20: 2470}


# ------------------------------------------------------------ scikit-learn


@pytest.fixture(scope="module")
def digits():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is only in .venv")
    X, y = datasets.load_digits(return_X_y=True)
    return X[:600], y[:600]


def test_cross_validation_gives_the_scores_of_one_process(backend, digits):
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import cross_val_score

    got = cross_val_score(RidgeClassifier(), *digits, cv=4, n_jobs=-1)
    with joblib.parallel_backend("sequential"):
        expected = cross_val_score(RidgeClassifier(), *digits, cv=4)
    np.testing.assert_allclose(got, expected)


def test_a_grid_search_finds_what_one_process_finds(backend, digits):
    from sklearn.model_selection import GridSearchCV
    from sklearn.tree import DecisionTreeClassifier

    grid = {"max_depth": [2, 6, 10], "min_samples_leaf": [1, 5]}
    search = GridSearchCV(DecisionTreeClassifier(random_state=0), grid, cv=3).fit(*digits)
    with joblib.parallel_backend("sequential"):
        expected = GridSearchCV(DecisionTreeClassifier(random_state=0), grid, cv=3).fit(*digits)
    assert search.best_params_ == expected.best_params_
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])


def test_a_forest_that_asks_for_threads_gets_them(backend, digits):
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(n_estimators=10, random_state=0, n_jobs=2).fit(*digits)
    assert model.score(*digits) > 0.95


def test_a_script_needs_no_init(tmp_path):
    file = tmp_path / "script.py"
    file.write_text(
        "import joblib\n"
        "from ray.util.joblib import register_ray\n"
        "register_ray()\n"
        "with joblib.parallel_backend('ray', n_jobs=2):\n"
        "    print(joblib.Parallel()(joblib.delayed(lambda i: i + 1)(i) for i in range(3)))\n"
    )
    paths = [CLIENT, os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, timeout=100,
        env={**os.environ, "RAY_ADDRESS": "local", "PYTHONPATH": os.pathsep.join(p for p in paths if p)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[1, 2, 3]\n" and not done.stderr
