"""Tasks that are cancelled, wherever they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pilot.results import CANCELLED, OK, RAISED
from pilot.scheduling import events
from pilot.scheduling.events import SendCancel
from pilot.states import TaskState
from pilot.testing.world import World


def running(world: World) -> int:
    (task,) = world.submit()
    world.feed(events.TaskStarted("p", "w", task, 1.5))
    assert world.state(task) is TaskState.RUNNING
    return task


def waiting(world: World) -> int:
    (first,) = world.submit()
    return world.submit(needs={first: True})[0]


def queued(world: World) -> int:
    return world.submit(10)[-1]


def bound(world: World) -> int:
    return world.submit()[0]


@pytest.mark.parametrize("make", [waiting, queued], ids=["waiting", "queued"])
def test_cancel_of_what_no_pilot_has(world: World, make: Callable[[World], int]) -> None:
    world.pilot()
    task = make(world)
    commands = world.feed(events.CancelAsked([task]))
    assert world.outcomes[task] == CANCELLED
    assert not [one for one in commands if isinstance(one, SendCancel)]
    world.work_off()
    assert world.settled[task] == 1
    assert task not in world.order


@pytest.mark.parametrize("make", [bound, running], ids=["bound", "running"])
@pytest.mark.parametrize("end", ["obeyed", "lost", "given back", "finished before", "pilot died"])
def test_cancel_of_what_a_pilot_has(world: World, make: Callable[[World], int], end: str) -> None:
    world.pilot()
    task = make(world)
    assert SendCancel("p", [task]) in world.feed(events.CancelAsked([task]))
    assert world.settled[task] == 0  # until it is confirmed
    if end == "obeyed":
        world.finish([task], status=CANCELLED)
    elif end == "finished before":
        world.finish([task])
    elif end == "pilot died":
        world.end()
    else:
        world.lose(task, blame=end == "lost")
    assert world.outcomes == {task: OK if end == "finished before" else CANCELLED}
    assert world.settled == {task: 1}
    assert world.feed(events.CancelAsked([task])) == []


def test_a_cancelled_task_that_raises_is_not_tried_again(world: World) -> None:
    world.pilot()
    (task,) = world.submit(retries=5)
    world.feed(events.CancelAsked([task]))
    world.finish([task], status=RAISED)
    assert world.outcomes == {task: RAISED}
