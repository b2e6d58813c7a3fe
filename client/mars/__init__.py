"""Mars' door: what scripts written after Mars' page "Dask on Mars" call, run by Raylet.

    import mars
    import mars.remote as mr
    from mars.contrib.dask import convert_dask_collection, mars_scheduler

    mars.new_session()                                  # or the first use starts a node
    collection.compute(scheduler=mars_scheduler)
    converted = convert_dask_collection(collection)
    mr.spawn(f, args=(converted,)).execute().fetch()

Everything here is thin over `ray`: a session is ray's connection, an executed object holds an ObjectRef.
Of Mars' own tensors and data frames there is nothing; asking for them says so. See docs/migrating.md.
"""

from __future__ import annotations

from mars import _absent, remote
from mars._object import ExecutableTuple, execute, fetch
from mars._session import Session, new_session, stop_server
from ray._version import __version__

__all__ = [
    "ExecutableTuple", "Session", "__version__", "execute", "fetch", "new_session", "remote", "stop_server",
]

_absent.install()


def __getattr__(name: str) -> object:
    if name == "contrib":
        # Not imported at once: it needs Dask, which `spawn` does not.
        import importlib

        return importlib.import_module("mars.contrib")
    raise AttributeError(_absent.explain(f"mars.{name}"))
