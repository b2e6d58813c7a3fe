"""What `import ray` costs: who wants little does not wait for NumPy and pandas."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_HEAVY = ["numpy", "pandas", "pyarrow", "dask.array", "dask.dataframe", "distributed", "grpc", "tqdm"]
_CODE = "import json, sys; import {}; print(json.dumps([m for m in {} if m in sys.modules]))"


@pytest.mark.parametrize("module", ["ray", "ray.util.dask"])
def test_importing_the_client_imports_nothing_heavy(module):
    ran = subprocess.run(
        [sys.executable, "-c", _CODE.format(module, _HEAVY)],
        capture_output=True, text=True, timeout=60, check=True,
    )
    found = set(json.loads(ran.stdout))
    # Old Dasks import NumPy and pandas themselves, where there are any.
    by_dask = subprocess.run(
        [sys.executable, "-c", _CODE.format("dask.delayed", _HEAVY)],
        capture_output=True, text=True, timeout=60, check=True,
    )
    assert found - set(json.loads(by_dask.stdout)) == set()


@pytest.mark.parametrize("modules", ["ray.util.dask, dask.bag", "dask.bag, ray.util.dask"])
def test_bags_are_ours_to_group_whichever_is_imported_first(modules):
    code = f"import {modules}; print(dask.bag.from_sequence([[1]]).groupby(0, npartitions=3).npartitions)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "3"
