"""cut: what takes the place of Dask's shuffle_group, and of the tasks that take its results apart, on a worker.

A plain pandas frame becomes Pieces. Everything else (other kinds of frames, of indices, or of pandas) is cut by
Dask, and travels as the frames that it makes.
"""

from __future__ import annotations

import pickle
from typing import Any, List, Optional

import numpy as np
import pandas as pd

from ray.util.dask import _pieces
from ray.util.dask._pieces import Schema, packed
from ray.util.dask._shuffle_tasks import Cut

try:
    from pandas.core.array_algos.take import take_nd  # twice as fast as NumPy's on rows of a block
except ImportError:
    take_nd = None

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


def _groups_of(frame: pd.DataFrame, how: Cut) -> Optional[np.ndarray]:
    """The group of each row, as shuffle_group chooses it; None: it has to choose itself."""
    columns = [how.columns] if isinstance(how.columns, str) else how.columns
    if columns and columns[0] == "_partitions":
        values = frame[columns[0]].to_numpy()
        if values.dtype.kind not in "iu":
            return None
    else:
        from dask.dataframe.dispatch import hash_object_dispatch

        values = np.asarray(hash_object_dispatch(frame[columns] if columns else frame, index=False))
        if how.nfinal and how.nfinal != how.npartitions:
            values = values % int(how.nfinal)
    small = np.min_scalar_type(how.npartitions * 2)
    groups = (values % how.npartitions).astype(small, copy=False) // how.count**how.stage % how.count
    return groups.astype(np.intp, copy=False)


def _plain(values: Any) -> Optional[np.ndarray]:
    """The NumPy array of a block, if that is all there is to it."""
    array = getattr(values, "_ndarray", values) if isinstance(values.dtype, np.dtype) else None
    return array if isinstance(array, np.ndarray) and array.dtype.kind in "biufcmM" else None


def _cut_fast(frame: Any, how: Cut) -> Optional[List[Any]]:
    """Pieces of a plain pandas frame, or None."""
    if type(frame) is not pd.DataFrame or _pieces.make_frame is None:
        return None
    arrays: List[np.ndarray] = []
    others: List[Any] = []
    placements: List[np.ndarray] = []
    other_placements: List[np.ndarray] = []
    for block in frame._mgr.blocks:
        values = block.values
        array = _plain(values)
        if array is not None:
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
    groups = _groups_of(frame, how)
    if groups is None:
        return None
    order, counts = pd._libs.algos.groupsort_indexer(groups, how.count)
    schema = pickle.dumps(
        Schema(
            frame.columns, blocks, tuple(placements + other_placements),
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
        pieces.append(packed(schema, end - start, parts, rest))
    return pieces


def _rows_of(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    if take_nd is None:
        return np.take(array, rows, axis=1)
    return take_nd(array, rows, axis=1, allow_fill=False)
