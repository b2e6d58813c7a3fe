"""Warnings of tasks on their way to the driver, without a node."""

import pickle
import warnings

import pytest

from ray._warned import TaskWarning, Warned
from ray._wire import session_pb2 as wire


def brought(text, *other_lines):
    warning = TaskWarning(text, "UserWarning", "/there/task.py", 7, pickle.dumps(UserWarning(text)))
    return wire.OutputLines(lines=[*other_lines, warning.to_line()], task_name="task", pid=5, is_error=True)


@pytest.fixture
def printed():
    return []


def shows(printed):
    return [(line, frame.task_name, frame.pid) for frame in printed for line in frame.lines]


def test_what_comes_while_something_is_computed_is_issued_once_at_its_end(printed):
    warned = Warned()
    with pytest.warns(UserWarning) as caught:
        with warned.delivered():
            for _ in range(2):
                warned.take(brought("odd", "hello"), printed.append)
            assert not caught
    assert [str(one.message) for one in caught] == ["odd"] and caught[0].lineno == 7
    assert shows(printed) == [("hello", "task", 5)] * 2


def test_what_came_before_a_computation_is_issued_at_its_end(printed):
    warned = Warned()
    warned.take(brought("of a persisted task"), printed.append)
    with pytest.warns(UserWarning, match="persisted"):
        with warned.delivered():
            warned.print_unless_computing()
    warned.print_unless_computing()
    assert not printed


def test_what_nobody_asked_for_is_printed_when_the_process_is_quiet(printed):
    warned = Warned()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warned.take(brought("odd"), printed.append)
        warned.print_unless_computing()
        with warned.delivered():
            pass
    assert shows(printed) == [("/there/task.py:7: UserWarning: odd", "task", 5)]


def test_lines_without_a_warning_are_passed_on_as_they_are(printed):
    lines = wire.OutputLines(lines=["a", "b"])
    Warned().take(lines, printed.append)
    assert printed == [lines] and printed[0] is lines
