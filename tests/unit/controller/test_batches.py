"""Credit, batches, and which pilot gets a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from pilot.results import OK, Outcome
from pilot.scheduling import events, lanes, pilot_records
from pilot.scheduling.batches import BATCH_TASKS
from pilot.scheduling.events import SendBatch, StopPilot
from pilot.scheduling.records import FunctionRecord
from pilot.scheduling.run_times import RunTimes
from pilot.states import PilotState, TaskState
from pilot.testing.world import World, measured

# ---- late binding, credit and batches --------------------------------------------------------------------------------


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


#: id: (seconds of a run, of each task in it, batches of 1,000 tasks at most, tasks of the largest batch)
JOINT_RUNS = {
    "the run is long": (0.1, 0.001, 60, range(100, 301)),
    "the tasks are long": (0.0, 0.1, 1000, range(1, 3)),
    "both are": (0.03, 0.01, 300, range(5, 10)),
}


@pytest.mark.parametrize("run, each, batches, largest", JOINT_RUNS.values(), ids=JOINT_RUNS)
def test_batches_that_run_at_once_grow_while_the_run_itself_takes_long(
    world: World, run: float, each: float, batches: int, largest: range
) -> None:
    function = FunctionRecord(1, "digest", "work")
    function.runs = RunTimes()
    world.pilot(cores=1)
    world.submit(1000, function)
    while world.batches.get("p"):
        tasks = list(next(iter(world.batches["p"].values())))
        world.finish(tasks, run / len(tasks) + each)
    assert len(world.sizes) <= batches and max(world.sizes) in largest and sum(world.sizes) == 1000


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


# ---- which pilot -----------------------------------------------------------------------------------------------------


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


# ---- events and placing ----------------------------------------------------------------------------------------------


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
