"""The tree of errors: as drawn, and every one of them crosses processes with its data."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from pilot import errors
from pilot.errors import PilotError

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, PilotError)]
DATA = {"task": 3, "log_path": "/somewhere/agent.log", "given": {"a": [1, 2]}}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_survives_pickle(cls: type[PilotError]) -> None:
    for back in (pickle.loads(pickle.dumps(cls("what happened", **DATA))), copy.copy(cls("what happened", **DATA))):
        assert type(back) is cls
        assert str(back) == "what happened"
        assert back.data == DATA
        assert (back.task, back.log_path, back.given) == (3, "/somewhere/agent.log", {"a": [1, 2]})
        assert back.transient is cls.transient


def test_unknown_data_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'TaskError' object has no attribute 'colour'"):
        _ = errors.TaskError("x").colour


def test_the_tree_is_as_drawn() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ((?:│   |    )*)((?:├── |└── )?)(\w+)", line)
        if match is None or not match[3][0].isupper():
            continue
        depth = len(match[1]) // 4 + bool(match[2])
        path[depth:] = [match[3]]
        drawn[match[3]] = path[depth - 1] if depth else ""
    real = {cls.__name__: cls.__bases__[0].__name__ if cls is not PilotError else "" for cls in CLASSES}
    assert drawn == real


@pytest.mark.parametrize(
    "cls, builtin",
    [(errors.DescriptionError, ValueError), (errors.TaskTimeout, TimeoutError)],
    ids=["value", "timeout"],
)
def test_is_also_what_python_calls_it(cls: type[PilotError], builtin: type[Exception]) -> None:
    assert issubclass(cls, builtin)


def test_those_that_may_pass_are_marked() -> None:
    assert {cls.__name__ for cls in CLASSES if cls.transient} == {"PilotFailed", "QPUUnavailable", "WorkerDied"}


def test_an_invalid_value_is_named_in_one_form() -> None:
    error = errors.invalid("PilotDescription.ports", (0, 1), "two ports from 1 to 65535, first and last")
    assert (
        str(error) == "PilotDescription.ports: (0, 1) is not valid; expected two ports from 1 to 65535, first and last"
    )
    assert (type(error), error.field, error.given) == (errors.DescriptionError, "ports", (0, 1))
    other = errors.invalid("address", "x" * 99, "an address", errors.SessionError, shown="'x…'")
    assert (type(other), str(other)) == (errors.SessionError, "address: 'x…' is not valid; expected an address")


def test_a_long_value_is_shown_by_its_beginning_and_end() -> None:
    error = errors.invalid("TaskDescription.parameters", list(range(100_000)), "3 numbers")
    assert len(str(error)) < 400 and error.given == list(range(100_000))
    assert str(error).startswith("TaskDescription.parameters: [0, 1, 2,")
    assert str(error).endswith("99998, 99999] is not valid; expected 3 numbers")
