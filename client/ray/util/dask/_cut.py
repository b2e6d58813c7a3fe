"""cut: what takes the place of Dask's shuffle_group, and of the tasks that take its results apart, on a worker.

A plain pandas frame becomes Pieces. Everything else (other kinds of frames, of indices, or of pandas) is cut by
Dask, and travels as the frames that it makes.
"""

from __future__ import annotations

import pickle
from typing import Any, List, NamedTuple, Optional

import numpy as np
import pandas as pd

from ray.util.dask import _pieces
from ray.util.dask._pieces import Schema, packed
from ray.util.dask._shuffle_tasks import Cut

_PARTITIONS = "_partitions"  # the column in which Dask notes where a row goes
_NUMERIC_INDICES = frozenset({"Index", "RangeIndex", "Int64Index", "UInt64Index", "Float64Index"})


def cut(frame: Any, *how: Any) -> Any:
    """The pieces of a partition, cut as Cut(*how) says; a single one by itself."""
    chosen = Cut(*how)
    pieces = _cut_fast(frame, chosen)
    if pieces is None:
        pieces = _cut_as_dask(frame, chosen)
    return pieces if len(pieces) != 1 else pieces[0]


def _cut_as_dask(frame: Any, how: Cut) -> List[Any]:
    from dask.dataframe.shuffle import shuffle_group

    groups = shuffle_group(
        frame, how.columns, how.stage, how.count, how.npartitions, how.ignore_index, how.nfinal
    )
    return [groups[number] for number in how.results()]


class _Groups(NamedTuple):
    """The group of each row, as shuffle_group chooses it."""

    of_rows: np.ndarray
    column: Optional[str]  # that has nothing but the groups in it, if there is one


def _groups_of(frame: pd.DataFrame, how: Cut) -> Optional[_Groups]:
    """None: shuffle_group has to choose itself."""
    columns = [how.columns] if isinstance(how.columns, str) else how.columns
    if columns and columns[0] == _PARTITIONS:
        values = frame[_PARTITIONS].to_numpy()
        if values.dtype.kind not in "iu":
            return None
        is_last = how.stage == 0 and how.count >= how.npartitions
        if is_last and len(values) and values.min() >= 0 and values.max() < how.npartitions:
            return _Groups(values.astype(np.intp, copy=False), _PARTITIONS)
    else:
        from dask.dataframe.dispatch import hash_object_dispatch

        values = np.asarray(hash_object_dispatch(frame[columns] if columns else frame, index=False))
        if how.nfinal and how.nfinal != how.npartitions:
            values = values % int(how.nfinal)
    small = np.min_scalar_type(how.npartitions * 2)
    groups = (values % how.npartitions).astype(small, copy=False) // how.count**how.stage % how.count
    return _Groups(groups.astype(np.intp, copy=False), None)


def _plain(values: Any) -> Optional[np.ndarray]:
    """The NumPy array of a block, if that is all there is to it."""
    array = getattr(values, "_ndarray", values) if isinstance(values.dtype, np.dtype) else None
    return array if isinstance(array, np.ndarray) and array.dtype.kind in "biufcmM" else None


def _cut_fast(frame: Any, how: Cut) -> Optional[List[Any]]:
    """Pieces of a plain pandas frame, or None."""
    if type(frame) is not pd.DataFrame or _pieces.make_frame is None:
        return None
    groups = _groups_of(frame, how)
    if groups is None:
        return None
    group_column = None if groups.column is None else frame.columns.get_loc(groups.column)
    group_dtype = None
    arrays: List[np.ndarray] = []
    others: List[Any] = []
    placements: List[np.ndarray] = []
    other_placements: List[np.ndarray] = []
    for block in frame._mgr.blocks:
        values = block.values
        array = _plain(values)
        if array is not None and len(array) == 1 and block.mgr_locs.as_array[0] == group_column:
            group_dtype = array.dtype.str
        elif array is not None:
            arrays.append(array)
            placements.append(block.mgr_locs.as_array)
        elif isinstance(values, np.ndarray) or values.ndim != 1:
            return None  # Python objects, which have to be pickled one by one anyway
        else:
            others.append(values)
            other_placements.append(block.mgr_locs.as_array)
    blocks = tuple([(array.dtype.str, len(array)) for array in arrays])
    index = frame.index
    index_dtype = None
    if not how.ignore_index:
        if type(index).__name__ in _NUMERIC_INDICES and _plain(index.to_numpy()) is not None:
            arrays.append(index.to_numpy()[None])
            index_dtype = arrays[-1].dtype.str
        elif type(index) in (pd.Index, pd.DatetimeIndex):
            others.append(index)
        else:
            return None
    order, counts = pd._libs.algos.groupsort_indexer(groups.of_rows, how.count)
    if group_dtype is not None:
        other_placements.append(np.array([group_column], np.intp))
    schema = pickle.dumps(
        Schema(
            frame.columns, blocks, tuple(placements + other_placements), group_dtype,
            None if how.ignore_index else index.name, index_dtype,
        ),
        5,
    )
    ends = counts.cumsum().tolist()  # the first count is of rows without a group
    sorted_arrays = None if how.wanted is not None else [_rows_of(array, order) for array in arrays]
    pieces = []
    for number in how.results():
        start, end = ends[number], ends[number + 1]
        rest = tuple([values.take(order[start:end]) for values in others])
        if sorted_arrays is not None:
            parts = [array[:, start:end] for array in sorted_arrays]
        else:
            parts = [_rows_of(array, order[start:end]) for array in arrays]
        pieces.append(packed(schema, number, end - start, parts, rest))
    return pieces


def _rows_of(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    taken = np.empty((len(array), len(rows)), array.dtype)
    for line, column in zip(taken, array):
        np.take(column, rows, out=line, mode="clip")  # any other mode takes into a copy first
    return taken
