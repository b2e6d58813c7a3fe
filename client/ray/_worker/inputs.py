"""Inputs: the values that a batch's tasks are given, read from where the raylet says they are.

The raylet pins each object in the store that a batch names once for the whole batch, however many of its tasks
need it. What always holds: it is unpinned once, after the last of these tasks was done or given back and nothing
made of its memory is left; so done_with() is called exactly once for each task of the batch, run or not.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, Optional, Sequence

from ray._serialize import SerializedValue, copy_of, deserialize, deserialize_writable
from ray._session import Session
from ray._store import Located
from ray._wire import session_pb2 as wire
from ray._worker.code import NotPicklable, why

ID_BYTES = 28
# In the place of a value that was used up by being serialized.
SPENT = object()


class Kept:
    """A result that later tasks of the same batch need.

    Only if several do: then each gets one of its own, with read-only buffers, which are those of `value`. If
    one does, it gets the very object, which nobody else will see.
    """

    __slots__ = ("value", "serialized")

    def __init__(self, value: Any, serialized: SerializedValue) -> None:
        self.value = value
        self.serialized = serialized

    def take(self, writable: bool) -> Any:
        return copy_of(self.serialized, writable)


class Inputs:
    """Of one batch. `kept` has results of tasks of this batch that later ones of it need, by position."""

    __slots__ = (
        "kept", "kept_positions", "_session", "_batch", "_inline", "_encoded", "_uses", "_located", "_wanted",
    )

    def __init__(self, session: Session, batch: wire.RunBatch, encoded: List[int]) -> None:
        self._session = session
        self._batch = batch
        self._inline = list(batch.inline_inputs) if encoded else []
        self._encoded = encoded
        self._uses: Optional[Counter] = None
        self.kept: Dict[int, List[Any]] = {}
        # By index: large inputs that were looked at, and how often tasks that are not done yet name each.
        self._located: Dict[int, Located] = {}
        self._wanted: Dict[int, int] = {}
        if batch.located_inputs:
            self._wanted = Counter([one >> 2 for one in encoded if one & 3 == wire.INPUT_LOCATED])
        self.kept_positions = {one >> 10 for one in encoded if one & 3 == wire.INPUT_EARLIER}

    def keep(self, position: int, values: Sequence[Any], serialized: Sequence[Any]) -> None:
        """Keep a task's results, one by one, as `take` will hand them out."""
        kept: List[Any] = []
        for index, (value, form) in enumerate(zip(values, serialized)):
            code = (position << 10) | (index << 2) | wire.INPUT_EARLIER
            is_shared = value is SPENT or self._uses_of(code) > 1
            kept.append(Kept(value, form) if is_shared else value)
        self.kept[position] = kept

    def _uses_of(self, code: int) -> int:
        """How many of the batch's tasks need this result of an earlier one."""
        if self._uses is None:
            self._uses = Counter(self._encoded)
        return self._uses[code]

    def load(self, encoded: Sequence[int], values: List[Any], writable: bool = False) -> bool:
        """Fills `values`; whether an earlier task of the batch that had to make one failed.

        `writable`: with private copies of all buffers. Raises NotPicklable.
        """
        missing = False
        for number, one in enumerate(encoded):
            kind, index = one & 3, one >> 2
            try:
                if kind == wire.INPUT_INLINE:
                    data = self._inline[index]
                    values.append(deserialize_writable(data) if writable else deserialize(data))
                elif kind == wire.INPUT_LOCATED:
                    located = self._locate(index)
                    values.append(
                        deserialize(located.writable_view() if writable else located.view)
                    )
                else:
                    earlier = self.kept.get(index >> 8)
                    if earlier is None:
                        missing = True
                    else:
                        value = earlier[index & 255]
                        values.append(value.take(writable) if type(value) is Kept else value)
            except Exception as error:
                raise NotPicklable(
                    f"its input {number} could not be unpickled on the worker: {why(error)}", error
                ) from error
        return missing

    def done_with(self, encoded: Sequence[int]) -> None:
        """The task with these inputs has run, or will not run here."""
        wanted = self._wanted
        if not wanted:
            return
        for one in encoded:
            if one & 3 == wire.INPUT_LOCATED:
                index = one >> 2
                wanted[index] -= 1
                if not wanted[index] and self._located.pop(index, None) is None:
                    self._session.references.unpin(self._id(index))

    def skip(self, first: int) -> None:
        """The tasks from position `first` on will not run here."""
        if self._wanted:
            self.done_with(self._encoded[sum(self._batch.input_counts[:first]) :])

    def _locate(self, index: int) -> Located:
        found = self._located.get(index)
        if found is None:
            at = self._batch.located_inputs[index]
            found = self._located[index] = self._session.store.locate(
                self._id(index), at.segment, at.offset, at.size_bytes
            )
        return found

    def _id(self, index: int) -> bytes:
        return self._batch.located_ids[ID_BYTES * index : ID_BYTES * (index + 1)]


def are_shared(encoded: Sequence[int]) -> bool:
    """Whether nothing that the task was given is its alone, so that it can be given all of it again."""
    return all(one & 3 != wire.INPUT_EARLIER for one in encoded)
