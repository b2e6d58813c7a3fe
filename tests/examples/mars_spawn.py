"""Dask's collections as Mars objects: executed, fetched, and arguments of functions that are spawned."""

import dask
import dask.dataframe as dd
import mars
import mars.remote as mr
import numpy as np
import pandas as pd
from mars.contrib.dask import convert_dask_collection

mars.new_session()


def inc(x):
    return x + 1


converted = convert_dask_collection(dask.delayed(inc)(1))
print(converted)
print("converted:", converted.execute().fetch())

task = mr.spawn(inc, args=(converted,))
print("spawned:", task.execute().fetch())

table = pd.DataFrame({"v": np.arange(1000.0), "w": np.arange(1000) % 3})
frame = dd.from_pandas(table, npartitions=4)
large = convert_dask_collection(frame[frame.v > frame.v.mean()])
print("rows:", mr.spawn(len, args=(large,)).execute().fetch())


def extremes(numbers, scale=1):
    return min(numbers) * scale, max(numbers) * scale


low, high = mr.spawn(extremes, args=([inc(3), 9],), kwargs={"scale": 10}, n_output=2)
print("several:", mr.ExecutableTuple([low, high]).execute().fetch())
print("together:", mr.spawn(lambda objects: sum(objects), args=([task, low, high],)).execute().fetch())
mars.stop_server()
