"""Dask's collections by Mars' scheduler; nobody starts anything."""

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from mars.contrib.dask import mars_scheduler


def inc(x):
    return x + 1


print("delayed:", dask.delayed(inc)(1).compute(scheduler=mars_scheduler))

with dask.config.set(scheduler=mars_scheduler):
    x = da.ones((1000, 1000), chunks=250)
    print("array:", float((x + x.T).sum().compute()))
    table = pd.DataFrame({"k": np.arange(100) % 7, "v": np.arange(100.0)})
    means = dd.from_pandas(table, npartitions=4).groupby("k").v.mean().compute().sort_index()
    print("frame:", means.round(6).tolist())
