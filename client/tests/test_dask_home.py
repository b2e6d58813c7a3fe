"""Tasks on the caller's own memory and open files, which run in its process."""

import operator
import os

import dask.array as da
import dask.bag as db
import numpy as np
import pytest
from dask.array.core import getter
from dask.diagnostics import ProgressBar
from dask.utils import SerializableLock

import ray
from ray.util.dask import ray_dask_get
from ray.util.dask._nodes import HAS_NODES

pytestmark = pytest.mark.usefixtures("local_cluster")

REAL = np.arange(400.0).reshape(20, 20)


def array(chunks=5):
    return da.from_array(REAL, chunks=chunks) + 1


@pytest.mark.parametrize("lock", [True, False])
def test_a_numpy_array_can_be_stored_into(lock):
    target = np.zeros((20, 20))
    da.store(array(), target, lock=lock, scheduler=ray_dask_get)
    np.testing.assert_array_equal(target, REAL + 1)


def test_several_targets_and_regions_can_be_stored_into():
    one, two = np.zeros((20, 20)), np.zeros((40, 20))
    da.store(
        [array(), array(7) * 2], [one, two], regions=[None, (slice(10, 30), slice(None))],
        scheduler=ray_dask_get,
    )
    np.testing.assert_array_equal(one, REAL + 1)
    np.testing.assert_array_equal(two[10:30], 2 * (REAL + 1))
    assert not two[:10].any() and not two[30:].any()


def test_what_was_stored_can_be_computed_on():
    target = np.zeros((20, 20))
    stored = da.store(array(), target, return_stored=True, compute=False)
    stored = stored[0] if isinstance(stored, (list, tuple)) else stored
    total = stored.sum().compute(scheduler=ray_dask_get)
    assert total == (REAL + 1).sum() == target.sum()


def test_a_target_of_any_class_is_the_callers_own():
    class Target:
        def __init__(self):
            self.pids = set()
            self.array = np.zeros((20, 20))

        def __setitem__(self, index, value):
            self.pids.add(os.getpid())
            self.array[index] = value

    target = Target()
    with ProgressBar(out=open(os.devnull, "w")):
        da.store(array(), target, scheduler=ray_dask_get)
    np.testing.assert_array_equal(target.array, REAL + 1)
    assert target.pids == {os.getpid()}


def test_the_work_before_a_store_is_done_by_workers():
    def pids(block):
        return np.full(block.shape, os.getpid())

    target = np.zeros((20, 20), dtype=np.int64)
    da.store(array().map_blocks(pids, dtype=np.int64), target, scheduler=ray_dask_get)
    assert os.getpid() not in set(target.ravel()) and target.all()


def test_an_error_in_a_target_is_raised_and_the_next_computation_works():
    class Target:
        def __setitem__(self, index, value):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        da.store(array(), Target(), scheduler=ray_dask_get)
    assert array().sum().compute(scheduler=ray_dask_get) == (REAL + 1).sum()


def test_a_failing_task_before_a_store_is_raised():
    def broken(block):
        raise ValueError("broken block")

    with pytest.raises(ValueError, match="broken block"):
        da.store(
            array().map_blocks(broken, dtype=float), np.zeros((20, 20)), scheduler=ray_dask_get
        )


@pytest.mark.parametrize("inline", [False, True])
def test_an_open_hdf5_file_can_be_read_and_written(tmp_path, inline):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        source = file.create_dataset("source", data=REAL)
        target = file.create_dataset("target", shape=REAL.shape, dtype=float)
        x = da.from_array(source, chunks=5, inline_array=inline)
        assert x.sum().compute(scheduler=ray_dask_get) == REAL.sum()
        da.store(x * 2, target, scheduler=ray_dask_get)
        np.testing.assert_array_equal(target[:], 2 * REAL)


def test_a_plain_graph_reads_from_an_open_hdf5_file(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        source = file.create_dataset("source", data=REAL)
        graph = {
            "source": source,
            "a": (getter, "source", (slice(0, 5), slice(None))),
            "b": (operator.neg, "a"),
            "c": (np.sum, (operator.add, (getter, "source", (slice(5, 20), slice(None))), 0)),
            "d": "a",
        }
        a, b, c, d = ray_dask_get(graph, ["a", "b", "c", "d"])
    np.testing.assert_array_equal(a, REAL[:5])
    np.testing.assert_array_equal(b, -REAL[:5])
    np.testing.assert_array_equal(d, REAL[:5])
    assert c == REAL[5:].sum()


def test_to_hdf5_works(tmp_path):
    h5py = pytest.importorskip("h5py")
    with __import__("dask").config.set(scheduler=ray_dask_get):
        da.to_hdf5(str(tmp_path / "b.h5"), {"/x": array(), "/y": array() * 2})
    with h5py.File(tmp_path / "b.h5", "r") as file:
        np.testing.assert_array_equal(file["/x"][:], REAL + 1)
        np.testing.assert_array_equal(file["/y"][:], 2 * (REAL + 1))


class _Counting(SerializableLock):
    """A lock that only the caller can ask how it was used."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def acquire(self, *args):
        self.count += 1
        return super().acquire(*args)


@pytest.mark.skipif(not HAS_NODES, reason="an older Dask hides the lock within a function of its own")
@pytest.mark.parametrize("inline", [True, False])
def test_a_lock_of_ones_own_class_is_the_callers_own(inline):
    lock = _Counting()
    read = da.from_array(REAL, chunks=10, lock=lock, inline_array=inline)
    np.testing.assert_array_equal((read + 1).compute(scheduler=ray_dask_get), REAL + 1)
    assert lock.count == 4


@pytest.mark.skipif(not HAS_NODES, reason="an older Dask hides constants within functions of its own")
def test_a_generator_of_the_callers_is_read_by_the_caller_and_no_sooner_than_needed():
    seen = []

    def numbers():
        for number in range(10):
            seen.append(number)
            yield number

    def first_two(items):
        assert seen == []
        return [next(items), next(items)]

    bag = db.Bag({("numbers", 0): numbers()}, "numbers", 1)
    total = bag.map_partitions(first_two).map_partitions(lambda items: [sum(items)])
    assert total.compute(scheduler=ray_dask_get) == [1] and seen == [0, 1]


def test_reads_under_a_lock_that_travels_are_done_by_workers():
    class Source:
        shape, dtype, ndim = (20, 20), np.dtype(np.int64), 2

        def __getitem__(self, index):
            return np.full((20, 20), os.getpid())[index]

    read = da.from_array(Source(), chunks=10, lock=True)
    assert os.getpid() not in set(read.compute(scheduler=ray_dask_get).ravel())


def test_nothing_of_what_was_stored_is_held(local_cluster):
    target = np.zeros((1000, 1000))
    before = ray._runtime.current_session().references
    counts = len(before._counts)
    da.store(da.ones((1000, 1000), chunks=250), target, scheduler=ray_dask_get)
    before.drain()
    assert target.all() and len(before._counts) <= counts


def test_a_target_that_is_kept_is_the_callers_own():
    target = np.zeros((20, 20))
    stored = da.store(array(), target, return_stored=True, scheduler=ray_dask_get)
    stored = stored[0] if isinstance(stored, (list, tuple)) else stored
    target += 1
    assert stored.sum().compute(scheduler=ray_dask_get) == (REAL + 2).sum()


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
def test_xarray_writes_netcdf_files(tmp_path, engine):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip(engine)
    made = xarray.Dataset(
        {name: (("x", "y"), array() * factor) for name, factor in (("a", 1), ("b", 2))}
    )
    with __import__("dask").config.set(scheduler=ray_dask_get):
        made.to_netcdf(tmp_path / "made.nc", engine=engine)
        with xarray.open_dataset(tmp_path / "made.nc", engine=engine, chunks={"x": 5}) as read:
            np.testing.assert_array_equal(read["a"].compute(), REAL + 1)
            np.testing.assert_array_equal((read["b"] - read["a"]).values, REAL + 1)
