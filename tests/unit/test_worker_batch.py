"""A batch in its worker: what two threads see of it."""

from __future__ import annotations

import pytest

from pilot.resources import SLOT
from pilot.results import OK, Outcome
from pilot.wire import messages
from pilot.worker.batch import HeldBatch


def held(tasks: int) -> HeldBatch:
    numbers = list(range(1, tasks + 1))
    run = messages.RunBatch(1, SLOT, numbers, ["f"], ["f"], 0.2, False, 0.0)
    return HeldBatch(
        run, messages.BatchBody([messages.Work(number, 0, None) for number in numbers], {}), [("f", b"code")]
    )


@pytest.mark.parametrize("done", range(4))
def test_only_tasks_that_have_not_begun_are_given_back(done: int) -> None:
    """Also when all are over, and the main thread has not removed the batch yet."""
    batch = held(3)
    assert batch.begin() == 0
    for task in range(1, done + 1):
        batch.step(Outcome(task, OK, 0.0, 0.0))
    given_back = batch.give_back()
    assert given_back == [task for task in (1, 2, 3) if task > done + 1]
    assert batch.unfinished() == ([done + 1] if done < 3 else [])
    assert batch.give_back() == []


def test_all_are_given_back_before_the_first_begins() -> None:
    batch = held(2)
    assert batch.give_back() == [1, 2]
    assert batch.begin() is None
    assert batch.unfinished() == []
