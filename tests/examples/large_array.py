"""x + x.T - x.mean(axis=0) of 10,000 by 10,000: 800 MB of input, of which no process holds more than a row."""

import dask.array as da
import ray
from ray.util.dask import enable_dask_on_ray, ray_dask_get

ray.init()

x = da.random.RandomState(0).random_sample((10_000, 10_000), chunks=(1000, 1000))
y = x + x.T - x.mean(axis=0)

print("mean:", repr(float(y.mean().compute(scheduler=ray_dask_get))))
with enable_dask_on_ray():
    row = y[1234].compute()
print("row:", row.shape[0], repr(float(row[17])), repr(float(row[9876])))
