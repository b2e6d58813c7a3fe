"""dask-ml fits a logistic regression on Dask arrays."""

import dask.array as da
import numpy as np
import ray
from dask_ml.linear_model import LogisticRegression
from dask_ml.model_selection import train_test_split
from ray.util.dask import enable_dask_on_ray

ray.init()
enable_dask_on_ray()

rng = np.random.RandomState(0)
points = rng.normal(size=(2000, 3))
truth = points @ np.array([2.0, -1.0, 0.5]) > 0.3
X, y = da.from_array(points, chunks=(500, 3)), da.from_array(truth.astype(int), chunks=500)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, shuffle=True)

model = LogisticRegression(C=100.0).fit(X_train, y_train)
print("coefficients:", *np.round(np.ravel(model.coef_), 6))
print("intercept:", float(np.round(np.ravel(model.intercept_)[0], 6)))
print("right:", float((model.predict(X_test) == y_test).mean().compute()))
