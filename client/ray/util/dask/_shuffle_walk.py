"""ShuffleWalk: a walk that turns the shuffles of a graph into tasks with several results (ray.util.dask._shuffle).

To be imported when dask.dataframe was, with which comes all that this needs. Who wants to hear of each of Dask's
own tasks takes another walk.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Hashable, List, Mapping, Optional

from ray._calls import INPUTS, Apply, Slot
from ray._columns import RESULT_SHIFT
from ray._graph import GraphBuilder
from ray._ref import ObjectRef
from ray.util.dask._cut import cut
from ray.util.dask._join import join, join_ignoring_index
from ray.util.dask._known import Within
from ray.util.dask._readers import Readers
from ray.util.dask._shuffle import Cutting, Joining, Shuffles
from ray.util.dask._shuffle_tasks import ShuffleFunctions
from ray.util.dask._walk import Walk

# A task that reads more than that, such as a sum over all partitions, does not join them as well.
_READ_BY_JOINING_MAX = 2


class ShuffleWalk(Walk):
    """As Walk. Outputs of shuffles wait for cuttings, which are no keys of the graph, and those for partitions.

    A partition that is read by its cutting alone is made by the task that cuts it, and an output that one task
    alone reads is joined by that one: neither is ever written to the store.
    """

    def __init__(
        self,
        graph: Mapping,
        builder: GraphBuilder,
        functions: ShuffleFunctions,
        options: Optional[Callable[[Hashable], int]] = None,
        put: Optional[Callable[[Any], ObjectRef]] = None,
    ) -> None:
        super().__init__(graph, builder, options, put=put)
        self._shuffles: Optional[Shuffles] = Shuffles(graph, functions)  # None: they are left as they are
        self._joinings: Dict[Hashable, Joining] = {}  # of outputs whose pieces are being added
        self._readers: Optional[Readers] = None  # found when the first shuffle is
        self._unusual.update(map(id, functions.joins))

    def _push(self, key: Hashable, before: Any, missing: List[Hashable]) -> None:
        if not self._add_joining(key, before):
            super()._push(key, before, missing)

    def _add_any(self, key: Hashable, value: Any, before: Any) -> None:
        if not self._add_joining(key, before):
            super()._add_any(key, value, before)

    def _missing_of(self, key: Hashable) -> List[Hashable]:
        if type(key) is Cutting:
            self._source_of(key)
            return list(self._converter.missing)
        if key in self._joinings:
            return [cutting for cutting in self._joinings[key].cuttings if cutting not in self.known]
        return super()._missing_of(key)

    def _add_joining(self, key: Hashable, before: Any) -> bool:
        """Add an output of a shuffle by its pieces. False: it is something else."""
        joining = self._joinings.get(key)
        if joining is None:
            if before is None and self._shuffles is not None:
                joining = self._shuffles.joining(key, self._graph[key])
            if joining is None:
                return False
            self._joinings[key] = joining
        known = self.known
        missing: List[Hashable] = [cutting for cutting in joining.cuttings if cutting not in known]
        if missing:
            super()._push(key, before, missing)
            return True
        del self._joinings[key]
        function = join_ignoring_index if joining.ignore_index else join
        number = joining.index << RESULT_SHIFT
        deps = [known[cutting] + number for cutting in joining.cuttings]
        if self._is_made_by_reader(key, _READ_BY_JOINING_MAX):
            known[key] = Within(function, deps)
            return True
        self._converter.deps = deps
        self._add_task(key, function, INPUTS)
        return True

    def _is_made_by_reader(self, key: Hashable, needs_max: int) -> bool:
        if self._options is not None or key in self._wanted:
            return False
        if self._readers is None:
            self._readers = Readers(self._graph)
        return self._readers.is_single(key, needs_max)

    def _source_of(self, cutting: Cutting) -> Any:
        """What stands for the partition that is cut: a key's value, or the call that makes it. Sets `missing`."""
        converter = self._converter
        converter.start()
        key = cutting.source
        if key not in self.known and self._is_made_by_reader(key, 1):
            value = self._graph[key]
            assert self._shuffles is not None
            if self._shuffles.joining(key, value) is None:
                source = converter.inner(value)
                stays = converter.meets_watched or converter.home_inputs
                if not stays and (converter.missing or type(source) in (Apply, Slot)):
                    return source
                converter.start()
        return converter.key(key)

    def _add_foreign(self, cutting: Hashable, before: Any) -> None:
        if type(cutting) is not Cutting:
            super()._add_foreign(cutting, before)
            return
        if self._shuffles is None:
            return
        converter = self._converter
        source = self._source_of(cutting)
        if converter.missing:
            super()._push(cutting, before, converter.missing)
            return
        if converter.home_inputs:
            # What stays in this process has no pieces elsewhere: let shuffles be as Dask has made them.
            self._shuffles = None
            for key in self._joinings:
                self.known.pop(key, None)
            self._joinings.clear()
            return
        how = cutting.how
        function, entry = converter.finish(Apply(cut, (source, *how)))
        self._builder.next_has_results(len(how.results()))
        self.known[cutting] = self._add_remote(cutting.key, function, entry, converter.deps)
