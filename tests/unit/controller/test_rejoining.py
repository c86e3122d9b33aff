"""What an attach makes of pilots and tasks."""

from __future__ import annotations

import pytest
from controller_steps import attempt

from pilot.descriptions import PilotDescription
from pilot.errors import ErrorCode
from pilot.resources import Node
from pilot.results import CANCELLED, OK, RAISED, TIMED_OUT, Outcome
from pilot.scheduling import events, pilots, queue
from pilot.scheduling.events import SendBatch, StartPilot, StopPilot
from pilot.states import PilotState, TaskState
from pilot.testing.world import World


def test_rejoin_reclaims_and_nothing_runs_twice(world: World) -> None:
    """The agent has two batches, one of them half done and not acknowledged; six other tasks were never sent."""
    world.pilot("p", ready=False, rejoins=True)
    assert StartPilot("p") not in world.commands
    tasks = world.submit(12)
    world.feed(events.Attached((1, 13)))
    world.tick(1)
    assert world.order == []
    assert "agents of the previous manager" in world.explain(tasks[0])
    world.feed(events.AgentJoined("p"))
    early = [Outcome(id, OK, 1.0, 0.001, b"value") for id in tasks[:3]]
    world.feed(events.OutcomesArrived("p", 41, "w", early))
    assert [world.outcomes[id] for id in tasks[:3]] == [OK] * 3
    world.batches["p"] = {41: tasks[3:4], 42: tasks[4:6]}
    world.feed(events.PilotReady("p", [Node("n", "h", 2, [], 2**30)], {41: tasks[3:4], 42: tasks[4:6]}))
    assert [world.state(id) for id in tasks[3:6]] == [TaskState.BOUND] * 3
    world.work_off()
    assert world.order == tasks[6:]
    assert world.settled == dict.fromkeys(tasks, 1)
    assert min(batch for batch in (one.batch for one in world.commands if isinstance(one, SendBatch))) > 42


@pytest.mark.parametrize("where", ["queued", "sent again"])
def test_a_failure_that_was_counted_before_an_attach_is_not_counted_again(world: World, where: str) -> None:
    world.pilot("p", ready=False, rejoins=True)
    (task,) = world.submit(retries=1)
    entry = world.tasks[task]
    entry.attempts, entry.retries = (attempt("it raised", 7),), 1
    world.feed(events.Attached((1, 2)))
    if where == "sent again":
        world.ready("p", {})
    again = events.OutcomesArrived("p", 7, "w", [Outcome(task, RAISED, 1.0, 0.001)])
    world.feed(again)
    assert world.settled[task] == 0
    if where == "queued":
        world.ready("p", {})
    world.feed(again)
    world.work_off()
    assert (world.order, world.outcomes) == ([task], {task: OK})


@pytest.mark.parametrize("status", [RAISED, TIMED_OUT, CANCELLED, OK])
def test_what_comes_late_of_an_attempt_that_was_lost(world: World, status: int) -> None:
    """A result counts, for it is right; what else became of the attempt does not: another one runs."""
    world.pilot("gone", cores=1)
    (task,) = world.submit()
    _, batch = world.where(task)
    world.pilot("here", cores=1)
    world.end("gone")
    assert world.pilot_of[task] == "here"
    world.feed(events.OutcomesArrived("gone", batch, "w", [Outcome(task, status, 1.0, 0.001)]))
    assert world.settled[task] == (status == OK)
    world.work_off(pilot="here")
    assert world.settled == {task: 1}
    assert world.outcomes == {task: OK}


def test_an_id_that_was_given_twice_is_not_mixed_up(world: World) -> None:
    """The manager before gave id 3 to a task that never came into the journal; its agent still has what became of it,
    and of another one with id 4."""
    world.pilot("p", ready=False, rejoins=True)
    known = world.submit(2)
    world.feed(events.Attached((1, 3)))
    new = world.submit(2)
    (old_outcome, right_outcome) = [Outcome(id, OK, 1.0, 0.001, b"old") for id in (3, 1)]
    world.feed(events.OutcomesArrived("p", 5, "w", [old_outcome, right_outcome]))
    assert (world.settled[new[0]], world.settled[known[0]]) == (0, 1)
    world.ready("p", {6: [2, 4]})
    world.batches["p"][6] = [2]
    assert world.tasks[2].batch == 6
    assert world.tasks[3].batch >> queue.GENERATION_BITS == 1
    assert world.state(4) is TaskState.QUEUED
    world.work_off()
    assert world.order == new
    assert world.settled == dict.fromkeys([*known, *new], 1)


def test_rejoin_with_a_failure_that_is_to_be_tried_again(world: World) -> None:
    world.pilot("p", ready=False, rejoins=True)
    (task,) = world.submit(retries=1)
    world.feed(events.OutcomesArrived("p", 7, "w", [Outcome(task, RAISED, 1.0, 0.001)]))
    assert world.settled[task] == 0
    world.ready("p", {})
    world.work_off()
    assert world.order == [task]
    assert world.settled == {task: 1}


def test_rejoin_of_a_pilot_that_is_gone(world: World) -> None:
    world.pilot("p", ready=False, rejoins=True)
    world.submit(3)
    world.end("p", "the agent is gone")
    assert StartPilot("p") in world.commands
    world.ready("p")
    world.work_off()
    assert world.settled == {1: 1, 2: 1, 3: 1}


def test_a_pilot_that_was_draining_drains_on(world: World) -> None:
    wanted = PilotDescription(cores_per_node=1, walltime=3600)
    world.feed(events.PilotAsked("p", wanted, 2**30, rejoins=True, draining=True))
    world.pilot("q", cores=1)
    has, other = world.submit(2)
    world.batches["p"] = {7: [has]}
    commands = world.ready("p", {7: [has]}, left=30.0)
    assert world.pilot_state("p") is PilotState.DRAINING
    assert StopPilot("p", drain=True) in commands
    assert world.pilot_of == {other: "q"}
    world.tick(31)
    assert world.pilot_state("p") is PilotState.DONE


def test_restarts_count_on(world: World) -> None:
    wanted = PilotDescription(cores_per_node=1, restarts=2)
    world.feed(events.PilotAsked("p", wanted, 2**30, rejoins=True, started_again=2))
    world.end()
    assert world.pilot_state() is PilotState.FAILED


def test_a_pilot_whose_job_is_not_known_and_does_not_report_is_started_again(world: World) -> None:
    wanted = PilotDescription(cores_per_node=1, restarts=1)
    world.feed(events.PilotAsked("p", wanted, 2**30, rejoins=True, job_known=False))
    (task,) = world.submit()
    commands = world.tick(pilots.REJOIN_SECONDS + 1)
    assert events.StartPilot("p") in commands
    assert world.pilot_state() is PilotState.QUEUED
    world.ready()
    assert world.state(task) is TaskState.BOUND


@pytest.mark.parametrize("joins", [True, False])
def test_a_pilot_whose_job_is_not_known_has_time_to_report(world: World, joins: bool) -> None:
    wanted = PilotDescription(cores_per_node=1, restarts=0)
    world.feed(events.PilotAsked("p", wanted, 2**30, rejoins=True, job_known=False))
    (task,) = world.submit()
    world.tick(pilots.REJOIN_SECONDS - 1)
    assert world.pilot_state() is PilotState.QUEUED
    if joins:
        world.feed(events.AgentJoined("p"))
    world.tick(2)
    if joins:
        world.ready()
        assert world.state(task) is TaskState.BOUND
    else:
        assert "the id of its job was not recorded" in next(
            one.reason
            for one in world.commands
            if isinstance(one, events.ChangePilot) and one.state is PilotState.FAILED
        )
        assert world.errors[task].error == ErrorCode.NO_PILOT


@pytest.mark.parametrize("comes", [True, False])
def test_after_an_attach_without_pilots_tasks_wait_for_one(world: World, comes: bool) -> None:
    world.feed(events.Attached())
    (task,) = world.submit()
    world.tick(pilots.REJOIN_SECONDS - 1)
    assert world.state(task) is TaskState.QUEUED
    if comes:
        world.pilot(ready=False)
    world.tick(2)
    assert (task in world.errors) is not comes


def test_who_is_cancelled_before_it_rejoins_is_not_waited_for(world: World) -> None:
    world.pilot("p")
    world.pilot("q", ready=False, rejoins=True)
    tasks = world.submit()
    assert world.order == []
    world.feed(events.PilotStopAsked("q", drain=False))
    assert world.order == tasks


def test_who_does_not_rejoin_is_not_waited_for_for_ever(world: World) -> None:
    world.pilot("gone", ready=False, rejoins=True)
    world.pilot("here", ready=False, rejoins=True)
    world.submit(3)
    world.ready("here")
    world.tick(pilots.REJOIN_SECONDS - 1)
    assert world.order == []
    world.tick(2)
    assert world.sent("here")
