"""Pieces: rows of a plain pandas frame on their way from a worker that cuts (_cut) to one that joins (_join).

Nobody but these two looks at a piece. It is one buffer with the rows of every NumPy column behind each other, and
a description that all pieces of a cut share. That makes a piece cost a few microseconds, where pickling a pandas
frame costs some hundred; an empty piece is a few bytes. A piece of many rows is a buffer a column instead, so that
they are copied once, into the store, and not first behind each other.
"""

from __future__ import annotations

import functools
import pickle
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import pandas as pd

# Up to here a piece's bytes are copied along with its description; a buffer of its own would cost more.
_IN_BAND_BYTES_MAX = 32 << 10
# From here on a column's buffer costs less than copying it once more.
_ROWS_BY_COLUMN_MIN = 4096
# The description of a cut's pieces is loaded once for all of them.
_SCHEMAS_KEPT_MAX = 64


class Schema(NamedTuple):
    """What the pieces of one cut have in common.

    `blocks` are (dtype, number of columns) of the frame's NumPy blocks, in the order of their bytes in a
    piece. `placements` are the columns' places, block by block, then those of extension columns, and then that of
    the column which has nothing but the rows' group in it, and so does not travel.
    """

    columns: pd.Index
    blocks: Tuple[Tuple[str, int], ...]
    placements: Tuple[np.ndarray, ...]
    group_dtype: Optional[str]  # None: there is no such column
    index_name: Any
    index_dtype: Optional[str]  # None: the index is in `rest`, or there is none


class Piece:
    """Some rows of a partition on their way to another one."""

    __slots__ = ("schema", "group", "rows", "buffer", "rest")

    def __init__(self, schema: bytes, group: int, rows: int, buffer: Any, rest: Tuple[Any, ...]) -> None:
        self.schema = schema
        self.group = group
        self.rows = rows
        self.buffer = buffer  # bytes of NumPy blocks and of the index; or a tuple of their columns
        self.rest = rest  # extension columns, then an index that is no NumPy array

    def __reduce_ex__(self, protocol: Any) -> Tuple:
        buffer = self.buffer
        if type(buffer) is tuple:
            buffer = tuple([pickle.PickleBuffer(column) for column in buffer])
        elif len(buffer) > _IN_BAND_BYTES_MAX:
            buffer = pickle.PickleBuffer(buffer)
        return Piece, (self.schema, self.group, self.rows, buffer, self.rest)


@functools.lru_cache(maxsize=_SCHEMAS_KEPT_MAX)
def schema_of(pickled: bytes) -> Schema:
    """Of a piece's `schema`."""
    return pickle.loads(pickled)


def packed(schema: bytes, group: int, rows: int, parts: List[np.ndarray], rest: Tuple[Any, ...]) -> Piece:
    """A piece of `rows` rows of a group; `parts` are its NumPy blocks, then its index, all of two dimensions."""
    if not rows:
        return Piece(schema, group, 0, b"", rest)
    if rows >= _ROWS_BY_COLUMN_MIN and all([part.strides[1] == part.itemsize for part in parts]):
        # As bytes, since some types (times) don't give away their buffers.
        columns = tuple([column.view(np.uint8) for part in parts for column in part])
        return Piece(schema, group, rows, columns, rest)
    return Piece(schema, group, rows, b"".join([part.tobytes() for part in parts]), rest)


def unpacked(
    pieces: Sequence[Piece], starts: List[int], total: int, dtype_name: str, width: int
) -> np.ndarray:
    """One block of all pieces, side by side; `starts` are where it begins in each (a byte, or a column), and are
    moved on."""
    dtype = np.dtype(dtype_name)
    joined = np.empty((width, total), dtype)
    at = 0
    for number, piece in enumerate(pieces):
        rows = piece.rows
        if type(piece.buffer) is tuple:
            for line, column in enumerate(piece.buffer[starts[number] : starts[number] + width]):
                joined[line, at : at + rows] = np.ndarray(rows, dtype, column)
            starts[number] += width
            at += rows
        elif rows:
            joined[:, at : at + rows] = np.ndarray((width, rows), dtype, piece.buffer, starts[number])
            starts[number] += width * rows * dtype.itemsize
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


make_frame = _find_make_frame()
