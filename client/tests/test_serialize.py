"""Values as bytes and back."""

import gc
import threading

import numpy as np
import pandas as pd
import pytest

from ray import _serialize
from ray._serialize import (
    BadValueError, UnpicklableError, deserialize, deserialize_writable, serialize,
)

try:
    import pyarrow as pa
except ImportError:  # the oldest supported Dask comes without
    pa = None


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1, 2**70, 1.5, 1j, "", "x" * 5000, b"", b"y" * 5000, (), [1, [2, (3,)]],
     {"a": {1, 2}}, frozenset({3}), range(5), slice(1, 2), Ellipsis],
)
def test_a_value_comes_back_equal_and_of_the_same_type(value):
    serialized = serialize(value)
    data = serialized.to_bytes()
    assert len(data) == serialized.size_bytes
    back = deserialize(data)
    assert back == value and type(back) is type(value)


def test_an_array_is_read_without_a_copy_and_can_not_be_written_to():
    array = np.arange(100_000.0)
    data = serialize(array).to_bytes()
    back = deserialize(data)
    assert np.array_equal(back, array)
    start = np.frombuffer(data, dtype=np.uint8).__array_interface__["data"][0]
    assert start <= back.__array_interface__["data"][0] < start + len(data)
    with pytest.raises(ValueError):
        back[0] = 1


def test_buffers_lie_at_multiples_of_64():
    serialized = serialize([np.ones(1001, np.uint8).repeat(3), np.arange(5000), b"z" * 4096])
    assert serialized.buffers and all(offset % 64 == 0 for offset, _ in serialized.buffers)


def test_what_is_read_as_writable_is_private():
    data = serialize(np.arange(10_000)).to_bytes()
    back = deserialize_writable(data)
    back[0] = 77
    assert deserialize(data)[0] == 0


def test_fortran_order_strides_and_empty_arrays_survive():
    for array in (np.asfortranarray(np.ones((300, 200))), np.arange(10_000)[::3], np.empty((0, 5))):
        assert np.array_equal(deserialize(serialize(array).to_bytes()), array)


def test_a_data_frame_survives():
    frame = pd.DataFrame({"a": np.arange(5000), "b": [f"row {i}" for i in range(5000)]})
    pd.testing.assert_frame_equal(deserialize(serialize(frame).to_bytes()), frame)


@pytest.mark.skipif(pa is None, reason="pyarrow is not installed")
def test_an_arrow_table_is_read_without_a_copy():
    table = pa.table({"a": np.arange(100_000)})
    data = serialize(table).to_bytes()
    back = deserialize(data)
    assert back.equals(table)
    start = np.frombuffer(data, dtype=np.uint8).__array_interface__["data"][0]
    buffer = back.column("a").chunk(0).buffers()[1]
    assert start <= buffer.address < start + len(data)


def test_large_bytes_are_not_pickled():
    value = bytes(200_000)
    assert serialize(value).size_bytes == 200_000 + 24
    assert deserialize(serialize(value).to_bytes()) == value


def test_lambdas_closures_and_local_classes_travel_by_value():
    n = 5

    class Local:
        def method(self):
            return n

    assert deserialize(serialize(lambda x: x + n).to_bytes())(1) == 6
    assert deserialize(serialize(Local()).to_bytes()).method() == 5


def test_what_frompyfunc_makes_travels_with_its_function():
    add = np.frompyfunc(lambda a, b: a + b, 2, 1, identity=0)
    copy, outer = deserialize(serialize([add, add.outer]).to_bytes())
    assert copy([1, 2], 3).tolist() == [4, 5] and copy.reduce([]) == 0
    assert outer([1, 2], [3]).tolist() == [[4], [5]]
    assert deserialize(serialize([np.add, lambda: 1]).to_bytes())[0] is np.add


def test_a_value_written_into_memory_is_the_same_as_in_one_piece():
    serialized = serialize({"a": np.arange(50_000), "b": np.ones(7)})
    memory = bytearray(serialized.size_bytes)
    serialized.write_to(memoryview(memory))
    # Between buffers there may be anything; the parts have to be the same.
    assert np.array_equal(deserialize(memory)["a"], np.arange(50_000))


def test_an_error_names_what_can_not_be_pickled_and_where_it_is():
    with pytest.raises(UnpicklableError) as caught:
        serialize({"good": 1, "bad": [0, threading.Lock()]})
    assert "_thread.lock" in str(caught.value) and "value['bad'][1]" in str(caught.value)


def test_a_first_try_that_failed_leaves_no_buffers_behind():
    # The array is taken out of band, then the lambda sends everything back to the start.
    serialized = serialize([np.arange(10_000), lambda: 1])
    assert len(serialized.buffers) == 1
    assert deserialize(serialized.to_bytes())[0][9] == 9


@pytest.mark.parametrize("cut", [0, 3, 23, 30, 100])
def test_a_cut_off_value_is_an_error_that_says_so(cut):
    data = serialize(np.arange(10_000)).to_bytes()[:cut]
    with pytest.raises(BadValueError):
        deserialize(data)


def test_foreign_bytes_are_an_error():
    with pytest.raises(BadValueError, match="expected value bytes"):
        deserialize(b"not a value of ours, whatever it is")


def test_a_view_keeps_the_message_alive():
    back = deserialize(serialize(np.arange(10_000)).to_bytes())
    gc.collect()
    assert back.sum() == 10_000 * 9_999 // 2


def test_collecting_is_as_before_after_an_error():
    before = _serialize.collecting.contained
    with pytest.raises(UnpicklableError):
        serialize(threading.Lock())
    assert _serialize.collecting.contained is before
