"""join: what takes the place of Dask's _concat on a worker, and gives what that would give."""

from __future__ import annotations

from typing import Any, List, Sequence

import numpy as np
import pandas as pd

from ray.util.dask import _pieces
from ray.util.dask._pieces import Piece, schema_of, unpacked


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
    first = schema_of(pieces[0].schema)
    for pickled in {piece.schema for piece in pieces}:
        other = schema_of(pickled)
        if other is first:
            continue
        if other.blocks != first.blocks or other.group_dtype != first.group_dtype:
            return False
        if (other.index_dtype, other.index_name) != (first.index_dtype, first.index_name):
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
    schema = schema_of(pieces[0].schema)
    pieces = [piece for piece in pieces if piece.rows] or pieces
    total = sum([piece.rows for piece in pieces])
    starts = [0] * len(pieces)
    values: List[Any] = [unpacked(pieces, starts, total, *block) for block in schema.blocks]
    extensions = len(schema.placements) - len(values) - (schema.group_dtype is not None)
    for number in range(extensions):
        parts = [piece.rest[number] for piece in pieces]
        values.append(parts[0] if len(parts) == 1 else type(parts[0])._concat_same_type(parts))
    if schema.group_dtype is not None:
        groups = np.array([piece.group for piece in pieces], schema.group_dtype)
        values.append(np.repeat(groups, [piece.rows for piece in pieces])[None])
    if ignore_index:
        index: pd.Index = pd.RangeIndex(total)
    elif schema.index_dtype is not None:
        index = pd.Index(unpacked(pieces, starts, total, schema.index_dtype, 1)[0], name=schema.index_name)
    else:
        indices = [piece.rest[extensions] for piece in pieces]
        index = indices[0].append(indices[1:]) if len(indices) > 1 else indices[0]
    assert _pieces.make_frame is not None
    return _pieces.make_frame(list(zip(values, schema.placements)), index, schema.columns)
