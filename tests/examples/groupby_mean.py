"""Group and average a data frame, in one computation and with Raylet as the default scheduler."""

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import ray
from ray.util.dask import disable_dask_on_ray, enable_dask_on_ray, ray_dask_get

ray.init()

rng = np.random.RandomState(42)
table = pd.DataFrame(rng.randint(0, 100, size=(10_000, 2)), columns=["age", "grade"])
df = dd.from_pandas(table, npartitions=10)

means = df.groupby(["age"]).mean()
print("first:", means.compute(scheduler=ray_dask_get).sort_index()["grade"].iloc[0])

enable_dask_on_ray()
print("groups:", len(means.compute()))
print("highest:", means["grade"].max().compute())
disable_dask_on_ray()
print("scheduler:", dask.config.get("scheduler", None))
