"""How pilots end, and what becomes of their tasks; commands that cannot be carried out."""

from __future__ import annotations

import pytest
from controller_steps import chain_of, scale

from pilot.errors import ErrorCode
from pilot.interfaces import JobState
from pilot.results import CANCELLED, OK, RAISED, Outcome
from pilot.scheduling import events, pilots, queue
from pilot.scheduling.events import AskPilot, RecordAttempt, SendBatch, SendCancel, StartPilot, StopPilot
from pilot.states import PilotState, TaskState, is_final
from pilot.testing.world import World

# ---- the end of pilots -----------------------------------------------------------------------------------------------


def test_drain(world: World) -> None:
    world.pilot("a")
    world.pilot("b")
    world.submit(100)
    has, given = world.sent("a")[0][0], world.sent("a")[1][0]
    assert StopPilot("a", drain=True) in world.feed(events.PilotStopAsked("a", drain=True))
    assert world.pilot_state("a") is PilotState.DRAINING
    world.lose(given, blame=False)
    world.finish([has])
    assert world.sent("a") == []
    world.end("a", "the agent ended with code 0")
    assert world.pilot_state("a") is PilotState.DONE
    world.work_off(pilot="b")
    assert set(world.outcomes.values()) == {OK}
    assert len(world.outcomes) == 100


def test_cancel_of_a_pilot(world: World) -> None:
    world.pilot("a")
    tasks = world.submit(4)
    world.feed(events.PilotStopAsked("a", drain=False))
    assert world.pilot_state("a") is PilotState.CANCELLED
    assert {world.errors[id].reason for id in tasks} == {"a is cancelled"}
    assert world.end("a") == []


@pytest.mark.parametrize("end", ["cancelled", "its walltime is over"])
def test_what_a_pilot_that_ends_hands_over_counts(world: World, end: str) -> None:
    world.ends_at_once = False
    world.pilot("a", walltime=60, drain=0)
    done, interrupted, given, silent = world.submit(4, num_cpus=0.5)
    world.pilot("b")
    batches = {task: world.where(task)[1] for task in (done, interrupted, given, silent)}
    if end == "cancelled":
        world.feed(events.PilotStopAsked("a", drain=False))
    else:
        world.tick(61)
    assert is_final(world.pilot_state("a")) and world.sent("b") == []
    world.finish([done])
    world.feed(events.AttemptsLost("a", batches[given], "w", [given], "given back", False))
    world.feed(events.AttemptsLost("a", batches[interrupted], "w", [interrupted], "the pilot was ended", False, True))
    assert silent not in [task for some in world.sent("b") for task in some]
    world.end("a")
    world.work_off(pilot="b")
    assert set(world.outcomes.values()) == {OK} and world.settled == dict.fromkeys(world.tasks, 1)
    assert [len(world.tasks[task].attempts) for task in (done, given)] == [0, 0]
    lost = [one.entry.id for one in world.commands if isinstance(one, RecordAttempt)]
    assert sorted(lost) == [interrupted, silent]


def test_closed(world: World) -> None:
    world.pilot("a")
    world.pilot("b", ready=False)
    tasks = world.submit(5)
    (after,) = world.submit(needs={tasks[0]: True})
    world.feed(events.Closed())
    world.pilot("late", ready=False)
    assert world.pilot_state("late") is PilotState.DONE
    assert StartPilot("late") not in world.commands
    assert [world.outcomes[id] for id in (*tasks, after)] == [CANCELLED] * 6
    assert {world.pilot_state("a"), world.pilot_state("b")} == {PilotState.DONE}
    assert world.feed(events.OutcomesArrived("a", 1, "w", [Outcome(tasks[0], OK, 0, 0)])) == []


def test_what_pilots_hand_over_while_the_manager_closes_counts(world: World) -> None:
    world.pilot("a", cores=4)
    (done, raised), (again, back) = world.submit(2), world.submit(2, retries=1)
    (queued,) = world.submit(priority=-1)
    batches = {id: world.where(id)[1] for id in (done, raised, again, back)}
    world.feed(events.Closing())
    assert world.outcomes == {queued: CANCELLED}
    for id, status in ((done, OK), (raised, RAISED), (again, RAISED)):
        world.feed(events.OutcomesArrived("a", batches[id], "w", [Outcome(id, status, 0, 0)]))
    world.feed(events.AttemptsLost("a", batches[back], "w", [back], "the pilot was ended", False))
    assert world.outcomes == {queued: CANCELLED, done: OK, raised: RAISED, again: CANCELLED, back: CANCELLED}
    world.feed(events.Closed())
    assert world.settled == dict.fromkeys(world.tasks, 1)


# ---- ends told apart -------------------------------------------------------------------------------------------------


def test_a_pilot_that_the_site_takes_away_starts_again_at_no_cost(world: World) -> None:
    world.pilot(restarts=0)
    (task,) = world.submit()
    for _ in range(pilots.TIMES_TAKEN):
        world.end(reason="preempted", how=JobState.TAKEN)
        assert world.pilot_state() is PilotState.QUEUED
        world.ready()
        assert world.state(task) is TaskState.BOUND
    assert (world.tasks[task].losses, world.tasks[task].runs_alone) == (0, False)
    attempts = [one for one in world.commands if isinstance(one, RecordAttempt)]
    assert [one.reason for one in attempts] == ["preempted"] * pilots.TIMES_TAKEN
    world.end(reason="preempted", how=JobState.TAKEN)
    assert world.pilot_state() is PilotState.FAILED


def test_a_pilot_whose_job_expires_is_done_and_its_tasks_move_on(world: World) -> None:
    world.pilot("a", restarts=2)
    tasks = world.submit(2)
    world.pilot("b")
    world.end("a", "TIMEOUT", JobState.EXPIRED)
    assert world.pilot_state("a") is PilotState.DONE
    assert world.commands.count(StartPilot("a")) == 1
    assert [world.pilot_of[id] for id in tasks] == ["b", "b"]
    assert [world.tasks[id].losses for id in tasks] == [0, 0]
    reasons = [one.reason for one in world.commands if isinstance(one, RecordAttempt)]
    assert reasons == ["the pilot's walltime was over"] * 2


def test_a_job_that_somebody_cancels_cancels_its_pilot(world: World) -> None:
    world.pilot(restarts=2)
    (task,) = world.submit()
    commands = world.end(reason="CANCELLED by 1000", how=JobState.CANCELLED)
    assert events.ChangePilot("p", PilotState.CANCELLED, "CANCELLED by 1000") in commands
    assert "p is cancelled" in world.errors[task].reason
    assert world.commands.count(StartPilot("p")) == 1


@pytest.mark.parametrize("how", [JobState.ENDED, JobState.EXPIRED, JobState.TAKEN])
def test_a_pilot_that_was_draining_is_done_however_it_ends(world: World, how: JobState) -> None:
    world.pilot(restarts=2)
    world.feed(events.PilotStopAsked("p", drain=True))
    world.end(how=how)
    assert world.pilot_state() is PilotState.DONE


# ---- commands that cannot be carried out -----------------------------------------------------------------------------


def fail(world: World, kind: type[events.Command], error: str = "MemoryError: no room") -> list[events.Command]:
    """The last command of this kind could not be carried out."""
    command = next(one for one in reversed(world.commands) if isinstance(one, kind))
    return world.feed(events.CommandFailed(command, error))


def test_a_batch_that_could_not_be_sent_is_tried_again_and_fails_in_the_end(world: World) -> None:
    world.pilot(cores=1)
    (task,) = world.submit()
    for number in range(queue.LOSSES):
        assert world.sent() == [[task]], number
        world.batches.clear()
        fail(world, SendBatch)
    assert world.errors[task].error == ErrorCode.PILOT_ERROR
    assert world.errors[task].reason == "it could not be sent: MemoryError: no room"
    assert world.settled == {task: 1}
    assert fail(world, SendBatch) == []


def test_a_pilot_whose_job_could_not_be_made_is_tried_again_and_fails_in_the_end(world: World) -> None:
    world.pilot(ready=False, restarts=1)
    (task,) = world.submit()
    fail(world, StartPilot)
    assert world.pilot_state() is PilotState.QUEUED
    commands = fail(world, StartPilot)
    reason = "its job cannot be started: MemoryError: no room"
    assert events.ChangePilot("p", PilotState.FAILED, reason) in commands
    assert world.errors[task].error == ErrorCode.NO_PILOT
    assert fail(world, StartPilot) == []


@pytest.mark.parametrize("scaled", [False, True], ids=["a successor", "an autoscaler's"])
def test_a_pilot_that_could_not_be_asked_for_is_not_waited_for(world: World, scaled: bool) -> None:
    if scaled:
        scale(world, delay=0)
        (task,) = world.submit()
        for _ in range(3):  # then the autoscaler is paused
            world.tick(1)
            world.tick(1)
            fail(world, AskPilot)
        assert [one for one in world.commands if isinstance(one, events.PauseScaling)]
    else:
        world.pilot(walltime=60, renewals=1)
        (task,) = world.submit()
        world.end("p", "TIMEOUT", JobState.EXPIRED)
        assert world.state(task) is TaskState.QUEUED
        fail(world, AskPilot)
    assert world.errors[task].error == ErrorCode.NO_PILOT


def test_tasks_whose_end_could_not_be_recorded_fail(world: World) -> None:
    world.pilot(cores=1)
    first, second = world.submit(2)
    (after,) = world.submit(needs={first: False})
    world.finish([first])
    commands = fail(world, events.Settle)
    assert commands == [events.Fail([world.tasks[first]], ErrorCode.PILOT_ERROR, commands[0].reason)]  # type: ignore[attr-defined]
    assert "its end could not be recorded: MemoryError: no room" in world.errors[first].reason
    assert fail(world, events.Fail) == []  # no end of it
    world.work_off()
    assert {id: world.outcomes.get(id) for id in (second, after)} == {second: OK, after: OK}


def test_dependents_whose_end_could_not_be_recorded_fail(world: World) -> None:
    world.pilot(cores=1)
    chain = chain_of(world, 3)
    world.finish(chain[:1], status=RAISED)
    fail(world, events.FailDependents)
    assert set(world.errors) == set(chain[1:])


@pytest.mark.parametrize("kind", [StopPilot, events.ChangePilot, SendCancel, RecordAttempt, events.WarnUnservable])
def test_what_no_task_hangs_on_is_only_lost(kind: type[events.Command]) -> None:
    world = World(60.0)
    world.pilot(cores=1)
    world.submit(2, retries=1)
    world.finish([1], status=RAISED)
    world.feed(events.CancelAsked([2]))
    world.feed(events.PilotStopAsked("p", drain=False))
    world.tick(1)
    assert fail(world, kind) == []
