"""What runs on the workers in a shuffle: a partition is cut into pieces, and pieces are joined to a partition.

`cut` takes the place of Dask's shuffle_group and of the tasks that take its results apart; its pieces are
the results of one task. `join` takes the place of Dask's _concat and gives what that would give. In between,
nobody but these two looks at a piece. Pieces of plain pandas frames are `Piece`s: one buffer with the rows of
every NumPy column behind each other, and a description that all pieces of a cut share. That makes a piece
cost a few microseconds, where pickling a pandas frame costs some hundred; an empty piece is a few bytes.
Everything else (other kinds of frames, of indices, or of pandas) travels as the frames that Dask cuts.
"""

from __future__ import annotations

import functools
import pickle
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import pandas as pd

try:
    from pandas.core.array_algos.take import take_nd  # twice as fast as NumPy's on rows of a block
except ImportError:
    take_nd = None

_ALIGNMENT = 64
# The description of a cut's pieces is loaded once for all of them.
_SCHEMAS_KEPT_MAX = 64
_NUMERIC_INDICES = frozenset({"Index", "RangeIndex", "Int64Index", "UInt64Index", "Float64Index"})


class Cut(NamedTuple):
    """How a partition is cut: Dask's own arguments of shuffle_group, and which groups are wanted.

    A row's group is `value % npartitions // count ** stage % count`. `wanted` are the groups in the order of
    the results; None: all of them.
    """

    columns: Any
    stage: int
    count: int
    npartitions: int
    ignore_index: bool
    nfinal: Optional[int]
    wanted: Optional[Tuple[int, ...]]

    def results(self) -> Sequence[int]:
        """The groups, in the order of the results."""
        return range(self.count) if self.wanted is None else self.wanted


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


# ------------------------------------------------------------ pieces of plain frames


class Schema(NamedTuple):
    """What the pieces of one cut have in common.

    `blocks` are (dtype, number of columns) of the frame's NumPy blocks, in the order of their bytes in a
    piece. `placements` are the columns' places, block by block, those of extension columns last.
    """

    columns: pd.Index
    blocks: Tuple[Tuple[str, int], ...]
    placements: Tuple[np.ndarray, ...]
    index_name: Any
    index_dtype: Optional[str]  # None: the index is in `rest`, or there is none


class Piece:
    """Some rows of a partition on their way to another one."""

    __slots__ = ("schema", "rows", "buffer", "rest")

    def __init__(self, schema: bytes, rows: int, buffer: Any, rest: Tuple[Any, ...]) -> None:
        self.schema = schema
        self.rows = rows
        self.buffer = buffer  # NumPy blocks and the index, each padded
        self.rest = rest  # extension columns, then an index that is no NumPy array

    def __reduce_ex__(self, protocol: Any) -> Tuple:
        buffer = pickle.PickleBuffer(self.buffer) if self.rows else b""
        return Piece, (self.schema, self.rows, buffer, self.rest)


@functools.lru_cache(maxsize=_SCHEMAS_KEPT_MAX)
def _schema(pickled: bytes) -> Schema:
    return pickle.loads(pickled)


def _padded(size: int) -> int:
    return (size + _ALIGNMENT - 1) & -_ALIGNMENT


def _plain(values: Any) -> Optional[np.ndarray]:
    """The NumPy array of a block, if that is all there is to it."""
    array = getattr(values, "_ndarray", values) if isinstance(values.dtype, np.dtype) else None
    return array if isinstance(array, np.ndarray) and array.dtype.kind in "biufcmM" else None


def _cut_fast(frame: Any, how: Cut) -> Optional[List[Any]]:
    """Pieces of a plain pandas frame, or None."""
    if type(frame) is not pd.DataFrame or _make_frame is None:
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
        pieces.append(_piece(schema, end - start, parts, rest))
    return pieces


def _piece(schema: bytes, rows: int, parts: List[np.ndarray], rest: Tuple[Any, ...]) -> Piece:
    if not rows:
        return Piece(schema, 0, b"", rest)
    sizes = [_padded(rows * len(part) * part.itemsize) for part in parts]
    buffer = np.empty(sum(sizes), np.uint8)
    at = 0
    for part, size in zip(parts, sizes):
        np.ndarray(part.shape, part.dtype, buffer, at)[...] = part
        at += size
    return Piece(schema, rows, buffer, rest)


def _rows_of(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    if take_nd is None:
        return np.take(array, rows, axis=1)
    return take_nd(array, rows, axis=1, allow_fill=False)


# ------------------------------------------------------------ joining


def join(*pieces: Any) -> Any:
    """The partition that consists of these pieces, in their order."""
    return _join(pieces, False)


def join_ignoring_index(*pieces: Any) -> Any:
    """As join, with a new index from 0 on."""
    return _join(pieces, True)


def _join(pieces: Sequence[Any], ignore_index: bool) -> Any:
    full = [piece for piece in pieces if type(piece) is not Piece or piece.rows] or pieces[:1]
    if all([type(piece) is Piece for piece in full]) and _alike(full):
        return _join_fast(full, ignore_index)
    from dask.dataframe.core import _concat

    return _concat(
        [_join_fast([p], ignore_index) if type(p) is Piece else p for p in full], ignore_index
    )


def _alike(pieces: Sequence[Piece]) -> bool:
    """Whether the columns can be put behind each other without a thought about types."""
    first = _schema(pieces[0].schema)
    for pickled in {piece.schema for piece in pieces}:
        other = _schema(pickled)
        if other is first:
            continue
        if (other.blocks, other.index_dtype, other.index_name) != (
            first.blocks, first.index_dtype, first.index_name
        ):
            return False
        if not other.columns.identical(first.columns) or len(other.placements) != len(first.placements):
            return False
        if not all(map(np.array_equal, other.placements, first.placements)):
            return False
    if not pieces[0].rest:
        return True
    kinds = [(type(part), part.dtype) for part in pieces[0].rest]
    return all([[(type(part), part.dtype) for part in piece.rest] == kinds for piece in pieces])


def _join_fast(pieces: Sequence[Piece], ignore_index: bool) -> pd.DataFrame:
    schema = _schema(pieces[0].schema)
    pieces = [piece for piece in pieces if piece.rows] or pieces
    total = sum([piece.rows for piece in pieces])
    starts = [0] * len(pieces)
    values: List[Any] = [_behind(pieces, starts, total, *block) for block in schema.blocks]
    extensions = len(schema.placements) - len(values)
    for number in range(extensions):
        parts = [piece.rest[number] for piece in pieces]
        values.append(parts[0] if len(parts) == 1 else type(parts[0])._concat_same_type(parts))
    if ignore_index:
        index: pd.Index = pd.RangeIndex(total)
    elif schema.index_dtype is not None:
        index = pd.Index(_behind(pieces, starts, total, schema.index_dtype, 1)[0], name=schema.index_name)
    else:
        indices = [piece.rest[extensions] for piece in pieces]
        index = indices[0].append(indices[1:]) if len(indices) > 1 else indices[0]
    assert _make_frame is not None
    return _make_frame(list(zip(values, schema.placements)), index, schema.columns)


def _behind(
    pieces: Sequence[Piece], starts: List[int], total: int, dtype_name: str, width: int
) -> np.ndarray:
    """One block of all pieces, side by side; `starts` are where it begins in each, and are moved on."""
    dtype = np.dtype(dtype_name)
    joined = np.empty((width, total), dtype)
    at = 0
    for number, piece in enumerate(pieces):
        rows = piece.rows
        if rows:
            joined[:, at : at + rows] = np.ndarray((width, rows), dtype, piece.buffer, starts[number])
            starts[number] += _padded(width * rows * dtype.itemsize)
            at += rows
    return joined


def _find_make_frame() -> Optional[Callable[..., pd.DataFrame]]:
    """What makes a frame of blocks in this pandas; None: nothing that is known here."""
    try:
        from pandas.api.internals import create_dataframe_from_blocks

        return create_dataframe_from_blocks
    except ImportError:
        pass
    try:
        from pandas.core.internals import BlockManager, make_block
    except ImportError:
        return None

    def make(blocks: List[Tuple[Any, Any]], index: pd.Index, columns: pd.Index) -> pd.DataFrame:
        made = tuple([make_block(values, placement=places, ndim=2) for values, places in blocks])
        manager = BlockManager(made, [columns, index])
        from_manager = getattr(pd.DataFrame, "_from_mgr", None)
        return pd.DataFrame(manager) if from_manager is None else from_manager(manager, manager.axes)

    return make


_make_frame = _find_make_frame()
