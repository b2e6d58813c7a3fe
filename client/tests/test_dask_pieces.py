"""Partitions cut into pieces and joined again are what Dask's own shuffle_group and _concat give."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from dask.dataframe.core import _concat
from dask.dataframe.shuffle import shuffle_group

from ray._serialize import deserialize, serialize
from ray.util.dask import _pieces
from ray.util.dask._cut import cut
from ray.util.dask._join import join, join_ignoring_index
from ray.util.dask._pieces import Piece

ROWS = 500


def columns():
    rng = np.random.RandomState(1)
    return {
        "f": rng.rand(ROWS),
        "i": rng.randint(-5, 5, ROWS),
        "g": rng.rand(ROWS).astype("f4"),
        "b": rng.rand(ROWS) > 0.5,
        "t": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.randint(0, 10**6, ROWS), unit="s"),
        "d": pd.to_timedelta(rng.randint(0, 10**6, ROWS), unit="s"),
        "c": pd.Categorical(rng.choice(list("xyz"), ROWS)),
        "n": pd.array(rng.randint(0, 9, ROWS), dtype="Int64"),
        "z": pd.Series(pd.date_range("2021-01-01", periods=ROWS, tz="Europe/Berlin")),
        "o": [("a", n) for n in range(ROWS)],
        "s": pd.array(rng.choice(["one", "two", None], ROWS), dtype="string"),
    }


INDICES = {
    "range": lambda: pd.RangeIndex(ROWS),
    "numbers": lambda: pd.Index(np.arange(ROWS)[::-1], name="row"),
    "floats": lambda: pd.Index(np.arange(ROWS) / 2),
    "dates": lambda: pd.date_range("2020-01-01", periods=ROWS, freq="min", name="when"),
    "strings": lambda: pd.Index([f"r{i}" for i in range(ROWS)]),
    "several": lambda: pd.MultiIndex.from_product([range(ROWS // 10), range(10)]),
    "categories": lambda: pd.CategoricalIndex(np.resize(list("ab"), ROWS)),
}


def frame(names, index="range"):
    made = pd.DataFrame({name: columns()[name] for name in names})
    made.index = INDICES[index]()
    made["_partitions"] = np.random.RandomState(2).randint(0, 7, ROWS)
    return made


def travelled(piece):
    """As it arrives in another process: a view of bytes that may not be written to."""
    return deserialize(memoryview(serialize(piece).to_bytes()).toreadonly())


def check(frames, ignore_index=False, count=7, on="_partitions", stage=0, npartitions=7, nfinal=7):
    how = (on, stage, count, npartitions, ignore_index, nfinal, None)
    cuts = [cut(one, *how) for one in frames]
    groups = [shuffle_group(one, on, stage, count, npartitions, ignore_index, nfinal) for one in frames]
    for number in range(count):
        pieces = [travelled(one[number]) for one in cuts]
        got = (join_ignoring_index if ignore_index else join)(*pieces)
        expected = _concat([one[number] for one in groups], ignore_index)
        if ignore_index:  # Dask's begins again with each piece
            expected = expected.reset_index(drop=True)
            got = got.reset_index(drop=True)
        pd.testing.assert_frame_equal(got, expected)
        assert got.index.name == expected.index.name
        again = pickle.loads(pickle.dumps(got.sort_values("_partitions")))
        assert len(again) == len(got)
    return cuts


@pytest.mark.parametrize("ignore_index", [False, True])
@pytest.mark.parametrize("index", sorted(INDICES))
def test_indices_of_every_kind(index, ignore_index):
    check([frame("fi", index), frame("fi", index)[::-1]], ignore_index)


@pytest.mark.parametrize("names", ["f", "fig", "fibtd", "fc", "n", "fz", "fo", "s", "fibcns", "ftdo"])
def test_columns_of_every_kind(names):
    check([frame(names), frame(names).iloc[:50], frame(names).iloc[:0]])


@pytest.mark.parametrize("stage, count, npartitions, nfinal", [
    (0, 4, 16, 16), (1, 4, 16, 16), (0, 3, 3, 5), (0, 40, 40, 40),
])
def test_columns_are_hashed_as_dask_does(stage, count, npartitions, nfinal):
    for on in (["i"], ["i", "f"], "t"):
        check([frame("fit")], False, count, on, stage, npartitions, nfinal)


def test_only_the_groups_that_are_wanted_are_cut():
    source = frame("fi")
    pieces = cut(source, "_partitions", 0, 7, 7, False, 7, (2, 5))
    assert len(pieces) == 2
    expected = shuffle_group(source, "_partitions", 0, 7, 7, False, 7)
    pd.testing.assert_frame_equal(join(pieces[1]), expected[5])
    pd.testing.assert_frame_equal(
        join(cut(source, "_partitions", 0, 7, 7, False, 7, (3,))), expected[3]
    )


@pytest.mark.parametrize("names", ["f", "fibtd", "fibcns"])
@pytest.mark.parametrize("index", ["range", "numbers", "dates", "strings"])
def test_pieces_of_many_rows_are_a_buffer_a_column(names, index, monkeypatch):
    monkeypatch.setattr(_pieces, "_ROWS_BY_COLUMN_MIN", 60)  # some pieces are larger, some smaller
    cuts = check([frame(names, index), frame(names, index).iloc[:200], frame(names, index).iloc[:0]])
    assert {type(piece.buffer) is tuple for pieces in cuts for piece in pieces} == {True, False}


def test_columns_that_lie_across_each_other_are_packed(monkeypatch):
    monkeypatch.setattr(_pieces, "_ROWS_BY_COLUMN_MIN", 1)
    rows = np.arange(3.0 * ROWS).reshape(ROWS, 3)
    source = pd.DataFrame(np.asfortranarray(rows.T).T, columns=list("abc"))
    source["_partitions"] = np.arange(ROWS) % 7
    check([source, source.iloc[::2]])


def test_the_column_that_says_where_a_row_goes_does_not_travel():
    pieces = cut(frame("f"), "_partitions", 0, 7, 7, True, 7, None)
    assert [len(piece.buffer) for piece in pieces] == [8 * piece.rows for piece in pieces]
    assert join_ignoring_index(pieces[3], pieces[3])["_partitions"].tolist() == 2 * pieces[3].rows * [3]


def test_a_partition_that_may_not_be_written_to_is_cut():
    source = pd.DataFrame({"f": np.random.RandomState(1).rand(ROWS)})
    groups = np.arange(ROWS) % 7
    groups.flags.writeable = False
    check([source.assign(_partitions=pd.Series(groups, copy=False))])


def test_plain_frames_are_cut_into_small_pieces_and_empty_ones_travel_as_a_few_bytes():
    source = frame("fibtd")
    source["_partitions"] = 0
    pieces = cut(source, "_partitions", 0, 100, 100, False, 100, None)
    assert all(type(piece) is Piece for piece in pieces)
    assert [piece.rows for piece in pieces[:2]] == [ROWS, 0]
    assert serialize(pieces[1]).size_bytes < 2000


def test_partitions_of_different_types_are_joined_as_dask_joins_them():
    one, other = frame("fi"), frame("fi")
    other["i"] = other["i"].astype("f8")
    check([one, other])
    other = frame("fi")
    other.insert(1, "new", other.pop("f"))
    cuts = [cut(x, "_partitions", 0, 7, 7, False, 7, None) for x in (one, other)]
    expected = [shuffle_group(x, "_partitions", 0, 7, 7, False, 7)[1] for x in (one, other)]
    pd.testing.assert_frame_equal(join(cuts[0][1], cuts[1][1]), _concat(expected))
    one["c"] = pd.Categorical(np.resize(list("ab"), ROWS))
    more = one.assign(c=pd.Categorical(np.resize(list("bcd"), ROWS)))
    check([one, more])


def test_a_pandas_without_the_needed_parts_is_served_too(monkeypatch):
    monkeypatch.setattr(_pieces, "make_frame", None)
    check([frame("fi"), frame("fo")])
