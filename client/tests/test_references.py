"""Counting of references, without a raylet."""

import copy
import gc
import pickle

import pytest

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


def test_pickling_outside_of_raylet_is_an_error_that_says_what_to_do():
    with pytest.raises(TypeError, match="ray.put"):
        pickle.dumps(adopt(A, References()))


def test_an_id_of_another_length_is_refused():
    with pytest.raises(ValueError, match="28 bytes"):
        ObjectRef(b"short", References())
