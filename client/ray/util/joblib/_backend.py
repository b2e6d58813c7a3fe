"""RayBackend: joblib's batches of calls as tasks.

joblib gives batches and wants a callback for each; it grows batches until one takes long enough. A batch is one
task. Large arguments that many batches share, such as the X and y of a grid search, are put once for the
whole computation and mapped by the workers. joblib's callbacks submit more work, which may wait for the
node; so a thread of this backend calls them, never the one that reads the node's answers.
"""

from __future__ import annotations

import copy
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from joblib.parallel import (
    AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend,
)

import ray

# Arguments larger than this are put once rather than sent with every batch.
_SHARED_BYTES_MIN = 1 << 16


class _Shared:
    """Stands in a batch for an argument that was put."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> tuple:
        return _Shared, (self.index,)


def _run_batch(batch: Any, *shared: Any) -> Any:
    """On the worker: a joblib BatchedCalls, with what was put in its place."""
    if shared:
        batch.items = [
            (
                function,
                [shared[a.index] if type(a) is _Shared else a for a in args],
                {name: shared[a.index] if type(a) is _Shared else a for name, a in kwargs.items()},
            )
            for function, args, kwargs in batch.items
        ]
    return batch()


def _size_of(value: Any) -> int:
    """Bytes of an array, a sparse matrix, a data frame or series; 0 for anything else."""
    size = getattr(value, "nbytes", None)
    if isinstance(size, int):
        return size
    if type(value).__module__.partition(".")[0] == "pandas" and hasattr(value, "memory_usage"):
        usage = value.memory_usage(index=False)
        return int(usage if isinstance(usage, int) else usage.sum())
    return _size_of(value.data) if type(value).__module__.startswith("scipy.sparse") else 0


class RayBackend(AutoBatchingMixin, ParallelBackendBase):
    """joblib's backend "ray". `ray_remote_args`: options of every task, as for @ray.remote.

    n_jobs of -1, which joblib.parallel_backend("ray") means too, is all CPUs of the node; 1 runs in this process.
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self, nesting_level: Optional[int] = None, inner_max_num_threads: Optional[int] = None,
        ray_remote_args: Optional[Dict[str, Any]] = None, **kwargs: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads, **kwargs)
        self._options = dict(ray_remote_args or {})
        self._task = ray.remote(_run_batch).options(**self._options)
        self._lock = threading.Lock()
        self._running: Dict[Future, ray.ObjectRef] = {}
        self._shared: Dict[int, Tuple[Any, ray.ObjectRef]] = {}
        self._caller: Optional[ThreadPoolExecutor] = None

    def effective_n_jobs(self, n_jobs: Optional[int]) -> int:
        """How many batches run at the same time. Raises ValueError for 0."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs > 0:
            return n_jobs
        cpus = ray.cluster_resources().get("CPU", 1) / (self._options.get("num_cpus") or 1)
        return max(int(cpus) + 1 + n_jobs, 1)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **kwargs: Any) -> int:
        """joblib is about to begin."""
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        return self.effective_n_jobs(n_jobs)

    def submit(self, func: Any, callback: Optional[Callable] = None) -> Future:
        """Start a batch; `callback` gets the future of its list of results when it is done."""
        batch, shared = self._with_shared(func)
        ref = self._task.remote(batch, *shared)
        future = ref.future()
        with self._lock:
            if self._caller is None:
                self._caller = ThreadPoolExecutor(1, thread_name_prefix="ray-joblib")
            caller = self._caller
            self._running[future] = ref

        def done(future: Future) -> None:
            with self._lock:
                self._running.pop(future, None)
            if callback is not None:
                try:
                    caller.submit(callback, future)
                except RuntimeError:  # terminated: nobody waits for it
                    pass

        future.add_done_callback(done)
        return future

    apply_async = submit  # joblib before 1.5

    def _with_shared(self, batch: Any) -> Tuple[Any, Sequence[ray.ObjectRef]]:
        """The batch as it travels, and references to what was taken out of it."""
        used: Dict[int, _Shared] = {}
        refs = []

        def replace(value: Any) -> Any:
            if _size_of(value) < _SHARED_BYTES_MIN:
                return value
            stands = used.get(id(value))
            if stands is None:
                with self._lock:
                    found = self._shared.get(id(value))
                    if found is None:
                        # The value is kept beside its id, which is then nobody else's.
                        found = self._shared[id(value)] = (value, ray.put(value))
                stands = used[id(value)] = _Shared(len(refs))
                refs.append(found[1])
            return stands

        items = [
            (function, [replace(a) for a in args], {name: replace(a) for name, a in kwargs.items()})
            for function, args, kwargs in batch.items
        ]
        if not refs:
            return batch, refs
        batch = copy.copy(batch)
        batch.items = items
        return batch, refs

    def retrieve_result_callback(self, out: Future) -> Any:
        """The results of a batch, or the error that one of its calls raised."""
        return out.result()

    def retrieve_result(self, out: Future, timeout: Optional[float] = None) -> Any:
        """As retrieve_result_callback, in joblib before 1.3."""
        return out.result(timeout)

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what has not ended; joblib wants none of it any more."""
        with self._lock:
            refs = list(self._running.values())
        for ref in refs:
            ray.cancel(ref)
        if ensure_ready:
            self._forget()
        else:
            self.terminate()

    def stop_call(self) -> None:
        """One computation has ended; what was put for it is freed."""
        self._forget()

    def terminate(self) -> None:
        """joblib is done with this backend."""
        self._forget()
        with self._lock:
            caller, self._caller = self._caller, None
        if caller is not None:
            caller.shutdown(wait=False)
        self.reset_batch_stats()

    def _forget(self) -> None:
        with self._lock:
            self._shared.clear()
