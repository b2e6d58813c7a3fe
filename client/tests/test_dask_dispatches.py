"""Dask's dispatches in graphs, without a node."""

import pickle

import cloudpickle
import numpy as np
from dask.utils import Dispatch

import ray.util.dask  # noqa: F401


class Animal:
    pass


class Bird(Animal):
    pass


class Penguin(Bird):
    pass


def name_of_animal(animal):
    return "animal"


def name_of_bird(bird):
    return "bird"


def test_what_was_registered_travels_and_what_was_only_found_does_not():
    names = Dispatch("names")
    names.register(Animal, name_of_animal)
    names.register(Bird, name_of_bird)
    assert names(Penguin()) == "bird" and Penguin in names._lookup
    there = pickle.loads(cloudpickle.dumps(names))
    assert there._lookup == {Animal: name_of_animal, Bird: name_of_bird} and there.__name__ == "names"
    assert there(Penguin()) == "bird" and there(Animal()) == "animal"


def test_a_dispatch_that_was_asked_about_a_class_without_a_name_travels():
    sizes = Dispatch("sizes")
    sizes.register(object, len)
    assert sizes.dispatch(type(np.dtype("int64"))) is len  # numpy.dtype[int64]: nobody finds it by this name
    assert pickle.loads(cloudpickle.dumps(sizes))("four") == 4


def test_what_registers_itself_when_it_is_needed_still_does():
    sizes = Dispatch("sizes")
    sizes.register_lazy("numpy", _register_arrays)
    there = pickle.loads(cloudpickle.dumps(sizes))
    assert list(there._lazy) == ["numpy"]


def _register_arrays():
    pass
