"""Retries, lost attempts, and which task is blamed."""

from __future__ import annotations

import msgspec
import pytest
from controller_steps import attempt

from pilot.errors import ErrorCode
from pilot.results import CANCELLED, OK, RAISED, UNWRITTEN, Failure, Outcome
from pilot.scheduling import events, queue
from pilot.scheduling.events import RecordAttempt, StartPilot
from pilot.states import PilotState, TaskState
from pilot.testing.world import World, measured


def unwritten(task: int, size: int = 100) -> Outcome:
    failure = Failure(None, "SessionError", "the result cannot be written", "", size=size)
    return Outcome(task, UNWRITTEN, 1.0, 0.001, msgspec.msgpack.encode(failure))


def test_a_result_without_room_uses_no_retry_and_runs_again_when_there_is_room(world: World) -> None:
    world.pilot(cores=1)
    task, other = world.submit(2, measured(1.0), retries=0)
    for size in (100, 70):
        pilot, batch = world.where(task)
        del world.batches[pilot][batch]
        commands = world.feed(events.OutcomesArrived(pilot, batch, "w", [unwritten(task, size)]))
        ran = {"started": 1.0, "ended": 1.001}
        assert RecordAttempt(world.tasks[task], "p", "the result cannot be written", batch, **ran) in commands
        world.tasks[task].attempts = (attempt("the result cannot be written", batch),)
        assert world.controller.queue.without_room == {world.tasks[task]: size}
        assert "waits until there is room for its result: the result cannot be written" in world.explain(task)
        world.work_off()
        world.tick(100)
        assert world.sent() == []
        world.feed(events.RoomSeen())
        assert (world.controller.queue.without_room, world.sent()) == ({}, [[task]])
    world.work_off()
    assert world.outcomes == {task: OK, other: OK}
    assert world.tasks[task].retries == 0


def test_a_result_that_never_has_room_ends_the_task(world: World) -> None:
    world.pilot(cores=1)
    (task,) = world.submit(retries=3)
    for number in range(queue.LOSSES):
        assert world.settled[task] == 0, number
        _, batch = world.where(task)
        del world.batches["p"][batch]
        world.feed(events.OutcomesArrived("p", batch, "w", [unwritten(task)]))
        world.feed(events.RoomSeen())
    assert (world.settled, world.outcomes) == ({task: 1}, {task: RAISED})
    assert world.tasks[task].retries == 0


@pytest.mark.parametrize("when", ["while it runs", "while it waits", "by a close"])
def test_a_result_without_room_and_a_cancel(world: World, when: str) -> None:
    world.pilot(cores=1)
    (task,) = world.submit()
    (after,) = world.submit(needs={task: True})
    cancel = events.Closed() if when == "by a close" else events.CancelAsked([task])
    if when == "while it runs":
        world.feed(cancel)
    world.feed(events.OutcomesArrived("p", 1, "w", [unwritten(task)]))
    if when != "while it runs":
        world.feed(cancel)
    assert world.outcomes[task] == CANCELLED
    assert world.settled == {task: 1, after: 1}
    world.feed(events.RoomSeen())
    assert not world.controller.queue.without_room


def test_retries_then_failure(world: World) -> None:
    world.pilot()
    (task,) = world.submit(retries=2)
    for _ in range(2):
        world.finish([task], status=RAISED)
        assert world.state(task) is TaskState.BOUND
    world.finish([task], status=RAISED)
    assert world.outcomes == {task: RAISED}
    assert [type(one) for one in world.commands].count(RecordAttempt) == 2


def test_a_retry_waits_twice_as_long_as_the_one_before(world: World) -> None:
    world.pilot(cores=1)
    task, other = world.submit(1, retries=3, retry_delay=10) + world.submit(1)
    for seconds in (10, 20, 40):
        world.finish([task], status=RAISED)
        assert world.state(task) is TaskState.QUEUED
        world.tick(seconds - 0.5)
        assert "may begin in 0.5 s" in world.controller.explain(world.tasks[task], world.now)
        if world.state(other) is TaskState.BOUND:
            world.finish([other])  # meanwhile the slot is for others
        world.tick(0.5)
        assert world.state(task) is TaskState.BOUND
    world.finish([task], status=RAISED)
    assert world.outcomes == {task: RAISED, other: OK}


def test_a_task_that_waits_for_its_retry_can_be_cancelled(world: World) -> None:
    world.pilot(cores=1)
    (task,) = world.submit(retries=1, retry_delay=10)
    world.finish([task], status=RAISED)
    world.feed(events.CancelAsked([task]))
    assert world.outcomes == {task: CANCELLED}
    world.tick(20.0)
    assert world.order == [task]
    (late,) = world.submit(retries=1, retry_delay=10)
    world.finish([late], status=RAISED)
    world.feed(events.Closing())
    assert world.outcomes[late] == CANCELLED


def test_a_lost_attempt_uses_no_retry(world: World) -> None:
    world.pilot()
    (task,) = world.submit(retries=1)
    world.lose(task)
    assert (world.tasks[task].retries, world.tasks[task].losses) == (0, 1)
    world.finish([task], status=RAISED)
    assert world.state(task) is TaskState.BOUND
    world.finish([task])
    assert world.outcomes == {task: OK}


def test_a_lost_attempt_has_the_time_when_it_began(world: World) -> None:
    world.pilot(cores=2)
    running, bound = world.submit(2, measured(1.0))
    world.feed(events.TaskStarted("p", "w", running, 7.5))
    assert world.tasks[bound].worker is None
    world.end()
    lost = {one.entry.id: one.started for one in world.commands if isinstance(one, RecordAttempt)}
    assert lost == {running: 7.5, bound: None}


def test_tasks_of_a_dead_worker_run_alone_and_the_culprit_fails(world: World) -> None:
    world.pilot(cores=1)
    tasks = world.submit(40, measured(0.001))
    victims = world.sent()[0]
    culprit = victims[3]
    assert len(victims) > 5
    world.lose(culprit)
    assert all(world.tasks[id].runs_alone for id in victims)
    while any(world.sent()):
        batch = world.sent()[0]
        assert len(batch) == 1 or not set(batch) & set(victims)
        if culprit in batch:
            world.lose(culprit)
        else:
            world.finish(list(batch))
    assert world.errors[culprit].error == ErrorCode.WORKER_DIED
    assert world.tasks[culprit].deaths == queue.DEATHS_ALONE
    assert {id for id in tasks if world.outcomes.get(id) == OK} == set(tasks) - {culprit}
    assert set(world.settled.values()) == {1}


def test_what_was_given_back_is_not_blamed_and_goes_first(world: World) -> None:
    world.pilot(cores=1)
    world.submit(400, measured(0.001))
    first = world.sent()[0]
    world.lose(first[0], blame=False)
    assert not any(world.tasks[id].runs_alone or world.tasks[id].losses for id in first)
    assert not [one for one in world.commands if isinstance(one, RecordAttempt)]
    assert world.sent()[-1][0] == first[0]


def test_a_task_whose_pilots_die_again_and_again_fails_in_the_end(world: World) -> None:
    world.pilot(restarts=100)
    (task,) = world.submit()
    for _ in range(queue.LOSSES - 1):
        world.end()
        world.ready()
        assert world.state(task) is TaskState.BOUND
    world.end()
    assert world.errors[task].error == ErrorCode.WORKER_DIED


def test_tasks_of_a_dead_pilot_go_elsewhere_in_order(world: World) -> None:
    world.pilot("a", cores=2, restarts=0)
    tasks = world.submit(6)
    world.end("a")
    # the only pilot failed: no hope for the tasks
    assert {world.errors[id].error for id in tasks} == {ErrorCode.NO_PILOT}

    world.pilot("b", cores=2, restarts=1)
    tasks = world.submit(6)
    world.end("b")
    assert world.pilot_state("b") is PilotState.QUEUED
    assert world.commands.count(StartPilot("b")) == 2
    world.order.clear()
    world.ready("b")
    world.work_off(1.0, "b")
    assert world.order == tasks


def test_a_pilot_that_cannot_start(world: World) -> None:
    world.pilot(ready=False, restarts=2)
    (task,) = world.submit()
    for _ in range(3):
        assert world.state(task) is TaskState.QUEUED
        world.end(reason="its job cannot be started")
    assert world.pilot_state() is PilotState.FAILED
    assert world.errors[task].error == ErrorCode.NO_PILOT
    assert "p is failed" in world.errors[task].reason
