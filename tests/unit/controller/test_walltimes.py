"""Walltimes of pilots and of tasks, and successors."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from pilot.errors import ErrorCode
from pilot.interfaces import JobState
from pilot.results import CANCELLED, OK
from pilot.scheduling import events, pilot_records, queue
from pilot.scheduling.events import AskPilot, RecordAttempt, StopPilot
from pilot.states import PilotState, TaskState, is_final
from pilot.testing.world import World, measured

# ---- walltime --------------------------------------------------------------------------------------------------------


#: How the only pilot comes to serve no queued task any more.
STRANDS: dict[str, Callable[[World], object]] = {
    "drained": lambda world: world.feed(events.PilotStopAsked("p", drain=True)),
    "cancelled": lambda world: world.feed(events.PilotStopAsked("p", drain=False)),
    "ended": lambda world: world.end("p", how=JobState.EXPIRED),
    "cancelled from outside": lambda world: world.end("p", how=JobState.CANCELLED),
    "too little time left": lambda world: world.ready(left=99.0),
}


@pytest.mark.parametrize("strand", STRANDS)
@pytest.mark.parametrize("wait", [0.0, 60.0, None])
def test_tasks_that_no_pilot_can_serve_any_more_wait_for_another(strand: str, wait: float | None) -> None:
    world = World(wait)
    world.pilot(cores=1)
    world.submit()
    queued = world.submit(3, expected_duration=100)
    (after,) = world.submit(needs={queued[0]: True})
    STRANDS[strand](world)
    world.tick(1)
    waits = [one for one in world.commands if isinstance(one, events.WarnUnservable)]
    if wait == 0:
        assert {world.errors[id].error for id in queued} == {ErrorCode.NO_PILOT}
        assert world.links[after].first == queued[0]
        assert waits == []
        return
    assert len(waits) == 1
    assert waits[0].tasks in (3, 4)  # the one that ran may have been given back
    assert waits[0].seconds == wait
    assert "waits for another pilot: p " in world.explain(queued[0])
    assert ("s unless one is submitted" in world.explain(queued[0])) == (wait is not None)
    world.tick(50)
    assert not any(world.settled[id] for id in (*queued, after))
    world.pilot("late", cores=1, ready=False)
    world.tick(50)  # it counts while it is pending
    assert "late is queued" in world.explain(queued[0])
    world.ready("late")
    for pilot in ("p", "late"):
        world.work_off(pilot=pilot)
    assert world.settled == dict.fromkeys(world.tasks, 1)
    assert set(world.outcomes.values()) == {OK}
    assert len([one for one in world.commands if isinstance(one, events.WarnUnservable)]) == 1


def test_tasks_that_come_after_the_close_are_cancelled() -> None:
    world = World(None)
    world.pilot()
    world.feed(events.Closed())
    tasks = world.submit(2)
    (after,) = world.submit(needs={tasks[0]: True})
    assert world.outcomes == dict.fromkeys((*tasks, after), CANCELLED)


def test_a_wait_for_another_pilot_ends() -> None:
    world = World(60.0)
    world.pilot(cores=1)
    queued = world.submit(3)
    world.feed(events.PilotStopAsked("p", drain=False))
    world.tick(59)
    assert not world.errors
    world.pilot("late", restarts=0, ready=False)
    world.tick(30)
    world.end("late")  # the wait begins again
    world.tick(59)
    assert not world.errors
    world.tick(2)
    assert {world.errors[id].error for id in queued} == {ErrorCode.NO_PILOT}
    reason = world.errors[queued[0]].reason
    assert reason.startswith("p is cancelled; late is failed")
    assert reason.endswith("; no other pilot came within 60 s")


def test_a_pilot_drains_before_its_walltime_is_over(world: World) -> None:
    """Ten minutes, of which it drains for one: what runs goes on until the end, and then elsewhere at no cost."""
    world.pilot("short", walltime=600, cores=2)
    running, given = world.submit(2)
    world.pilot("long", cores=2)
    world.tick(539)
    assert world.pilot_state("short") is PilotState.ACTIVE
    commands = world.tick(2)
    assert StopPilot("short", drain=True) in commands
    assert world.pilot_state("short") is PilotState.DRAINING
    world.lose(given, blame=False)
    assert world.pilot_of[given] == "long"
    world.submit(5)
    assert world.tick(58) == []
    assert world.sent("short") == [[running]]
    world.batches.pop("short")
    commands = world.tick(2)
    assert StopPilot("short", drain=False) in commands
    assert events.ChangePilot("short", PilotState.DONE, "its walltime is over") in commands
    entry = world.tasks[running]
    assert (entry.losses, entry.retries, entry.runs_alone) == (0, 0, False)
    assert RecordAttempt(entry, "short", "the pilot's walltime was over", batch=1) in commands
    world.work_off(1.0, "long")
    assert world.settled == dict.fromkeys(world.tasks, 1)


def test_walltimes_that_end_under_a_task_never_fail_it(world: World) -> None:
    (task,) = (world.pilot("keeps-it-hopeful", ready=False), world.submit())[1]
    for number in range(2 * queue.LOSSES):
        world.pilot(f"p{number}", walltime=60)
        assert world.pilot_of[task] == f"p{number}"
        world.batches.clear()
        world.tick(61)
    assert world.settled[task] == 0


def test_the_agent_knows_best_how_much_time_is_left(world: World) -> None:
    world.pilot("by-site", ready=False)
    world.ready("by-site", left=600.0)
    world.tick(530)
    assert world.pilot_state("by-site") is PilotState.ACTIVE
    world.ready("by-site", left=30.0)  # drains for a tenth of the 600 s
    world.tick()
    assert world.pilot_state("by-site") is PilotState.DRAINING
    world.tick(30)
    assert world.pilot_state("by-site") is PilotState.DONE


def test_a_pilot_that_the_user_drains_ends_with_its_walltime_too(world: World) -> None:
    world.pilot(walltime=60)
    world.submit()
    world.feed(events.PilotStopAsked("p", drain=True))
    world.tick(61)
    assert world.pilot_state() is PilotState.DONE
    assert StopPilot("p", drain=False) in world.commands


def test_walltime_begins_anew_when_a_pilot_is_started_again(world: World) -> None:
    world.pilot(walltime=600)
    world.tick(300)
    world.end()
    world.tick(1000)
    assert world.pilot_state() is PilotState.QUEUED
    world.ready()
    world.tick(539)
    assert world.pilot_state() is PilotState.ACTIVE


def test_an_announced_end_drains(world: World) -> None:
    world.pilot(walltime=600)
    world.tick(500)
    assert StopPilot("p", drain=True) in world.feed(events.PilotExpiring("p", "SIGUSR1"))
    world.end(how=JobState.TAKEN)
    assert world.pilot_state() is PilotState.DONE


@pytest.mark.parametrize("how", [JobState.TAKEN, JobState.ENDED])
@pytest.mark.parametrize("walltime", [36000, None])
def test_a_preemption_that_was_announced_is_no_end(world: World, how: JobState, walltime: int | None) -> None:
    world.pilot(walltime=walltime, restarts=0)
    world.feed(events.PilotExpiring("p", "SIGTERM"))
    assert world.pilot_state() is PilotState.DRAINING
    world.end(how=how)
    assert world.pilot_state() is PilotState.QUEUED
    world.ready()
    (task,) = world.submit()
    assert world.state(task) is TaskState.BOUND


def test_a_task_with_a_walltime_is_not_sent_ahead_when_time_is_short(world: World) -> None:
    """20 s are left and 19.9 are needed: it starts at once or nowhere, alone in its batch."""
    world.pilot("short", walltime=600, cores=1, drain=1)
    world.tick(580)
    ids = world.submit(3, measured(0.01), expected_duration=19.9)
    assert world.sent("short") == [ids[:1]]
    (plain,) = world.submit(1, measured(0.01, 2), priority=1)
    world.tick(0.2)
    assert {world.errors[id].error for id in ids[1:]} == {ErrorCode.NO_PILOT}
    assert world.state(plain) is TaskState.BOUND


def test_with_ample_time_tasks_with_a_walltime_are_sent_ahead(world: World) -> None:
    world.pilot(walltime=600, cores=1)
    world.submit(100, measured(0.01), expected_duration=60)
    assert [len(tasks) for tasks in world.sent()] == [5] * pilot_records.PREFETCH_DEPTH


def test_the_measured_mean_serves_where_no_walltime_is_given(world: World) -> None:
    world.pilot("short", walltime=600, cores=2, drain=1)
    world.tick(500)
    (long,) = world.submit(1, measured(80.0))
    assert world.state(long) is TaskState.QUEUED
    (brief,) = world.submit(1, measured(20.0, 2), priority=-1)
    assert world.pilot_of[brief] == "short"  # who waits for time keeps nobody from the cores
    world.pilot("long")
    assert world.pilot_of[long] == "long"


def test_a_task_that_takes_nearly_all_of_a_walltime_starts_on_a_fresh_pilot(world: World) -> None:
    world.pilot(walltime=600)
    (task,) = world.submit(1, measured(550.0))
    assert world.state(task) is TaskState.BOUND


@pytest.mark.parametrize("seed", range(6))
def test_no_task_starts_where_its_walltime_does_not_fit(world: World, seed: int) -> None:
    """Pilots come and expire; tasks take exactly their walltime, one after the other on each core."""
    dice = random.Random(seed)
    late: list[int] = []
    world.pilot("endless", cores=1)
    begun: dict[int, float] = {}
    for number in range(6):
        world.pilot(f"p{number}", cores=1, walltime=dice.uniform(60, 240), drain=1)
        for seconds in dice.choices([1, 5, 20, 60], k=12):
            mean = 0.24 if seconds == 1 else seconds * 0.9
            world.submit(dice.randint(1, 30 // seconds + 1), measured(mean, seconds), expected_duration=seconds)
        for _ in range(400):
            world.tick(0.5)
            for pilot, batches in list(world.batches.items()):
                known = world.controller.pilots.by_id[pilot]
                if is_final(known.state):
                    late += [id for tasks in batches.values() for id in tasks]
                    del world.batches[pilot]
                elif batches:
                    first = next(iter(batches.values()))[0]
                    seconds = world.tasks[first].terms.duration or 0.0
                    if (
                        world.now >= begun.setdefault(first, world.now) + seconds - 0.5
                    ):  # it was there since the last step
                        world.finish([first], 0.24 if seconds == 1 else seconds * 0.9)
    assert late == []
    assert set(world.pilot_of.values()) == set(world.controller.pilots.by_id)


# ---- renewal ---------------------------------------------------------------------------------------------------------


def test_a_successor_is_asked_for_in_time_and_serves_the_family(world: World) -> None:
    """The pilot waited 100 s in the queue, drains for 60 s: its successor is asked for 210 s before its end."""
    world.pilot("a", name="alpha", walltime=3600, renewals=2, ready=False)
    world.tick(100)
    world.ready("a")
    world.tick(3600 - 215)
    assert world.asked == []
    world.tick(10)
    (asked,) = world.asked
    assert (asked.description.name, asked.description.renewals, asked.parent) == ("alpha.2", 1, "a")
    assert asked.ancestors == ("a", "alpha")
    world.tick(100)
    assert len(world.asked) == 1
    world.grant("b", ready=False)
    tasks = world.submit(2, pilot="alpha") + world.submit(2, pilot="a") + world.submit(1, pilot="alpha.2")
    assert world.pilot_of == dict.fromkeys(tasks[:2], "a")
    world.batches.clear()
    world.tick(200)
    assert world.pilot_state("a") is PilotState.DONE
    world.ready("b")
    world.work_off(1.0, "b")
    assert world.settled == dict.fromkeys(tasks, 1)
    assert set(world.outcomes.values()) == {OK}
    world.tick(3600)
    (last,) = world.asked
    assert (last.description.name, last.description.renewals) == ("alpha.3", 0)
    assert last.ancestors == ("a", "alpha", "b", "alpha.2")
    world.grant("c")
    world.tick(3600)
    assert world.asked == []
    assert world.pilot_state("c") is PilotState.DONE


def test_tasks_wait_for_a_successor_from_the_first_moment(world: World) -> None:
    """The job expires before anybody expected it: nothing fails while its successor is on its way."""
    world.pilot("a", walltime=3600, renewals=1)
    (task,) = world.submit()
    commands = world.end("a", "TIMEOUT", JobState.EXPIRED)
    kinds = [type(one) for one in commands]
    assert kinds.index(AskPilot) < kinds.index(events.ChangePilot)
    world.tick(1)
    assert world.state(task) is TaskState.QUEUED
    world.grant("b", ready=False)
    world.tick(1)
    world.ready("b")
    assert world.pilot_of[task] == "b"
    assert world.asked == []


def test_a_task_that_needs_more_time_than_is_left_waits_for_the_successor(world: World) -> None:
    world.pilot("a", walltime=3600, renewals=1)
    world.tick(3000)
    (long,) = world.submit(expected_duration=3000)
    (never,) = world.submit(expected_duration=3601)
    world.tick(1)
    assert world.state(long) is TaskState.QUEUED
    assert "a successor of a has 3600 s of walltime left, but 3601 s are needed" in world.errors[never].reason
    world.tick(510)
    world.grant("b")
    assert world.pilot_of[long] == "b"


@pytest.mark.parametrize("end", ["failed", "cancelled", "drained", "job cancelled"])
def test_who_ends_for_good_has_no_successor(world: World, end: str) -> None:
    world.pilot(walltime=3600, renewals=1, restarts=0)
    (task,) = world.submit()
    if end == "failed":
        world.end()
    elif end == "job cancelled":
        world.end(how=JobState.CANCELLED)
    else:
        world.feed(events.PilotStopAsked("p", drain=end == "drained"))
    world.tick(3601)
    assert world.asked == []
    assert world.errors[task].error == ErrorCode.NO_PILOT
