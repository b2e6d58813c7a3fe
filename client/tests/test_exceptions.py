"""Errors that are of two classes."""

import pickle
import sys

import pytest

from ray import exceptions
from ray.exceptions import RayTaskError


class WithArguments(Exception):
    def __init__(self, code, detail):
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Unusual(Exception):
    def __init__(self, *, needed):
        self.needed = needed


@pytest.mark.parametrize(
    "cause",
    [ValueError("x"), KeyError("k"), WithArguments(3, "d"), Unusual(needed=1), StopIteration(5),
     FileNotFoundError(2, "no such", "name"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")],
)
def test_a_task_error_is_of_its_causes_class_too(cause):
    error = RayTaskError("f", "Traceback: here\nboom", cause, None, 7).as_instanceof_cause()
    assert isinstance(error, RayTaskError) and isinstance(error, type(cause))
    assert error.cause is cause and error.args == cause.args
    assert "boom" in str(error) and "f()" in str(error) and "pid=7" in str(error)
    for name, value in vars(cause).items():
        assert getattr(error, name) == value
    back = pickle.loads(pickle.dumps(error))
    assert isinstance(back, type(cause)) and str(back) == str(error)


def test_what_a_class_keeps_in_its_own_slots_can_be_read():
    error = RayTaskError("f", "", FileNotFoundError(2, "no such", "name")).as_instanceof_cause()
    assert (error.errno, error.strerror, error.filename) == (2, "no such", "name")


def test_a_cause_that_is_no_exception_class_to_inherit_from_stays_the_cause():
    error = RayTaskError("f", "tb", SystemExit(3)).as_instanceof_cause()
    assert type(error) is RayTaskError and error.cause.code == 3


def test_the_same_class_is_made_once():
    first = RayTaskError("f", "", ValueError()).as_instanceof_cause()
    second = RayTaskError("g", "", ValueError()).as_instanceof_cause()
    assert type(first) is type(second)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no exception groups")
def test_an_exception_group_can_be_caught_by_its_members():
    group = ExceptionGroup("several", [ValueError("a"), KeyError("b")])  # noqa: F821
    error = RayTaskError("f", "tb", group).as_instanceof_cause()
    assert isinstance(error, ExceptionGroup) and len(error.exceptions) == 2  # noqa: F821


@pytest.mark.parametrize(
    "name, parent",
    [("GetTimeoutError", TimeoutError), ("ActorAlreadyExistsError", ValueError),
     ("ActorHandleNotFoundError", ValueError), ("ReferenceCountingAssertionError", AssertionError),
     ("ActorDiedError", exceptions.RayActorError), ("ObjectFreedError", exceptions.ObjectLostError),
     ("WorkerCrashedError", exceptions.RayError), ("TaskCancelledError", exceptions.RayError)],
)
def test_errors_have_rays_parents(name, parent):
    assert issubclass(getattr(exceptions, name), parent)
    assert issubclass(getattr(exceptions, name), exceptions.RayError)
    assert name in exceptions.__all__


def test_another_of_the_same_class_can_be_made_with_a_text_of_ones_own():
    error = RayTaskError("f", "tb", ValueError("inner"), None, 7).as_instanceof_cause()
    other = type(error)("outer text")  # as in `raise type(error)(f"...: {error}") from error`
    assert isinstance(other, ValueError) and str(other) == "outer text" and other.args == ("outer text",)
    assert other.cause is None and other.pid is None and "outer text" in repr(other) + str(other)


def test_an_error_can_speak_as_its_cause():
    error = RayTaskError("f", "Traceback: here\nboom", KeyError("k"), None, 7).as_instanceof_cause()
    error.speak_as_cause()
    assert str(error) == str(KeyError("k")) and error.traceback_str.endswith("boom")
