"""Which tasks are sent where: against a plain computation that looks at everything, and what must hold in any case."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from pilot import registry
from pilot.descriptions import PilotDescription
from pilot.resources import CircuitFacts, QPUInfo, Resources, Terms
from pilot.results import OK, RAISED
from pilot.scheduling import events, index
from pilot.scheduling.events import Command, SendBatch
from pilot.scheduling.fitting import misfit
from pilot.scheduling.lanes import Lane
from pilot.scheduling.pilot_records import PilotRecord
from pilot.scheduling.records import FunctionRecord, TaskRecord
from pilot.states import PilotState, TaskState, is_final
from pilot.testing.world import World, measured

GIB = 1 << 30


@pytest.fixture
def world() -> World:
    return World()


# ---- a plain computation of what is sent ----------------------------------------------------------------------


class Load:
    """What a pilot has in use, as the plain computation counts it."""

    def __init__(self, pilot: PilotRecord) -> None:
        self.pilot = pilot
        (self.node,) = pilot.nodes
        self.batches = [(one.cores, one.ends_at or 0.0) for one in pilot.sent.values()]
        self.cores = sum(one.cores for one in pilot.sent.values())
        self.gpus = sum(one.gpus for one in pilot.sent.values())
        self.memory = sum(one.memory for one in pilot.sent.values())
        self.expected = [(one.expected, one.gpus) for one in pilot.sent.values()]

    def fits(self, terms: Terms) -> bool:
        needs, node, pilot = terms.resources, self.node, self.pilot
        if needs.num_cpus > node.cores or needs.num_gpus > len(node.gpus) or needs.memory > node.memory:
            return False
        return set(terms.labels) <= set(pilot.description.labels)

    def left(self, now: float) -> float:
        return float("inf") if self.pilot.ends_at is None else self.pilot.ends_at - now

    def in_time(self, task: TaskRecord, now: float) -> bool:
        needed = task.terms.duration
        if needed is None and self.pilot.ends_at is not None and task.seconds is not None:
            needed = min(1.5 * task.seconds * self.pilot.slowness, 0.9 * self.pilot.description.seconds)
        return self.left(now) >= (needed or 0.0)

    def ample(self, terms: Terms, now: float) -> bool:
        ahead = 4.0 * (sum(one for one, _ in self.expected) / self.node.cores + 0.05) + 0.2
        return terms.duration is None or self.left(now) >= terms.duration + ahead

    def has_room(self, needs: Resources, depth: int) -> bool:
        more = (
            (needs.num_cpus, self.cores, self.node.cores),
            (needs.num_gpus, self.gpus, len(self.node.gpus)),
            (needs.memory, self.memory, self.node.memory),
        )
        return all(not need or used + need <= depth * have + 1e-9 for need, used, have in more)

    def depth(self, task: TaskRecord, now: float) -> int:
        is_short = task.seconds is not None and task.seconds < 0.25
        return 3 if is_short and self.ample(task.terms, now) else 1

    def finish(self, task: TaskRecord) -> tuple[float, float, float]:
        gpus = task.terms.resources.num_gpus
        work = sum(expected for expected, some in self.expected if some or not gpus)
        wait = work / (len(self.node.gpus) if gpus else self.node.cores)
        return round(wait + (task.seconds or 0.0) * self.pilot.slowness, 9), self.pilot.slowness, self.cores

    def add(self, needs: Resources, expected: float, now: float) -> None:
        self.cores += needs.num_cpus
        self.gpus += needs.num_gpus
        self.memory += needs.memory
        self.expected.append((expected, needs.num_gpus))
        self.batches.append((needs.num_cpus, now + expected if expected else 0.0))


class Held(NamedTuple):
    """What lanes wait for on one pilot."""

    cores: bool = False
    gpus: bool = False
    memory: bool = False
    #: Cores that are reserved, and the width of the tasks that they are for.
    reserved: float = 0.0
    width: float = 0.0

    def holds(self, needs: Resources) -> bool:
        return bool(self.cores or (self.gpus and needs.num_gpus) or (self.memory and needs.memory))


def plain(world: World) -> list[tuple[str, list[int]]]:
    """What is to be sent now, found by looking at each lane and each pilot."""
    now, found = world.now, list[tuple[str, list[int]]]()
    active = [one for one in world.controller.pilots.by_id.values() if one.state is PilotState.ACTIVE]
    loads = [Load(pilot) for pilot in active]
    held = {load.pilot.id: Held() for load in loads}
    lanes = [list(lane) for lane in world.controller.queue.lanes.values()]
    for lane in sorted(lanes, key=lambda tasks: (-tasks[0].terms.priority, tasks[0].id)):
        while lane:
            choice = first(lane, loads, held, now)
            if choice is None:
                break
            task, load = choice
            batch = cut(lane, task, load, sum(one.node.cores for one in loads if fits_some(one, lane)), now)
            lane[:] = [one for one in lane if one not in batch]
            found.append((load.pilot.id, [one.id for one in batch]))
        if lane:
            hold(lane, loads, held, now)
    return found


def fits_some(load: Load, lane: list[TaskRecord]) -> bool:
    """True when the pilot has what the smallest task of such a lane may need."""
    memory = lane[0].terms.resources.memory
    least = 0 if memory <= GIB // 4 else next(GIB // 4 << n for n in itertools.count() if GIB // 2 << n >= memory) + 1
    needs = Resources(lane[0].terms.resources.num_cpus, lane[0].terms.resources.num_gpus, least)
    return load.fits(Terms(needs, labels=lane[0].terms.labels))


def first(
    lane: list[TaskRecord], loads: list[Load], held: dict[str, Held], now: float
) -> tuple[TaskRecord, Load] | None:
    """The first task that can go now. One behind others that wait goes where none of these could ever run."""
    waiting: dict[Terms, TaskRecord] = {}
    for task in lane:
        if task.terms in waiting:
            continue
        free = [
            load
            for load in loads
            if not any(load.fits(other.terms) and load.in_time(other, now) for other in waiting.values())
        ]
        if (load := pick(task, free, held, now)) is not None:
            return task, load
        waiting[task.terms] = task
    return None


def pick(task: TaskRecord, loads: list[Load], held: dict[str, Held], now: float) -> Load | None:
    """The pilot where a task is finished first, of those that may take it now."""
    needs = task.terms.resources
    able = [
        load
        for load in loads
        if load.fits(task.terms) and load.in_time(task, now) and load.has_room(needs, load.depth(task, now))
    ]
    able = [load for load in able if may_use(held[load.pilot.id], load, task, now)]
    return min(able, key=lambda load: (*load.finish(task)[:2], load.cores - load.node.cores), default=None)


def may_use(held: Held, load: Load, task: TaskRecord, now: float) -> bool:
    needs = task.terms.resources
    if held.holds(needs):
        return False
    if not held.reserved:
        return True
    beside = sum(cores for cores, _ in load.batches if cores < held.width)
    if beside + needs.num_cpus <= load.node.cores - held.reserved + 1e-9:
        return True
    duration = task.terms.duration
    if duration is None and task.seconds is not None:
        duration = 3.0 * max(task.seconds * load.pilot.slowness, 0.05)
    free, start = load.node.cores - load.cores, now
    for ends_at, cores in sorted((ends_at, cores) for cores, ends_at in load.batches if cores):
        free += cores
        if free + 1e-9 >= held.width:
            start = ends_at
            break
    return duration is not None and load.has_room(needs, 1) and now + duration <= start


def cut(lane: list[TaskRecord], task: TaskRecord, load: Load, cores: int, now: float) -> list[TaskRecord]:
    batch, total, slowness = [task], task.seconds or 0.0, load.pilot.slowness
    memory = task.terms.resources.memory
    largest = max(GIB // 4, next(1 << n for n in itertools.count() if 1 << n >= memory)) if memory else 0
    largest = max(memory, min(largest, load.node.memory - load.memory, load.node.memory))
    if memory and largest and not load.has_room(Resources(0, 0, memory), 1):
        largest = memory
    share = -(-len(lane) // max(1, int(2 * cores / task.terms.resources.num_cpus)))
    for other in lane[1:] if task is lane[0] and load.ample(task.terms, now) else []:
        if other.seconds is None or other.runs_alone or task.runs_alone or len(batch) >= 1000:
            break
        after = (total + other.seconds) * slowness
        if after > 0.05 or (len(batch) >= share and after > 0.002):
            break
        if not load.ample(other.terms, now) or other.terms.resources.memory > largest:
            break
        total += other.seconds
        batch.append(other)
    memory = max(one.terms.resources.memory for one in batch)
    needs = task.terms.resources
    load.add(Resources(needs.num_cpus, needs.num_gpus, memory), total * slowness, now)
    return batch


def hold(lane: list[TaskRecord], loads: list[Load], held: dict[str, Held], now: float) -> None:
    """What this lane waits for."""
    first, needs = lane[0], lane[0].terms.resources
    without = Resources(needs.num_cpus, 0, 0)
    mine = [
        load
        for load in loads
        if fits_some(load, lane) and load.in_time(first, now) and not held[load.pilot.id].holds(needs)
    ]
    lack_gpus = [load for load in mine if not load.has_room(Resources(0, needs.num_gpus, 0), 1)]
    lack_memory = [load for load in mine if not load.has_room(Resources(0, 0, needs.memory), 1)]
    ready = [load for load in mine if load not in lack_gpus and load not in lack_memory]
    if needs.num_gpus > 1:
        lack_gpus = [
            one for one, _ in enough(lack_gpus, lambda one: (len(one.node.gpus), one.gpus), needs.num_gpus, lane)
        ]
    for load in lack_gpus:
        held[load.pilot.id] = held[load.pilot.id]._replace(gpus=True)
    for load in lack_memory:
        held[load.pilot.id] = held[load.pilot.id]._replace(memory=True)
    if without.num_cpus <= 1:
        for load in ready:
            held[load.pilot.id] = held[load.pilot.id]._replace(cores=True)
        return
    ready = [load for load in ready if not held[load.pilot.id].reserved]
    for load, count in enough(ready, lambda one: (one.node.cores, one.cores), needs.num_cpus, lane):
        held[load.pilot.id] = held[load.pilot.id]._replace(reserved=count * needs.num_cpus, width=needs.num_cpus)


def enough(
    loads: list[Load], of: Callable[[Load], tuple[float, float]], width: float, lane: list[TaskRecord]
) -> list[tuple[Load, int]]:
    left, chosen = len(lane), list[tuple[Load, int]]()
    for load in sorted(loads, key=lambda one: of(one)[1] - of(one)[0]):
        count = min(left, max(1, int(of(load)[0] / width + 1e-9)))
        if left > 0:
            chosen.append((load, count))
        left -= count
    return chosen


class Compared(World):
    """Compares what is sent after each event with the plain computation."""

    def feed(self, event: events.Event) -> list[Command]:
        commands = self.take(self.controller.handle(event, self.now))
        wanted = plain(self)
        sent = self.controller.schedule(self.now)
        batches = [(one.pilot, [task.id for task in one.entries]) for one in sent if isinstance(one, SendBatch)]
        assert batches == wanted
        return commands + self.take(sent)


@pytest.mark.parametrize("seed", range(6))
def test_decisions_are_those_of_a_plain_computation(seed: int) -> None:
    dice = random.Random(seed)
    world = Compared(wait_for_pilot=None)
    functions = [
        measured(0.01, 1),
        measured(0.2, 2),
        measured(3.0, 3),
        FunctionRecord(4, "d", "unknown"),
        measured(9.0, 5),
    ]
    ids = [f"p{number}" for number in range(6)]

    def add(id: str) -> None:
        labels = ["x"] if dice.random() < 0.5 else []
        walltime = dice.choice([None, None, 30, 100])
        world.pilot(
            id, dice.choice([1, 2, 4, 5]), gpus_per_node=dice.choice([0, 0, 1, 2]), labels=labels, walltime=walltime
        )

    def submit() -> None:
        fields: dict[str, Any] = {"num_cpus": dice.choice([1, 1, 1, 0.5, 2, 3]), "priority": dice.choice([0, 0, 4])}
        fields["num_gpus"] = dice.choice([0, 0, 0, 0.5, 1, 2])
        fields["memory"] = dice.choice([None, None, None, 100 << 20, 300 << 20, 700 << 20, 900 << 20])
        fields["expected_duration"] = dice.choice([None, None, 5, 20, 70])
        fields["timeout"] = dice.choice([None, 50, 60])
        fields["labels"] = dice.choice([[], [], ["x"]])
        fields["retries"] = dice.choice([0, 1])
        world.submit(dice.randint(1, 12), dice.choice(functions), **fields)

    for id in ids[:3]:
        add(id)
    for _ in range(260):
        world.now += dice.random() * dice.choice([0.05, 2.0])
        up = [id for id in world.controller.pilots.by_id if not is_final(world.pilot_state(id))]
        batches = [(id, tasks) for id in up for tasks in world.batches.get(id, {}).values()]
        move = dice.random()
        if move < 0.2 and len(world.controller.queue.tasks) < 150:
            submit()
        elif move < 0.24 and len(world.controller.pilots.by_id) < len(ids):
            add(ids[len(world.controller.pilots.by_id)])
        elif move < 0.28 and world.tasks:
            world.feed(events.CancelAsked([dice.choice(sorted(world.tasks))]))
        elif move < 0.29 and len(up) > 1:
            world.end(dice.choice(up))
        elif batches:
            id, tasks = dice.choice(batches)
            if dice.random() < 0.1:
                world.lose(tasks[0], blame=dice.random() < 0.5)
            else:
                world.finish(tasks[: dice.randint(1, len(tasks))], dice.random(), dice.choice([OK, OK, OK, RAISED]))
    assert len(world.sizes) > 60


@pytest.mark.parametrize("policy", ["fcfs", "priority", "hrrn"])
def test_a_policy_decides_anew_after_each_batch(policy: str) -> None:
    """Also between tasks of the same needs: the third does not go before the second, which needs more."""
    world = World(None, registry.policy(policy))
    world.pilot(cores=3, ready=False)
    first, second, third = (world.submit(1, measured(5.0), num_cpus=count)[0] for count in (1, 2, 1))
    world.ready()
    assert world.order == [first, second]
    world.tick()
    assert world.state(third) is TaskState.QUEUED


@pytest.mark.parametrize("policy", ["fcfs", "priority", "hrrn"])
def test_a_policy_decides_anew_after_each_batch_for_a_qpu(policy: str) -> None:
    world = World(None, registry.policy(policy))
    qpu = QPUInfo(name="fake:q", qubits=9, max_circuits=1)
    world.pilot(qpus=[qpu], ready=False)
    tasks = []
    for qubits in (3, 4, 3):
        terms = {"resources": Resources(num_cpus=0.0, qpu="fake:q"), "facts": CircuitFacts(qubits, 100)}
        tasks += world.submit(1, measured(5.0), terms=terms)
    world.ready(qpus=[qpu])
    assert world.order == tasks[:2]  # one runs and one waits with the agent


# ---- memory -----------------------------------------------------------------------------------------------------


def test_tasks_that_wait_for_memory_keep_nobody_from_the_cores(world: World) -> None:
    world.pilot(cores=4)  # with 1 GiB
    large = world.submit(8, measured(5.0), memory="700 MiB")
    plain_ones = world.submit(24, measured(5.0, 2))
    assert [world.state(id) for id in large[:2]] == [TaskState.BOUND, TaskState.QUEUED]
    assert [world.state(id) for id in plain_ones[:4]] == [TaskState.BOUND] * 3 + [TaskState.QUEUED]
    while large[7] not in world.order:
        world.now += 5.0
        world.finish([next(id for id in large if world.state(id) is TaskState.BOUND)], 5.0)
    assert world.now == 1035.0  # one after the other without a pause


def test_tasks_with_memory_go_where_there_is_memory(world: World) -> None:
    world.pilot("small", cores=4)
    world.feed(events.PilotAsked("large", PilotDescription(cores_per_node=2), 2 * GIB))
    world.ready("large")
    tasks = world.submit(3, measured(5.0), memory="900 MiB")
    assert sorted(world.pilot_of[id] for id in tasks) == ["large", "large", "small"]


def test_a_large_task_is_not_overtaken_by_small_ones_for_ever(world: World) -> None:
    world.pilot(cores=4)
    world.submit(4, measured(5.0), memory="250 MiB")
    (large,) = world.submit(1, measured(5.0, 2), memory="900 MiB")
    late = world.submit(40, measured(5.0), memory="100 MiB")
    for _ in range(4):
        world.finish_batch(5.0)
    assert world.state(large) is TaskState.BOUND
    assert world.state(late[-1]) is TaskState.QUEUED


# ---- wide tasks -------------------------------------------------------------------------------------------------


def test_each_of_several_wide_tasks_has_a_pilot(world: World) -> None:
    """They come when all pilots are busy, and no task of lower priority starts before the last of them."""
    for id in "abc":
        world.pilot(id, cores=2)
    world.submit(60, measured(5.0))
    wide = world.submit(3, measured(5.0, 2), num_cpus=2, priority=1)
    world.order.clear()
    for pilot in "abcabc":
        world.finish_batch(5.0, pilot)
    assert world.order == wide


def test_a_reservation_leaves_the_cores_that_it_does_not_need(world: World) -> None:
    """Tasks of three cores before those of one, on four cores: always one of each runs, and neither waits longer."""
    world.pilot(cores=4)
    wide = world.submit(8, measured(0.5), num_cpus=3)
    narrow = world.submit(8, measured(0.5, 2))
    for number in range(8):
        assert world.sent() == [[wide[number]], [narrow[number]]]
        world.now += 0.5
        world.finish([wide[number]], 0.5)
        if number < 7:
            assert world.state(wide[number + 1]) is TaskState.BOUND
        world.finish([narrow[number]], 0.5)
    assert world.now == 1004.0  # 8 times 0.5 s: no core that could be used was idle


#: What is known of the task: the longest time that is expected, or the mean of its function; and whether it may go.
BEFORE: dict[str, tuple[float | None, float | None, bool]] = {
    "expected to be over": (50, None, True),
    "expected to take longer": (120, None, False),
    "much shorter in the mean": (None, 30, True),
    "not much shorter in the mean": (None, 40, False),
    "not known": (None, None, False),
}


@pytest.mark.parametrize("duration, mean, starts", BEFORE.values(), ids=BEFORE)
def test_what_ends_before_the_reservation_may_go(
    world: World, duration: float | None, mean: float | None, starts: bool
) -> None:
    """One core is free, and the other one for 100 s more; a task of two cores waits for both."""
    world.pilot(cores=2)
    world.submit(1, measured(100.0))
    world.submit(1, measured(10.0, 2), num_cpus=2)
    function = FunctionRecord(3, "d", "unknown") if mean is None else measured(mean, 3)
    (short,) = world.submit(1, function, expected_duration=duration)
    assert (world.state(short) is TaskState.BOUND) is starts


# ---- lanes ------------------------------------------------------------------------------------------------------


def test_dependents_have_the_place_of_their_submission(world: World) -> None:
    """Pairs: the second task of the first pair comes before the first task of the last."""
    world.pilot(cores=1)
    pairs = []
    for _ in range(20):
        (first_task,) = world.submit(1, measured(5.0))
        pairs.append((first_task, *world.submit(1, measured(5.0, 2), needs={first_task: True})))
    world.work_off(5.0)
    assert world.order == [id for pair in pairs for id in pair]


VARIED: dict[str, Callable[[int], dict[str, Any]]] = {
    "duration": lambda number: {"expected_duration": 60 + number},
    "timeout": lambda number: {"timeout": 60 + number},
    "retries": lambda number: {"retries": number},
    "memory": lambda number: {"memory": (260 + number) << 20},
}


@pytest.mark.parametrize("fields", VARIED.values(), ids=VARIED)
def test_what_belongs_to_the_task_keeps_it_in_its_lane(world: World, fields: Callable[[int], dict[str, Any]]) -> None:
    for number in range(100):
        world.submit(1, measured(0.001), **fields(number))
    world.pilot(cores=1)
    assert len(world.controller.queue.lanes) == 1
    assert world.sizes[0] == pytest.approx(50, abs=1)  # sums of floats
    sent = next(one for one in world.commands if isinstance(one, SendBatch))
    assert sent.resources.memory == max(one.terms.resources.memory for one in sent.entries)


def test_a_task_that_is_too_long_for_a_pilot_stops_no_shorter_one(world: World) -> None:
    world.pilot("short", cores=1, walltime=60)
    world.pilot("long", cores=1)
    world.submit(1, measured(5.0))
    world.submit(1, measured(5.0), pilot="long")
    world.finish_batch(5.0, "short")
    long = world.submit(2, measured(5.0), expected_duration=500)
    short = world.submit(2, measured(5.0), expected_duration=30)
    assert [world.state(id) for id in long] == [TaskState.QUEUED] * 2
    assert world.pilot_of[short[0]] == "short"
    world.finish_batch(5.0, "long")
    assert world.pilot_of[long[0]] == "long"


@pytest.mark.parametrize("seed", range(20))
def test_a_lane_is_a_sorted_list(seed: int) -> None:
    """Against a list that is sorted again each time. Tasks leave and come back by their ids."""
    dice = random.Random(seed)
    lane, function = Lane(Terms()), measured(1.0)
    queued: list[TaskRecord] = []
    outside: list[TaskRecord] = []
    for step in range(400):
        move = dice.random()
        if move < 0.3:
            more = [TaskRecord(1000 * step + at, function, b"", Terms(), None, 0.0) for at in range(dice.randint(1, 9))]
            lane.extend(more)
            queued += more
        elif move < 0.5 and outside:
            queued.append(back := outside.pop(dice.randrange(len(outside))))
            lane.insert(back)
        elif move < 0.7 and queued:
            some = dice.sample(queued, min(len(queued), dice.randint(1, 6)))
            lane.remove(some)
            outside += some
            queued = [one for one in queued if one not in some]
        elif queued:
            outside.append(lane.pop())
            queued.remove(outside[-1])
        queued.sort(key=lambda record: record.id)
        assert list(lane) == queued
        assert len(lane) == len(queued)
        if queued:
            lane.validate()
            assert lane.head is queued[0]
            assert set(lane.sample(5)) <= set(queued)
    assert [record.id for record in lane.taken()] == [record.id for record in queued]
    assert not lane


# ---- what an event looks at -------------------------------------------------------------------------------------


def test_an_event_looks_at_no_lane_that_fits_no_pilot(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(wait_for_pilot=None)
    for number in range(5):
        world.pilot(f"p{number}", cores=1)
    world.pilot("late", labels=["x"], ready=False)
    for number in range(50):
        world.submit(1, measured(5.0), labels=["x"], priority=number)
    world.submit(60, measured(5.0, 2))
    asked: list[Terms] = []
    monkeypatch.setattr(index, "misfit", lambda terms, capacity: asked.append(terms) or misfit(terms, capacity))
    monkeypatch.setattr(world.controller, "validate", lambda: None)
    for number in range(20):
        world.finish_batch(5.0, f"p{number % 5}")
    assert len(world.order) == 25
    assert not asked
    world.ready("late")
    assert len(asked) <= 51 + 1  # once each, and only of the pilot that is new


def test_an_index_that_is_wrong_is_noticed(world: World) -> None:
    world.pilot(cores=2)
    world.submit(5, measured(5.0))
    (lane,) = world.controller.queue.lanes.values()
    world.controller.validate()
    world.controller.pilots.by_id["p"].used_cores = 1.0  # without a word to the index
    lane.group.ranking(1, 0)
    with pytest.raises(AssertionError, match="cores are in use"):
        world.controller.validate()
    world.controller.pilots.by_id["p"].used_cores = 2.0
    lane.group.ways.clear()
    with pytest.raises(AssertionError, match="other pilots fit"):
        world.controller.validate()


def test_a_reason_becomes_a_text_when_it_is_asked_for(world: World) -> None:
    world.pilot("a", cores=1)
    world.pilot("b", cores=1)
    one, two = world.submit(2, measured(5.0))
    assert not isinstance(world.tasks[one].reason, str)
    assert world.explain(one) == "a is expected to finish first (5.000 s) of the 2 with room"
    assert world.explain(two) == "b was the only suitable pilot with room"
