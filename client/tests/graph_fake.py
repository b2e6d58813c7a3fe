"""A stand-in for a session that runs graphs in-process, from the very chunks that a raylet would get."""

from __future__ import annotations

import os
import pickle
from typing import Any, Callable, Dict, List, Sequence, Set

from ray import _calls
from ray._failures import from_exception, to_exception
from ray._functions import FunctionTable
from ray._ref import ObjectRef, adopt
from ray._references import References
from ray._serialize import deserialize, serialize
from ray._graph_runner import GraphEvent
from ray._warned import Warned
from ray._wire import session_pb2 as wire


class FakeSession:
    """ray._graph_runner.GraphSession. Checks chunks as the raylet does; all runs when the last one comes."""

    def __init__(self) -> None:
        self.warned = Warned()
        self.functions = FunctionTable()
        self.references = References()
        self.chunks: List[wire.GraphChunk] = []  # of all graphs
        self.puts = 0
        self.cancelled: List[bytes] = []
        self.ran: List[str] = []  # names of tasks, in order
        self._loaded: Dict[int, Any] = {}
        self._values: Dict[bytes, Any] = {}  # value bytes, or a Failure
        self._held: Set[bytes] = set()  # what the session may ask for
        self._open: Dict[bytes, List[wire.GraphChunk]] = {}
        self._watchers: Dict[bytes, Callable[[GraphEvent], None]] = {}

    def send_chunk(self, chunk: wire.GraphChunk, references: Sequence[ObjectRef] = ()) -> None:
        for definition in self.functions.take_unsent(chunk.function_numbers):
            chunk.functions.append(definition)
            self._loaded[definition.number] = pickle.loads(definition.pickled)
        chunk = wire.GraphChunk.FromString(chunk.SerializeToString())
        self.chunks.append(chunk)
        before = self._open.setdefault(chunk.graph, [])
        assert chunk.first_task == sum(c.task_count for c in before)
        assert len(chunk.function_numbers) == chunk.task_count
        assert sum(chunk.group_sizes) == chunk.task_count and len(chunk.group_blobs) == len(chunk.group_sizes)
        assert len(chunk.dep_counts) in (0, chunk.task_count) and sum(chunk.dep_counts) == len(chunk.deps)
        before.append(chunk)
        if chunk.last:
            self._run(self._open.pop(chunk.graph))

    def _run(self, chunks: List[wire.GraphChunk]) -> None:
        graph = chunks[0].graph
        failure = None
        task = 0
        for chunk in chunks:
            entries = [e for blob in chunk.group_blobs for e in _calls.load_group(blob)]
            assert len(entries) == chunk.task_count
            at = 0
            for position, entry in enumerate(entries):
                count = chunk.dep_counts[position] if chunk.dep_counts else 0
                deps = chunk.deps[at : at + count]
                at += count
                name = chunk.names[chunk.name_numbers[position]] if chunk.name_numbers else ""
                for dep in deps:
                    assert dep & 1 or dep >> 1 < task, "a dependency must come first"
                numbers = chunk.dep_returns[at - count : at] if chunk.dep_returns else [0] * count
                returns = chunk.return_counts[position] if chunk.return_counts else 1
                ids = [
                    chunk.externals[dep >> 1] if dep & 1
                    else graph + (dep >> 1).to_bytes(8, "big") + number.to_bytes(4, "big")
                    for dep, number in zip(deps, numbers)
                ]
                id = graph + task.to_bytes(8, "big") + bytes(4)
                if failure is None:
                    try:
                        inputs = [deserialize(self._values[dep]) for dep in ids]
                        function = self._loaded[chunk.function_numbers[position]]
                        self.ran.append(name)
                        result = _calls.run(function, entry, inputs)
                        results = [result] if returns == 1 else result
                        assert len(results) == returns
                        for number, one in enumerate(results):
                            self._values[id[:-4] + number.to_bytes(4, "big")] = serialize(one).to_bytes()
                    except Exception as error:
                        failure = from_exception(error, name, 2)
                if failure is not None:
                    self._values[id] = self._values[id[:-1] + b"\1"] = failure
                task += 1
        wanted = range(task) if chunks[0].hold_all else [t for chunk in chunks for t in chunk.wanted]
        self._held.update(graph + t.to_bytes(8, "big") + bytes(3) + bytes([r]) for t in wanted for r in (0, 1))
        watcher = self._watchers.pop(graph, None)
        if watcher is not None:
            if chunks[0].report_progress:
                watcher(wire.GraphProgress(graph=graph, started=range(task), finished=range(task)))
            watcher(wire.GraphEnded(graph=graph, failure=failure))

    def put_constant(self, value: Any) -> ObjectRef:
        self.puts += 1
        id = os.urandom(24) + bytes(4)
        self._values[id] = serialize(value).to_bytes()
        self._held.add(id)
        return adopt(id, self.references)

    def adopt_results(self, ids: Sequence[bytes]) -> List[ObjectRef]:
        return [adopt(id, self.references) for id in ids]

    def get_values(self, refs: Sequence[ObjectRef]) -> List[Any]:
        values = []
        for ref in refs:
            assert ref.binary() in self._held, "nobody said that this result is wanted"
            found = self._values[ref.binary()]
            if not isinstance(found, bytes):
                raise to_exception(found)
            values.append(deserialize(bytearray(found)))
        return values

    def cancel_graph(self, graph: bytes) -> None:
        self.cancelled.append(graph)

    def new_graph_id(self) -> bytes:
        return os.urandom(16)

    def watch_graph(self, graph: bytes, on_event: Callable[[GraphEvent], None]) -> None:
        self._watchers[graph] = on_event

    def unwatch_graph(self, graph: bytes) -> None:
        self._watchers.pop(graph, None)

    def task_count(self) -> int:
        return sum(chunk.task_count for chunk in self.chunks)
