"""Resources of tasks: around the building of a graph, around compute, and in the call.

    python annotations.py FOLDER      FOLDER is where tasks that use the one instrument leave a sign
"""

import os
import sys
import time

import dask
import dask.array as da
import ray
from ray.util.dask import enable_dask_on_ray

folder = sys.argv[1]
ray.init(num_cpus=4, resources={"instrument": 1})
enable_dask_on_ray()


@dask.delayed
def users_of_the_instrument(number):
    """How many use it at the same time as this one."""
    sign = os.path.join(folder, str(number))
    open(sign, "w").close()
    time.sleep(0.3)
    count = len(os.listdir(folder))
    os.remove(sign)
    return count


with dask.annotate(ray_remote_args=dict(resources={"instrument": 1})):
    measured = [users_of_the_instrument(number) for number in range(4)]
print("built with:", dask.compute(*measured))

with dask.annotate(ray_remote_args=dict(resources={"instrument": 1})):
    print("computed with:", dask.compute(*[users_of_the_instrument(number) for number in range(4, 8)]))

more = [users_of_the_instrument(number) for number in range(8, 12)]
print("in the call:", dask.compute(*more, ray_remote_args=dict(resources={"instrument": 1})))

with dask.annotate(ray_remote_args=dict(num_cpus=2)):
    print("an array:", da.ones((8, 8), chunks=4).sum().compute())

try:
    measured[0].compute(resources={"instrument": 1})
except ValueError as error:
    print("refused:", "ray_remote_args" in str(error))
