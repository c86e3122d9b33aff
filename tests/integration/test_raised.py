"""What a task raises that is hard to carry: result(), exception(), explain(), dependents and await agree about it."""

from __future__ import annotations

import asyncio
import dataclasses
import pickle
import re
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest

from pilot import PilotDescription, PilotManager, TaskDescription, TaskError
from pilot.errors import DependencyFailed, DescriptionError, NotPicklable, SessionError, WorkerDied

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PilotManager]:
    with PilotManager(tmp_path_factory.mktemp("session") / "s") as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1))
        yield manager


def no_set() -> None:
    class NoSet(Exception):
        def __setattr__(self, name: str, value: Any) -> None:
            raise AttributeError(f"read only: {name}")

    raise NoSet("the real reason")


def frozen_slots() -> None:
    @dataclasses.dataclass(frozen=True, slots=True)
    class FrozenSlots(Exception):
        text: str

    raise FrozenSlots("the real reason")


def odd_notes() -> None:
    class Noted(Exception):
        __notes__ = ()

    raise Noted("the real reason")


def own_text() -> None:
    class Code(Exception):
        def __init__(self, code: str) -> None:
            super().__init__(f"the real {code}")

    raise Code("reason")


def unreadable() -> None:
    class Unreadable(Exception):
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(f"{name} cannot be read")

    raise Unreadable("the real reason")


def no_text() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("the real reason")

        __repr__ = __str__

    raise Mute


def stop_iteration() -> None:
    raise StopIteration("the real reason")


def test_everybody_who_asks_is_told_the_same(manager: PilotManager) -> None:
    works = [no_set, frozen_slots, odd_notes, own_text, unreadable, stop_iteration, no_text]
    tasks = manager.submit_tasks(TaskDescription(function=work) for work in works)
    dependents = [manager.submit_task(print, task) for task in tasks]
    for work, task, dependent in zip(works, tasks, dependents, strict=True):
        own = TaskError if work in (unreadable, stop_iteration) else Exception
        with pytest.raises(own) as caught:
            task.result(60)
        error = task.exception()
        assert type(error).__name__ == type(caught.value).__name__
        if work is not no_text:
            assert "the real reason" in str(error)
            assert str(error).count("reason") == 1
        assert "it ended with" in manager.explain(task)
        assert "raise " in str(caught.value.__cause__) or work is unreadable
        with pytest.raises(DependencyFailed) as failed:
            dependent.result(60)
        assert type(failed.value.__cause__).__name__ == type(error).__name__
        if work is not no_text:  # asyncio itself asks for the text
            with pytest.raises(Exception) as awaited:
                asyncio.run(waited(task))
            assert type(awaited.value).__name__ == type(error).__name__


async def waited(task: Any) -> Any:
    return await asyncio.wait_for(task, 60)


def raises_in_turn(folder: str, *errors: Exception) -> int:
    """Each call raises the next of the errors, until there is none left."""
    calls = len(list(Path(folder).iterdir()))
    Path(folder, str(calls)).touch()
    if calls < len(errors):
        raise errors[calls]
    return calls


@pytest.mark.parametrize(
    ("wanted", "calls"),
    [
        (OSError, 3),  # also what is derived from it
        ([KeyError, TimeoutError, "ConnectionResetError"], 3),
        ("pilot.QPUUnavailable", 1),
        ([TaskError, ConnectionError], 2),
    ],
)
def test_only_some_errors_are_tried_again(manager: PilotManager, tmp_path: Path, wanted: Any, calls: int) -> None:
    errors = ConnectionResetError("first"), TimeoutError("second")
    described = TaskDescription(
        function=raises_in_turn, args=(str(tmp_path), *errors), retries=5, retry_on=wanted, retry_delay=0.01
    )
    task = manager.submit_task(described)
    if calls == 3:
        assert task.result(60) == 2
    else:
        with pytest.raises(type(errors[calls - 1])):
            task.result(60)
        assert "not tried again: retry_on is " in manager.explain(task)
    assert len(list(tmp_path.iterdir())) == calls


def test_a_wrong_rule_for_retries_is_refused() -> None:
    for wrong, text in (
        ({"retries": 1, "retry_on": 3}, "retry_on: 3 is not valid; expected exception classes or their names"),
        ({"retries": 1, "retry_on": [int]}, "<class 'int'> is neither"),
        ({"retries": 1, "retry_on": "int"}, "'int' is neither"),
        ({"retries": 1, "retry_on": "no name"}, "'no name' is neither"),
        ({"retries": 1, "retry_on": "ValueErorr"}, "did you mean 'ValueError'? A class that is called 'ValueErorr'"),
        (
            {"retries": 1, "retry_on": ["OSError", "pilot.TaskEror"]},
            "pilot has no 'TaskEror' (did you mean 'TaskError'?)",
        ),
        ({"retry_on": OSError}, "retries: 0 is not valid; expected at least 1 with retry_delay or retry_on"),
        ({"retries": 1, "retry_delay": -1}, "retry_delay: -1 is not valid; expected seconds of at least 0"),
    ):
        with pytest.raises(DescriptionError, match=re.escape(text)):
            TaskDescription(function=abs, **wrong)


class ValueErrors(Exception):
    """Nearly the name of another class."""


def test_names_of_errors_are_those_of_classes() -> None:
    given = ["IOError", "concurrent.futures.CancelledError", "ValueErrors", "elsewhere.ValueErorr", "NoClassOfHere"]
    expected = ("OSError", "concurrent.futures._base.CancelledError", *given[2:])
    assert TaskDescription(function=abs, retries=1, retry_on=given).retry_on == expected


async def slowly(number: int) -> tuple[int, int]:
    await asyncio.sleep(0.001)
    if number < 0:
        raise ValueError(number)
    return number, id(asyncio.get_running_loop())


def test_async_functions_run_in_one_loop_and_tasks_can_be_awaited(manager: PilotManager) -> None:
    async def main() -> None:
        both = await asyncio.gather(manager.submit_task(slowly, 1), manager.submit_task(slowly, 2))
        assert [number for number, _ in both] == [1, 2] and both[0][1] == both[1][1]
        with pytest.raises(ValueError, match="-1"):
            await manager.submit_task(slowly, -1)
        waiting = manager.submit_task(asyncio.sleep, 600)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiting, 0.2)
        assert waiting.cancelled()

    asyncio.run(main())
    mapped = manager.map(slowly, [3, -4, 5], chunksize=3)
    assert mapped[0][0] == 3 and mapped[2][0] == 5 and isinstance(mapped.exception(1), ValueError)


def test_errors_are_those_of_the_standard_library_too() -> None:
    assert issubclass(SessionError, RuntimeError)
    assert issubclass(WorkerDied, BrokenExecutor)
    assert issubclass(NotPicklable, pickle.PicklingError)
