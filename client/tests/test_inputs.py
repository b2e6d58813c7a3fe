"""Input where users keep it: files, globs, gzip, zarr and an S3 server, read by tasks of a node."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import uuid

import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from ray.util.dask import enable_dask_on_ray

CLIENT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KEY, SECRET, REGION = "raylet-tests", "not-so-secret", "us-east-1"


@pytest.fixture
def scheduler(cluster):
    """Raylet computes, over either carrier."""
    with enable_dask_on_ray():
        yield


def table(part: int) -> pd.DataFrame:
    rng = np.random.RandomState(part)
    return pd.DataFrame({"k": rng.randint(0, 5, 100), "v": rng.rand(100), "name": [f"n{part}"] * 100})


def whole(parts: int = 3) -> pd.DataFrame:
    return pd.concat([table(part) for part in range(parts)])


def assert_means(frame: dd.DataFrame) -> None:
    got = frame.groupby("k").v.mean().compute().sort_index()
    pd.testing.assert_series_equal(got, whole().groupby("k").v.mean(), check_dtype=False)
    assert len(frame) == 300 and sorted(frame.name.unique().compute()) == ["n0", "n1", "n2"]


# ------------------------------------------------------------ files


def test_a_glob_of_csv_files(scheduler, tmp_path):
    for part in range(3):
        table(part).to_csv(tmp_path / f"part-{part}.csv", index=False)
    assert_means(dd.read_csv(str(tmp_path / "part-*.csv")))


def test_a_csv_file_in_many_blocks(scheduler, tmp_path):
    whole().to_csv(tmp_path / "all.csv", index=False)
    frame = dd.read_csv(str(tmp_path / "all.csv"), blocksize=1200)
    assert frame.npartitions > 3
    assert_means(frame)


def test_a_list_of_gzipped_csv_files(scheduler, tmp_path):
    files = []
    for part in range(3):
        files.append(str(tmp_path / f"{part}.csv.gz"))
        table(part).to_csv(files[-1], index=False)
    assert_means(dd.read_csv(files, compression="gzip", blocksize=None))


def test_parquet_is_written_and_read_by_tasks(scheduler, tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is only in .venv")
    dd.from_pandas(whole().reset_index(drop=True), npartitions=3).to_parquet(str(tmp_path / "table"))
    assert len(list((tmp_path / "table").glob("*.parquet"))) == 3
    frame = dd.read_parquet(str(tmp_path / "table"))
    assert_means(frame)
    assert frame[frame.k == 2].v.sum().compute() == pytest.approx(whole().query("k == 2").v.sum())


def test_a_bag_of_gzipped_json_lines(scheduler, tmp_path):
    for part in range(3):
        with gzip.open(tmp_path / f"log-{part}.json.gz", "wt") as file:
            for i in range(50):
                file.write(json.dumps({"words": ["a"] * part + ["b"], "i": i}) + "\n")
    records = db.read_text(str(tmp_path / "log-*.json.gz")).map(json.loads)
    counts = dict(records.pluck("words").flatten().frequencies().compute())
    assert counts == {"a": 150, "b": 150}


def test_text_in_blocks_loses_no_line(scheduler, tmp_path):
    (tmp_path / "numbers.txt").write_text("".join(f"{i}\n" for i in range(5000)))
    numbers = db.read_text(str(tmp_path / "numbers.txt"), blocksize="4kiB").map(int)
    assert numbers.npartitions > 3 and numbers.sum().compute() == sum(range(5000))


def test_zarr_is_written_and_read_by_tasks(scheduler, tmp_path):
    pytest.importorskip("zarr", reason="zarr is only in .venv")
    values = np.random.RandomState(0).rand(100, 80)
    da.from_array(values, chunks=(30, 40)).to_zarr(str(tmp_path / "z"))
    read = da.from_zarr(str(tmp_path / "z"))
    assert read.chunks[0][0] == 30
    np.testing.assert_allclose((read + read.mean(axis=0)).compute(), values + values.mean(axis=0))


def test_relative_paths_are_those_of_the_script(tmp_path):
    table(0).to_csv(tmp_path / "here.csv", index=False)
    assert run_script(
        "import dask.dataframe as dd\n"
        "from ray.util.dask import ray_dask_get\n"
        "print(len(dd.read_csv('here.csv').compute(scheduler=ray_dask_get)))\n",
        tmp_path,
    ) == ["100"]


def test_a_file_that_is_not_there_is_named(scheduler, tmp_path):
    table(0).to_csv(tmp_path / "gone.csv", index=False)
    frame = dd.read_csv(str(tmp_path / "gone.csv"))
    (tmp_path / "gone.csv").unlink()
    with pytest.raises(FileNotFoundError, match="gone.csv"):
        frame.compute()


# ------------------------------------------------------------ S3


# A process of its own: moto puts credentials into the environment of the process that it runs in.
S3_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def s3():
    """The URL of an S3 server of this machine, with a bucket that has tables, plain and gzipped, in it."""
    boto3 = pytest.importorskip("boto3", reason="s3fs, moto and boto3 are only in .venv")
    server = subprocess.Popen(
        [sys.executable, "-c", S3_SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )
    try:
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        client = boto3.client(
            "s3", endpoint_url=url, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name=REGION
        )
        client.create_bucket(Bucket="raylet")
        for part in range(3):
            text = table(part).to_csv(index=False).encode()
            client.put_object(Bucket="raylet", Key=f"csv/part-{part}.csv", Body=text)
            client.put_object(Bucket="raylet", Key=f"gz/part-{part}.csv.gz", Body=gzip.compress(text))
        yield url
    finally:
        server.stdin.close()
        server.wait(30)


def options(url: str) -> dict:
    return {"key": KEY, "secret": SECRET, "client_kwargs": {"endpoint_url": url, "region_name": REGION}}


def test_csv_on_s3_with_credentials_in_the_call(scheduler, s3):
    assert_means(dd.read_csv("s3://raylet/csv/part-*.csv", storage_options=options(s3)))
    assert_means(
        dd.read_csv(
            "s3://raylet/gz/*.csv.gz", storage_options=options(s3), compression="gzip", blocksize=None
        )
    )


def test_parquet_on_s3(scheduler, s3):
    frame = dd.from_pandas(whole().reset_index(drop=True), npartitions=3)
    place = f"s3://raylet/table-{uuid.uuid4().hex}"
    frame.to_parquet(place, storage_options=options(s3))
    assert_means(dd.read_parquet(place, storage_options=options(s3)))


def test_text_on_s3(scheduler, s3):
    lines = db.read_text("s3://raylet/csv/part-0.csv", storage_options=options(s3))
    assert lines.count().compute() == 101


def test_zarr_on_s3(scheduler, s3):
    pytest.importorskip("zarr")
    values = np.arange(100.0).reshape(10, 10)
    place = f"s3://raylet/zarr-{uuid.uuid4().hex}"
    da.from_array(values, chunks=5).to_zarr(place, storage_options=options(s3))
    read = da.from_zarr(place, storage_options=options(s3))
    np.testing.assert_array_equal((read * 2).compute(), values * 2)


S3_SCRIPT = """
import dask.dataframe as dd
from ray.util.dask import ray_dask_get
frame = dd.read_csv("s3://raylet/csv/part-*.csv")
print(len(frame.compute(scheduler=ray_dask_get)))
"""


def test_credentials_of_the_environment_reach_workers_of_a_node_without_them(s3, shared_node, tmp_path):
    assert "AWS_ENDPOINT_URL" not in os.environ
    credentials = {
        "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": s3,
    }
    for address in (str(shared_node.directory), shared_node.description["raylet_address"]):
        assert run_script(S3_SCRIPT, tmp_path, {**credentials, "RAY_ADDRESS": address}) == ["300"]


def run_script(text: str, folder, environment: dict = {}) -> list:
    file = folder / "script.py"
    file.write_text(text)
    paths = [CLIENT, os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, timeout=100, cwd=folder,
        env={
            **os.environ, "RAY_ADDRESS": "local", "PYTHONPATH": os.pathsep.join(p for p in paths if p),
            **environment,
        },
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
