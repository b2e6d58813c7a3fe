"""scikit-learn, and whatever else runs through joblib, on Raylet's workers.

    import joblib
    from ray.util.joblib import register_ray

    register_ray()
    with joblib.parallel_backend("ray"):
        search.fit(X, y)
"""

from __future__ import annotations

__all__ = ["register_ray"]


def register_ray() -> None:
    """Make the name "ray" known to joblib. Connects to nothing: the first computation does, as any use of ray.

    Raises ImportError if joblib is not installed.
    """
    try:
        from joblib.parallel import register_parallel_backend
    except ImportError as error:
        raise ImportError(
            "register_ray() needs joblib, which is not installed here: pip install joblib (scikit-learn brings it)"
        ) from error
    from ray.util.joblib._backend import RayBackend

    register_parallel_backend("ray", RayBackend)
