"""A shuffle, with what older pages tell to configure for it: accepted, correct and no longer needed.

Dask 2025.1 removed the legacy data frames whose optimization this setting was; there it changes nothing.
"""

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import ray
from ray.util.dask import dataframe_optimize, enable_dask_on_ray, ray_dask_get

ray.init()

rng = np.random.RandomState(7)
table = pd.DataFrame(rng.randint(0, 100, size=(20_000, 4)), columns=list("abcd"))

with dask.config.set(scheduler=ray_dask_get, dataframe_optimize=dataframe_optimize):
    df = dd.from_pandas(table, npartitions=25)
    ordered = df.set_index("a", max_branch=float("inf")).compute()
print("rows:", len(ordered), "ordered:", ordered.index.is_monotonic_increasing)
print("b by a:", int((ordered.index.to_numpy() * ordered["b"].to_numpy()).sum()))

with enable_dask_on_ray(shuffle="tasks", use_shuffle_optimization=True):
    df = dd.from_pandas(table, npartitions=12)
    spread = df.groupby("b").c.apply(lambda group: group.max() - group.min(), meta=("c", "i8")).compute()
print("groups:", len(spread), "spread:", int(spread.sum()))
