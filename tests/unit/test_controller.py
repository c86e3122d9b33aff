"""The controller: events in, commands out. No process, no time passes."""

from __future__ import annotations

import itertools
import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pilot.descriptions import PilotDescription
from pilot.errors import ErrorCode
from pilot.interfaces import JobState
from pilot.resources import Node
from pilot.results import CANCELLED, OK, RAISED, TIMED_OUT, UNWRITTEN, Attempt, Failure, Outcome
from pilot.scheduling import events, lanes, pilot_records, pilots, queue
from pilot.scheduling.batches import BATCH_TASKS
from pilot.scheduling.events import AskPilot, RecordAttempt, SendBatch, SendCancel, StartPilot, StopPilot
from pilot.scheduling.policies import Scaling
from pilot.scheduling.records import FunctionRecord
from pilot.states import PilotState, TaskState, is_final
from pilot.testing.world import World, measured


@pytest.fixture
def world() -> World:
    return World()


# ---- late binding, credit and batches -------------------------------------------------------------------------


def test_nothing_is_sent_before_a_pilot_is_ready(world: World) -> None:
    world.pilot(ready=False)
    world.submit(3)
    assert world.sent() == []
    world.feed(events.AgentJoined("p"))
    assert world.pilot_state() is PilotState.STARTING
    assert world.sent() == []
    world.ready()
    assert world.pilot_state() is PilotState.ACTIVE
    assert world.sent() == [[1], [2]]


def test_an_unknown_function_goes_one_a_batch_and_one_a_slot(world: World) -> None:
    world.pilot(cores=3)
    world.submit(100)
    assert world.sent() == [[1], [2], [3]]


#: id: (seconds a task, tasks in a batch, batches a slot): 50 ms of work, some ahead while they are short
SIZES = {
    "1 ms": (0.001, 50, pilot_records.PREFETCH_DEPTH),
    "10 ms": (0.01, 5, pilot_records.PREFETCH_DEPTH),
    "100 ms": (0.1, 1, pilot_records.PREFETCH_DEPTH),
    "1 s: not sent ahead": (1.0, 1, 1),
    "1 us: at most BATCH_TASKS": (1e-6, BATCH_TASKS, pilot_records.PREFETCH_DEPTH),
}


@pytest.mark.parametrize("seconds, size, batches", SIZES.values(), ids=SIZES)
def test_batch_size_follows_measured_time(world: World, seconds: float, size: int, batches: int) -> None:
    world.pilot(cores=2)
    world.submit(100_000 if seconds < 0.001 else 10_000, measured(seconds))
    assert [len(tasks) for tasks in world.sent()] == pytest.approx(
        [size] * batches * 2, abs=size // 50
    )  # sums of floats


def test_batch_size_adapts(world: World) -> None:
    world.pilot(cores=1)
    world.submit(100_000)
    assert world.sizes[-1] == 1
    world.finish_batch(seconds=0.005)
    assert world.sizes[-1] == 10  # 50 ms / 5 ms
    for _ in range(60):
        world.finish_batch(seconds=0.001)
    assert world.sizes[-1] == pytest.approx(50, abs=1)


def test_the_tail_shrinks(world: World) -> None:
    """200 tasks of 1 ms on 2 slots would be 4 batches of 50; towards the end each slot still gets its share."""
    world.pilot(cores=2)
    world.submit(200, measured(0.001))
    world.work_off()
    assert world.sizes == sorted(world.sizes, reverse=True)
    assert world.sizes[-1] <= 3
    assert sum(world.sizes) == 200


def test_a_pilot_that_joins_late_gets_work_at_once(world: World) -> None:
    world.pilot("a", cores=2)
    world.submit(1000, measured(0.01))
    world.pilot("b", cores=2)
    assert len(world.sent("b")) == 2 * pilot_records.PREFETCH_DEPTH


def test_credit_survives_fractions(world: World) -> None:
    """0.1 + 0.2 is not 0.3: what is left of such sums must not look like a core in use."""
    world.pilot(cores=2)
    for share in (0.1, 0.2, 0.3, 0.7):
        world.submit(40, num_cpus=share)
    world.work_off(seconds=1.0)
    assert len(world.settled) == 160
    (both,) = world.submit(num_cpus=2)
    assert world.state(both) is TaskState.BOUND


def test_fractions_share_a_core(world: World) -> None:
    world.pilot(cores=1)
    world.submit(5, num_cpus=0.25)
    assert len(world.sent()) == 4


def test_a_task_of_two_cores_waits_for_both_and_is_not_overtaken_for_ever(world: World) -> None:
    world.pilot(cores=2)
    short = measured(0.01)
    world.submit(200, short)
    (both,) = world.submit(num_cpus=2, function=FunctionRecord(2, "other", "other"), priority=1)
    late = world.submit(2000, short)
    for _ in range(10):
        if world.state(both) is not TaskState.QUEUED:
            break
        world.finish_batch(0.01)
    assert world.state(both) is TaskState.BOUND
    assert world.state(late[-1]) is TaskState.QUEUED


@pytest.mark.parametrize("seconds", [None, 10.0], ids=["unknown", "long"])
def test_a_long_task_of_higher_priority_is_next(world: World, seconds: float | None) -> None:
    """Short tasks are sent ahead, long ones only to a free slot: the short ones must not take every slot for ever."""
    world.pilot(cores=2)
    world.submit(2000, measured(0.01))
    function = FunctionRecord(2, "other", "other") if seconds is None else measured(seconds, 2)
    urgent = world.submit(2, function, priority=1)
    for _ in range(2 * pilot_records.PREFETCH_DEPTH):
        world.finish_batch(0.01)
    assert [world.state(id) for id in urgent] == [TaskState.BOUND] * 2


def test_who_waits_for_a_gpu_keeps_nobody_from_the_cores(world: World) -> None:
    world.pilot(cores=2, gpus_per_node=1)
    world.submit(2, num_gpus=1, num_cpus=0.5)
    assert len(world.sent()) == 1
    (plain,) = world.submit()
    assert world.state(plain) is TaskState.BOUND


@pytest.mark.parametrize("seconds", [0.01, 10.0], ids=["short", "long"])
def test_who_waits_for_all_gpus_gets_them(world: World, seconds: float) -> None:
    """One by one the GPUs come free: later tasks of one GPU must not take them for ever."""
    world.pilot(cores=4, gpus_per_node=2)
    world.submit(2, measured(seconds), num_gpus=1, num_cpus=0.5)
    (both,) = world.submit(1, measured(seconds, 2), num_gpus=2, num_cpus=0.5)
    late = world.submit(2000, measured(seconds), num_gpus=1, num_cpus=0.5)
    for _ in range(4):
        if world.state(both) is not TaskState.QUEUED:
            break
        world.finish_batch(seconds)
    assert world.state(both) is TaskState.BOUND
    assert world.state(late[-1]) is TaskState.QUEUED
    (plain,) = world.submit()
    assert world.state(plain) is TaskState.BOUND


def test_order_of_submission(world: World) -> None:
    world.pilot(cores=1)
    ids = world.submit(30)
    world.work_off(seconds=1.0)
    assert world.order == ids


def test_priority_goes_first(world: World) -> None:
    world.pilot(cores=1)
    (first,) = world.submit()
    low, high, middle = world.submit(priority=-1), world.submit(priority=5), world.submit()
    world.work_off(seconds=1.0)
    assert world.order == [first, *high, *middle, *low]


# ---- which pilot ----------------------------------------------------------------------------------------------


def test_the_faster_pilot_is_preferred(world: World) -> None:
    """Pilot b takes four times as long for the same work; what it gets is about a fifth."""
    world.pilot("a", cores=1)
    world.pilot("b", cores=1)
    world.submit(4000)
    clock = {"a": 0.0, "b": 0.0}
    seconds = {"a": 0.001, "b": 0.004}
    while any(world.batches.values()):
        pilot = min((one for one in clock if world.batches.get(one)), key=clock.__getitem__)
        tasks = list(next(iter(world.batches[pilot].values())))
        clock[pilot] += seconds[pilot] * len(tasks)
        world.finish(tasks, seconds[pilot])
    share = Counter(world.pilot_of.values())
    assert share["a"] + share["b"] == 4000
    assert share["b"] / 4000 == pytest.approx(0.2, abs=0.05)
    assert world.controller.pilots.by_id["a"].slowness < world.controller.pilots.by_id["b"].slowness


def test_the_pilot_asked_for(world: World) -> None:
    world.pilot("a", name="alpha")
    world.pilot("b", labels=["x"])
    named, by_id, labelled = world.submit(pilot="alpha"), world.submit(pilots=["b"]), world.submit(labels=["x"])
    assert [world.pilot_of[id] for id in (*named, *by_id, *labelled)] == ["a", "b", "b"]


def test_too_little_walltime(world: World) -> None:
    world.pilot("short", walltime=60)
    (task,) = world.submit(expected_duration=61)
    assert world.state(task) is TaskState.QUEUED
    world.tick()
    assert "short has 60 s of walltime left, but 61 s are needed" in world.errors[task].reason
    (fits,) = world.submit(expected_duration=59)
    assert world.pilot_of[fits] == "short"


def test_walltime_runs_out(world: World) -> None:
    world.pilot("short", walltime=60)
    world.pilot("long")
    tasks = world.submit(10)
    world.tick(61)
    assert world.pilot_state("short") is PilotState.DONE
    assert StopPilot("short", drain=False) in world.commands
    world.batches.pop("short")
    world.work_off(pilot="long")
    assert [world.outcomes[id] for id in tasks] == [OK] * 10


# ---- dependencies ---------------------------------------------------------------------------------------------


def test_a_dependent_waits_and_gets_the_value(world: World) -> None:
    world.pilot()
    one, two = world.submit(2)
    (after,) = world.submit(needs={one: True, two: False})
    assert world.state(after) is TaskState.WAITING
    assert world.explain(after) == f"waits for the tasks that it depends on: {one}, {two}"
    world.finish([one])
    assert world.state(after) is TaskState.WAITING
    world.finish([two])
    assert world.state(after) is TaskState.BOUND
    assert world.tasks[after].values == {one: b"value"}
    world.finish([after])
    assert world.tasks[after].values is None


def test_a_failure_runs_down_the_chain(world: World) -> None:
    world.pilot()
    chain = world.submit()
    for _ in range(4):
        chain += world.submit(needs={chain[-1]: True})
    (bystander,) = world.submit()
    world.finish(chain[:1], status=RAISED)
    assert world.outcomes == {chain[0]: RAISED}
    for links, (before, id) in enumerate(itertools.pairwise(chain), 1):
        failure = world.links[id]
        assert (failure.cause, failure.first, failure.links) == (before, chain[0], links)
        assert f"task {before} (work), which failed" in failure.reason
    assert world.state(bystander) is TaskState.BOUND


def chain_of(world: World, links: int, **fields: Any) -> list[int]:
    chain = world.submit(**fields)
    for _ in range(links):
        chain += world.submit(needs={chain[-1]: True})
    return chain


def lose_twice(world: World, head: int) -> None:
    for _ in range(3):
        world.lose(head)


def end_the_pilot(world: World, head: int) -> None:
    world.feed(events.PilotStopAsked("p", drain=False))


LINKS = 3 * sys.getrecursionlimit()
WAYS = {
    "the head fails": lambda world, head: world.finish([head], status=RAISED),
    "the head is cancelled while it runs": lambda world, head: world.finish([head], status=CANCELLED),
    "the head is cancelled": lambda world, head: world.feed(events.CancelAsked([head])),
    "the head kills its workers": lose_twice,
    "no pilot is left": end_the_pilot,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_long_chain_ends_with_its_head(world: World, way: str) -> None:
    world.pilot(cores=1, ready=way != "the head is cancelled")
    chain = chain_of(world, LINKS)
    WAYS[way](world, chain[0])
    assert world.settled == dict.fromkeys(chain, 1)
    last = world.links[chain[-1]]
    assert (last.cause, last.first, last.links) == (chain[-2], chain[0], LINKS)
    assert not world.controller.queue.tasks


def test_a_long_chain_is_worked_off(world: World) -> None:
    world.pilot(cores=1)
    chain = chain_of(world, LINKS)
    world.work_off()
    assert world.order == chain
    assert world.settled == dict.fromkeys(chain, 1)


def test_diamonds_and_fans_fail_once_each(world: World) -> None:
    """Five layers in which each task needs all of the layer before, and a fan of the last one."""
    world.pilot()
    layers = [world.submit(1)]
    for width in (20, 20, 1, 2000):
        layers.append([world.submit(needs=dict.fromkeys(layers[-1], True))[0] for _ in range(width)])
    world.finish(layers[0], status=RAISED)
    for links, layer in enumerate(layers):
        for task in layer:
            assert world.settled[task] == 1
            assert not links or (world.links[task].first, world.links[task].links) == (layers[0][0], links)


def test_the_nearest_of_two_causes_counts(world: World) -> None:
    world.pilot()
    far = chain_of(world, 3)
    (near,) = world.submit()
    (last,) = world.submit(needs={far[-1]: True, near: True})
    world.feed(events.OutcomesArrived("p", 1, "w", []))
    world.finish([near], status=RAISED)
    assert (world.links[last].first, world.links[last].links) == (near, 1)
    world.finish(far[:1], status=RAISED)
    assert world.settled == dict.fromkeys(world.tasks, 1)


def test_two_dependencies_fail_and_the_dependent_once(world: World) -> None:
    world.pilot()
    one, two = world.submit(2)
    (after,) = world.submit(needs={one: True, two: True})
    world.finish([one], status=RAISED)
    world.finish([two], status=RAISED)
    assert world.settled == {one: 1, two: 1, after: 1}


def test_a_cancelled_dependency(world: World) -> None:
    world.pilot(ready=False)
    (one,) = world.submit()
    (after,) = world.submit(needs={one: True})
    world.feed(events.CancelAsked([one]))
    assert "which was cancelled" in world.links[after].reason


# ---- retries, lost attempts, blame ----------------------------------------------------------------------------


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
        assert RecordAttempt(world.tasks[task], "p", "the result cannot be written", batch) in commands
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


# ---- cancel ---------------------------------------------------------------------------------------------------


def running(world: World) -> int:
    (task,) = world.submit()
    world.feed(events.TaskStarted("p", "w", task))
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


# ---- the end of pilots ----------------------------------------------------------------------------------------


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


# ---- ends told apart --------------------------------------------------------------------------------------------


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


# ---- walltime -------------------------------------------------------------------------------------------------


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


# ---- renewal ----------------------------------------------------------------------------------------------------


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


# ---- autoscaling (when to do what: test_scaling.py) ---------------------------------------------------------------


def scale(world: World, name: str | None = None, **settings: Any) -> None:
    wanted = PilotDescription(cores_per_node=2, name=name, restarts=0)
    world.feed(events.ScalingAsked("s", Scaling(description=wanted, **settings), 2**30))


def test_pilots_come_with_the_tasks_and_go_without(world: World) -> None:
    scale(world, "grown", maximum=2, idle=60, delay=5)
    tasks = world.submit(7, pilot="grown")
    (never,) = world.submit(num_cpus=3)
    world.tick(4)
    assert world.asked == []
    assert "another grown has 2 cores, but 3 are needed" in world.errors[never].reason
    world.tick(5)
    world.tick(1)
    assert [one.description.name for one in world.asked] == ["grown.2", "grown.3"]
    world.grant("a")
    world.grant("b", ready=False)
    for _ in range(20):
        world.tick(1)
    assert world.asked == []  # one on its way, and two at most
    world.ready("b")
    assert len(world.batches) == 2
    for pilot in "abababab":
        world.work_off(1.0, pilot)
    assert set(world.outcomes) == set(tasks)
    for _ in range(59):
        assert world.tick(1) == []
    commands = [*world.tick(1), *world.tick(1)]
    assert {StopPilot("a", drain=True), StopPilot("b", drain=True)} <= {
        one for one in commands if isinstance(one, StopPilot)
    }


def test_pilots_that_do_not_start_pause_the_autoscaler(world: World) -> None:
    scale(world, delay=0)
    (task,) = world.submit()
    for number in range(3):
        assert world.state(task) is TaskState.QUEUED
        world.tick(1)
        world.tick(1)
        world.grant(f"p{number}", ready=False)
        world.end(f"p{number}", "no such partition")
    (paused,) = [one for one in world.commands if isinstance(one, events.PauseScaling)]
    assert "3 of its pilots in a row did not start, the last one because no such partition" in paused.reason
    assert world.errors[task].error == ErrorCode.NO_PILOT
    world.tick(100)
    assert world.asked == []


def test_an_autoscaler_that_is_stopped(world: World) -> None:
    scale(world, minimum=2)
    world.grant("a")
    late = world.asked[0]
    world.feed(events.ScalingStopAsked("s", drain=True))
    assert world.pilot_state("a") is PilotState.DRAINING
    assert late is not None
    world.grant("b", ready=False)
    assert world.pilot_state("b") is PilotState.DONE
    assert StartPilot("b") not in world.commands


# ---- nodes and MPI ----------------------------------------------------------------------------------------------


def nodes(*cores: int) -> list[Node]:
    return [Node(f"node-{number}", "h", each, [], 2**30) for number, each in enumerate(cores)]


def test_an_mpi_task_takes_all_its_cores_and_is_not_sent_ahead(world: World) -> None:
    world.pilot(cores=4, number_of_nodes=2)
    fast = measured(0.01)
    one, two, three = world.submit(3, fast, ranks=4)
    assert world.sent() == [[one], [two]]
    assert world.controller.pilots.by_id["p"].used_cores == 8
    world.finish([one])
    assert world.state(three) is TaskState.BOUND
    (beside,) = world.submit(1, fast, num_cpus=3)
    world.finish([two])
    assert world.state(beside) is TaskState.BOUND
    world.work_off()
    assert world.controller.pilots.by_id["p"].used_cores == 0


def test_an_mpi_task_is_not_overtaken_for_ever(world: World) -> None:
    world.pilot(cores=2)
    world.submit(200, measured(0.01))
    (both,) = world.submit(ranks=2, function=measured(0.01, 2), priority=1)
    for _ in range(10):
        if world.state(both) is TaskState.BOUND:
            break
        world.finish_batch(0.01)
    assert world.state(both) is TaskState.BOUND


def test_nodes_that_have_not_joined_yet_are_waited_for(world: World) -> None:
    world.pilot(cores=4, number_of_nodes=2, ready=False)
    (small,), (wide,) = world.submit(), world.submit(ranks=8)
    world.ready(nodes=nodes(4))
    world.tick()
    assert [world.state(small), world.state(wide)] == [TaskState.BOUND, TaskState.QUEUED]
    world.finish([small])
    world.ready(nodes=nodes(4, 4))
    assert world.state(wide) is TaskState.BOUND


def test_nodes_that_are_lost_are_not_waited_for(world: World) -> None:
    world.pilot(cores=4, number_of_nodes=2, ready=False)
    world.ready(nodes=nodes(4, 4))
    world.ready(nodes=nodes(4))
    (wide,) = world.submit(ranks=8)
    world.tick()
    assert "p has room for 4 such ranks, but 8 are needed" in world.errors[wide].reason


# ---- attach ---------------------------------------------------------------------------------------------------


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


def attempt(reason: str, batch: int) -> Attempt:
    return Attempt(number=1, pilot="p", worker="w", reason=reason, ended=1.0, batch=batch)


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


# ---- commands that cannot be carried out ----------------------------------------------------------------------


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


# ---- events and placing ----------------------------------------------------------------------------------------


def test_events_are_handled_together_and_tasks_are_sent_once(world: World) -> None:
    world.pilot(cores=2)
    tasks = world.submit(4, measured(1.0))
    commands: list[events.Command] = []
    for batch, ids in world.batches["p"].items():
        outcomes = [Outcome(id, OK, 1.0, 1.0) for id in ids]
        world.controller.handle(events.OutcomesArrived("p", batch, "w", outcomes), world.now, commands)
    assert [type(one) for one in commands] == [events.Settle] * 2
    sent = world.controller.schedule(world.now)
    assert [[one.id for one in command.entries] for command in sent if isinstance(command, SendBatch)] == [[3], [4]]
    assert world.controller.schedule(world.now) == []
    assert [world.state(id) for id in tasks[2:]] == [TaskState.BOUND] * 2


#: What breaks the state of a controller, and what `validate` says.
BROKEN: dict[str, tuple[Callable[[World], object], str]] = {
    "twice in a lane": (lambda world: lane(world).insert(lane(world).head), "queued twice"),
    "in no lane": (lambda world: lane(world).pop(), "is in no lane"),
    "in no batch": (lambda world: world.controller.pilots.by_id["p"].take(1), "not its batch"),
    "over and queued": (lambda world: world.controller.queue.tasks.pop(3), "is queued and over"),
    "cores in use": (lambda world: setattr(world.controller.pilots.by_id["p"], "used_cores", 7), "7 cores are in use"),
    "waits for nothing": (lambda world: setattr(world.tasks[4], "blockers", set()), "waits for nothing"),
    "an empty batch": (lambda world: world.controller.pilots.by_id["p"].sent[1].entries.clear(), "batch 1 is empty"),
}


def lane(world: World) -> lanes.Lane:
    return next(iter(world.controller.queue.lanes.values()))


@pytest.mark.parametrize("breaks, words", BROKEN.values(), ids=BROKEN)
def test_a_state_that_cannot_be_is_noticed(world: World, breaks: Callable[[World], object], words: str) -> None:
    world.pilot(cores=2)
    world.submit(3)
    world.submit(needs={1: True})
    world.controller.validate()
    breaks(world)
    with pytest.raises(AssertionError, match=words):
        world.controller.validate()


# ---- words ----------------------------------------------------------------------------------------------------


def test_explain(world: World) -> None:
    world.pilot("a", cores=1)
    world.pilot("b", cores=1, ready=False)
    tasks = world.submit(4)
    assert world.explain(tasks[0]) == "a was the only suitable pilot with room"
    assert world.explain(tasks[2]) == (
        "waits in the queue behind 1 task: a can run it, but has no room now; b is queued"
    )
    (named,) = world.submit(pilot="b")
    assert world.explain(named) == (
        "waits: no active pilot can run it now; a is not among the requested pilots (b); b is queued"
    )
    world.ready("b")
    assert "only suitable pilot" in world.explain(tasks[1])


def test_explain_says_what_the_resource_manager_says(world: World) -> None:
    world.pilot(ready=False)
    (task,) = world.submit()
    world.feed(events.JobSeen("p", "Priority"))
    assert world.explain(task) == "waits: no active pilot can run it now; p is queued (Priority)"
    world.ready()
    world.end()
    assert world.explain(task) == "waits: no active pilot can run it now; p is queued"


def test_explain_counts_those_of_higher_priority(world: World) -> None:
    world.pilot(cores=1)
    world.submit(3)
    (low,) = world.submit(priority=-1)
    world.submit(5, priority=7)
    assert "behind 7 tasks" in world.explain(low)


# ---- at random ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [1, 7])
@pytest.mark.parametrize("seed", range(8))
def test_every_task_settles_exactly_once(world: World, seed: int, together: int) -> None:
    """Workers and pilots die, tasks raise, are given back and cancelled, pilots join, drain and end; at the end one
    pilot lives on and works everything off."""
    dice = random.Random(seed)
    world.together = together
    functions = [measured(0.002, 1), measured(0.05, 2), FunctionRecord(3, "d", "unknown"), measured(2.0, 4)]
    world.pilot("keeper", cores=2, restarts=10**6, gpus_per_node=1)
    others = 0

    def submit() -> None:
        fields: dict[str, Any] = {"retries": dice.choice([0, 0, 2]), "priority": dice.choice([0, 0, 0, 3])}
        fields["num_cpus"] = dice.choice([1, 1, 1, 0.3, 2])
        fields["num_gpus"] = dice.choice([0, 0, 0, 0.5])
        if world.tasks and dice.random() < 0.3:
            chosen = dice.sample(sorted(world.tasks), min(3, len(world.tasks)))
            good = [id for id in chosen if not is_final(world.state(id))]
            fields["needs"] = dict.fromkeys(good, dice.random() < 0.5) or None
        world.submit(dice.randint(1, 30), dice.choice(functions), **fields)

    for step in range(1500):
        world.now += dice.random() * 0.1
        active = [id for id, one in world.controller.pilots.by_id.items() if not is_final(one.state)]
        pilot = dice.choice(active)
        batches = world.batches.get(pilot, {})
        move = dice.random()
        if move < 0.08 and step < 1000:
            submit()
        elif move < 0.10 and others < 12:
            others += 1
            walltime = dice.choice([None, None, 12, 60])
            world.pilot(
                f"p{others}", cores=dice.randint(1, 4), ready=False, restarts=dice.randint(0, 1), walltime=walltime
            )
        elif move < 0.105 and world.pilot_state(pilot) is PilotState.ACTIVE and pilot != "keeper":
            world.feed(events.PilotExpiring(pilot, "SIGUSR1"))
        elif move < 0.14 and world.pilot_state(pilot) in (PilotState.QUEUED, PilotState.STARTING):
            world.ready(pilot)
        elif move < 0.16:
            hows = [JobState.ENDED, JobState.TAKEN]
            world.end(
                pilot, how=dice.choice(hows if pilot == "keeper" else [*hows, JobState.EXPIRED, JobState.CANCELLED])
            )
        elif move < 0.17 and pilot != "keeper":
            drain = dice.random() < 0.5
            world.feed(events.PilotStopAsked(pilot, drain))
            if not drain:
                world.batches.pop(pilot, None)
        elif move < 0.20 and world.tasks:
            world.feed(events.CancelAsked(dice.sample(sorted(world.tasks), 1)))
        elif move < 0.22:
            for ended in [one.pilot for one in world.tick() if isinstance(one, StopPilot) and not one.drain]:
                world.batches.pop(ended, None)
        elif batches:
            tasks = list(batches[dice.choice(sorted(batches))])
            end = dice.random()
            if end < 0.05:
                world.lose(tasks[0], blame=dice.random() < 0.7)
            else:
                some = tasks[: dice.randint(1, len(tasks))]
                status = dice.choice([OK] * 9 + [RAISED])
                world.finish(some, dice.random() * 0.01, status)
    world.together = 1
    for pilot in list(world.batches):
        if pilot != "keeper" and not is_final(world.pilot_state(pilot)):
            world.feed(events.PilotStopAsked(pilot, drain=False))
        if pilot != "keeper":
            world.batches.pop(pilot)
    for pilot, one in world.controller.pilots.by_id.items():
        if pilot != "keeper" and not is_final(one.state):
            world.feed(events.PilotStopAsked(pilot, drain=False))
    if world.pilot_state("keeper") is not PilotState.ACTIVE:
        world.ready("keeper")
    world.tick()
    world.work_off(0.01, "keeper")
    assert len(world.tasks) > 300
    assert world.settled == dict.fromkeys(world.tasks, 1)
    assert not world.controller.queue.tasks
    keeper = world.controller.pilots.by_id["keeper"]
    assert (keeper.used_cores, keeper.used_gpus, keeper.sent) == (0.0, 0.0, {})
