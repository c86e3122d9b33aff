"""What a task raises that is hard to carry: result(), exception(), explain(), dependents and await agree about it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from pilot import PilotDescription, PilotManager, TaskDescription, TaskError
from pilot.errors import DependencyFailed

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
    return await asyncio.wait_for(asyncio.wrap_future(task), 60)
