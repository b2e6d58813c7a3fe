"""Counting of references, without a raylet."""

import copy
import gc
import pickle

import pytest

from ray import _runtime
from ray._ref import ObjectRef, adopt
from ray._references import References
from ray._wire import session_pb2 as wire

A, B = b"a" * 28, b"b" * 28


def test_the_last_of_several_references_releases():
    references = References()
    references.own(A)
    first = adopt(A, references)
    references.borrow(A)
    second = adopt(A, references)
    del first
    gc.collect()
    assert references.drain() is None
    del second
    gc.collect()
    assert references.drain() == wire.References(released=A)
    assert not references.active()


def test_a_borrow_is_told_once():
    references = References()
    references.borrow(A)
    references.borrow(A)
    references.borrow(B)
    assert references.drain() == wire.References(held=A + B)
    assert references.drain() is None


def test_a_borrow_that_came_and_went_is_not_told():
    references = References()
    references.borrow(A)
    references.dropped.append(A)
    assert references.drain() is None


def test_a_reference_that_is_found_again_after_its_release_is_held_again():
    references = References()
    references.own(A)
    references.dropped.append(A)
    assert references.drain().released == A
    references.borrow(A)
    assert references.drain() == wire.References(held=A)


def test_views_of_one_object_are_unpinned_together():
    references = References()
    references.pins = 3
    references.unpinned.extend([A, B, A])
    assert references.drain() == wire.References(unpinned=A + B, unpin_counts=[2, 1])
    assert references.pins == 0


def test_a_reference_is_compared_and_hashed_by_its_id():
    references = References()
    first, second, other = adopt(A, references), adopt(A, references), adopt(B, references)
    assert first == second and hash(first) == hash(second) and first != other and first != A
    assert first.hex() == "61" * 28 and len(first.hex()) == 56 and first.binary() == A


def test_copies_are_the_reference_itself():
    ref = adopt(A, References())
    assert copy.copy(ref) is ref and copy.deepcopy([ref])[0] is ref


class _Session:
    def __init__(self, references):
        self.references = references
        self.lost, self.closed = None, False


def test_what_is_pickled_outside_of_raylet_is_held_until_the_session_ends(monkeypatch):
    references = References()
    monkeypatch.setattr(_runtime, "_session", _Session(references))
    references.borrow(A)
    ref = adopt(A, references)
    text = pickle.dumps([ref, ref])
    del ref
    assert references.drain() == wire.References(held=A)
    first, second = pickle.loads(text)
    assert first == second == adopt(A, References())
    del first, second
    references.drain()
    assert references.count(A) == 1
    assert pickle.loads(text)[0].binary() == A  # any number of times


def test_what_another_session_pickled_outside_of_raylet_is_refused(monkeypatch):
    text = pickle.dumps(adopt(A, References()))
    for session in (None, _Session(References())):
        monkeypatch.setattr(_runtime, "_session", session)
        with pytest.raises(RuntimeError, match="another process.*ray.put"):
            pickle.loads(text)


def test_so_many_references_may_be_pickled_outside_of_raylet(monkeypatch):
    monkeypatch.setattr("ray._references._KEPT_MAX", 1)
    references = References()
    pickle.dumps(adopt(A, references))
    pickle.dumps(adopt(A, references))
    with pytest.raises(TypeError, match="ray.put"):
        pickle.dumps(adopt(B, references))


def test_an_id_of_another_length_is_refused():
    with pytest.raises(ValueError, match="28 bytes"):
        ObjectRef(b"short", References())
