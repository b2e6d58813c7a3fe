"""Inputs: the values that a batch's tasks are given, read from where the raylet says they are."""

from __future__ import annotations

from typing import Any, Dict, List

from ray._serialize import deserialize
from ray._session import Session
from ray._wire import session_pb2 as wire
from ray._worker.code import NotPicklable, why

ID_BYTES = 28


class Inputs:
    """Of one batch. `kept` has results of tasks of this batch that later ones of it need, by position."""

    __slots__ = ("kept", "kept_positions", "_session", "_batch", "_inline")

    def __init__(self, session: Session, batch: wire.RunBatch, encoded: List[int]) -> None:
        self._session = session
        self._batch = batch
        self._inline = list(batch.inline_inputs) if encoded else []
        self.kept: Dict[int, List[Any]] = {}
        self.kept_positions = {one >> 10 for one in encoded if one & 3 == wire.INPUT_EARLIER}

    def load(self, encoded: List[int], values: List[Any]) -> bool:
        """Fills `values`; whether an earlier task of the batch that had to make one failed.

        Raises NotPicklable.
        """
        missing = False
        for number, one in enumerate(encoded):
            kind, index = one & 3, one >> 2
            try:
                if kind == wire.INPUT_INLINE:
                    values.append(deserialize(self._inline[index]))
                elif kind == wire.INPUT_LOCATED:
                    values.append(deserialize(self._locate(index).view))
                else:
                    earlier = self.kept.get(index >> 8)
                    if earlier is None:
                        missing = True
                    else:
                        values.append(earlier[index & 255])
            except Exception as error:
                raise NotPicklable(
                    f"its input {number} could not be unpickled on the worker: {why(error)}", error
                ) from error
        return missing

    def _locate(self, index: int) -> Any:
        batch = self._batch
        at = batch.located_inputs[index]
        id = batch.located_ids[ID_BYTES * index : ID_BYTES * (index + 1)]
        return self._session.store.locate(id, at.segment, at.offset, at.size_bytes)


def unpin(session: Session, batch: wire.RunBatch, positions: List[int]) -> None:
    """The inputs of tasks that will not run here were pinned all the same."""
    if not batch.located_inputs:
        return
    references = session.references
    starts = [0]
    for count in batch.input_counts or [0] * len(batch.tasks):
        starts.append(starts[-1] + count)
    for position in positions:
        for encoded in batch.inputs[starts[position] : starts[position + 1]]:
            if encoded & 3 == wire.INPUT_LOCATED:
                number = encoded >> 2
                references.pins += 1
                references.unpinned.append(
                    batch.located_ids[ID_BYTES * number : ID_BYTES * (number + 1)]
                )
