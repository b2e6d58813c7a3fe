"""Which functions are found to change something of their caller's, by their bytecode, on this Python."""

import functools
import itertools
import threading
from collections import Counter, defaultdict, deque

import numpy as np
import pytest

from ray.util.dask._caller_writes import change_by

LOCK = threading.Lock()
total = 0
seen = []


def what(function):
    change = change_by(function)
    return change and change.what


# ------------------------------------------------------------ variables of an enclosing function


def test_a_function_that_adds_to_a_variable_of_its_enclosing_function_changes_it():
    calls = 0

    def count(x):
        nonlocal calls
        with LOCK:
            calls += 1
        return x

    assert what(count) == "calls"
    assert what(functools.partial(count, 1)) == what(functools.partial(map, count)) == "calls"
    assert what(lambda x: count(x) + 1) == "calls"


def test_so_does_one_that_reads_it_as_well():
    calls = 0

    def count(x):
        nonlocal calls
        calls = calls + 1
        if calls > 2:
            raise ValueError(calls)

    assert what(count) == "calls"


def test_so_does_one_that_sets_or_deletes_it():
    called = False
    gone = 1

    def mark(x):
        nonlocal called
        called = True
        return x

    def delete(x):
        nonlocal gone
        del gone

    assert what(mark) == "called" and what(delete) == "gone"


def test_so_does_one_whose_inner_function_does():
    calls = 0

    def outer(xs):
        def inner(x):
            nonlocal calls
            calls += 1
            return x

        return [inner(x) for x in xs]

    assert what(outer) == "calls"


def test_one_that_sets_it_and_reads_it_has_a_cache_and_changes_nothing():
    model = None

    def predict(x):
        nonlocal model
        if model is None:
            model = float(1) + 2
        return model * x

    assert what(predict) is None


def test_variables_of_its_own_inner_functions_are_nobody_elses():
    def outer(x):
        n = 0

        def inner():
            nonlocal n
            n += 1

        inner()
        return n + x

    assert what(outer) is None


# ------------------------------------------------------------ containers


def _filling():
    items, table, counts, hits = [], {}, Counter(), {}
    array = np.zeros(10)
    line, unique = deque(), set()
    groups = defaultdict(list)
    pair = ("a", "b")

    def append(x):
        items.append(x)
        return x

    def set_item(key):
        value = np.empty(3)
        table[key] = value
        return value

    def set_item_by_a_call(x):
        table[str(x), x + 1, pair[0]] = x

    def set_item_by_text(x):
        table[f"{x}-{x!r}"] = x

    def count(x):
        counts[x] += 1

    def count_by_a_call(x):
        hits[len(x)] += 1

    def fill(n, x):
        array[n] = x

    def fill_some(x):
        array[2:4] = x

    def add_to_some(n, x):
        array[n:4] += x

    def delete(x):
        del table[x]

    def extend(x):
        line.extend([x, x])
        unique.add(x)

    def gather(key, x):
        groups[key].append(x)

    def set_an_item_of_an_item(x):
        table[x][0] = 1
        table[x][1] += 1

    def each(xs):
        return [items.append(x) for x in xs]

    def only_if(x):
        if x > 2:
            items.append(x if x % 2 else -x)
        return x

    found = dict(locals())
    return [found[name] for name in found if callable(found[name]) and hasattr(found[name], "__code__")]


@pytest.mark.parametrize("function", _filling(), ids=lambda function: function.__name__)
def test_a_function_that_only_fills_a_container_that_it_closes_over_changes_it(function):
    assert what(function) in function.__code__.co_freevars


def test_a_function_that_counts_with_itertools_changes_the_counter():
    count = itertools.count()
    assert what(lambda: next(count)) == "count"


def _reading():
    cache, results, items, target = {}, {}, [], object()
    array = np.zeros(10)

    def memoised(x):
        if x not in cache:
            cache[x] = x * x
        return cache[x]

    def memoised_by_get(x):
        found = cache.get(x)
        if found is None:
            found = cache[x] = x * x
        return found

    def memoised_by_trying(x):
        try:
            return cache[x]
        except KeyError:
            cache[x] = x * x
            return cache[x]

    def memoised_by_default(x):
        return cache.setdefault(x, x * x)

    def counted_by_get(x):
        results[x] = results.get(x, 0) + 1

    def only_reads(x):
        return items[x] + array[x:].sum() + len(cache)

    def passes_on(x):
        items.append(x)
        return sorted(items)

    def inner_reads(x):
        items.append(x)
        return [y for y in range(3) if y in items]

    def of_an_unknown_class(x):
        target[x] = x

    def sets_an_item_of_its_argument(x):
        x[items[0]] = array

    def reads_an_item_of_an_item(x):
        return cache[x][0]

    def fills_an_item_and_reads_another(x):
        cache[x].append(1)
        return cache[0]

    found = dict(locals())
    return [found[name] for name in found if hasattr(found[name], "__code__")]


@pytest.mark.parametrize("function", _reading(), ids=lambda function: function.__name__)
def test_a_function_that_reads_what_it_fills_or_only_reads_changes_nothing(function):
    assert what(function) is None


def test_a_memoising_decorator_changes_nothing_but_what_it_decorates_may():
    def memoise(function):
        cache = {}

        @functools.wraps(function)
        def wrapper(*args):
            if args not in cache:
                cache[args] = function(*args)
            return cache[args]

        return wrapper

    items = []
    assert what(memoise(len)) is None
    assert what(memoise(lambda x: x)) is None
    assert what(memoise(lambda x: items.append(x))) == "items"


@functools.singledispatch
def dispatched(x):
    return x


# ------------------------------------------------------------ methods


class Meter:
    def __init__(self):
        self.calls = 0
        self.factor = 2
        self.fitted = None
        self.seen = []
        self.groups = {}

    def scale(self, x):
        y = x * self.factor
        self.calls += 1
        return y

    def note(self, x):
        self.seen.append(x * self.factor)
        self.groups[x] = x
        return x

    def __call__(self, x):
        self.calls += 1
        return x

    def fit(self, x):
        self.fitted = x
        return self

    def partial_fit(self, x):
        self.calls += 1
        return self

    def step(self, dt):
        self.factor += dt * self.calls
        self.calls += dt
        return self.factor

    def memoised(self, x):
        if x not in self.groups:
            self.groups[x] = x
        return self.groups[x]

    def run(self, count):
        for _ in range(count):
            self.calls += 1
            self.fit(count)
        return count

    @classmethod
    def of_the_class(cls, x):
        cls.made += 1
        return x


def test_a_method_that_only_counts_in_its_object_changes_it():
    meter = Meter()
    assert what(meter.scale) == "calls" and what(functools.partial(meter.scale, 2)) == "calls"
    assert what(meter) == "calls" and what(meter.note) == "groups"


def test_a_function_that_counts_in_an_object_that_it_closes_over_changes_it():
    meter = Meter()

    def count(x):
        meter.calls += 1
        meter.seen.append(x)
        return x * meter.factor

    def works(x):
        meter.calls += 1
        return meter.fit(x)

    def counted(x):
        counted.calls += 1
        return x

    counted.calls = 0
    assert what(count) == "meter.calls" and what(counted) == "counted.calls" and what(works) is None


@pytest.mark.parametrize("name", ["fit", "partial_fit", "step", "memoised", "run", "of_the_class"])
def test_a_method_that_works_on_its_object_changes_nothing(name):
    assert what(getattr(Meter(), name)) is None


# ------------------------------------------------------------ what never counts


def _counts_globally(x):
    global total
    total += 1
    seen.append(x)
    return x


def test_global_variables_never_count():
    assert what(_counts_globally) is None


@pytest.mark.parametrize(
    "function", [len, int, np.add, Meter, dispatched, [].append, "text", None, np.vectorize(abs)]
)
def test_neither_do_functions_without_code_of_python_nor_what_is_none(function):
    assert what(function) is None
