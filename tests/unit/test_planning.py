"""QPUs that policies choose: plans, demands, waits; on a virtual clock."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import numpy as np
import pytest

from pilot import registry
from pilot.errors import ErrorCode, PluginError
from pilot.resources import ANY_QPU, CircuitFacts, QPUEstimate, QPUInfo, Resources
from pilot.results import CANCELLED, RAISED, REFUSED, UNAVAILABLE, Failure
from pilot.scheduling import events
from pilot.scheduling.forecasts import QueueForecast
from pilot.scheduling.queue import LOSSES
from pilot.states import TaskState
from pilot.testing import World
from pilot.testing.world import measured

GOOD = QPUInfo(name="fake:good", qubits=9, max_circuits=1)
POOR = QPUInfo(name="fake:poor", qubits=9, max_circuits=1)
#: Fidelity, seconds and cost of each circuit.
EXPECTED = (QPUEstimate("fake:good", 0.9, 10.0, 5.0), QPUEstimate("fake:poor", 0.8, 10.0, 1.0))


def world_with(policy: str, **settings: Any) -> World:
    world = World(policy=registry.policy(policy, **settings))
    world.pilot("a", qpus=[GOOD])
    world.pilot("b", qpus=[POOR])
    return world


def circuits(
    world: World, count: int = 1, priority: int = 0, expected: tuple[QPUEstimate, ...] = EXPECTED, **demands: Any
) -> list[int]:
    """Tasks that are estimated before they can be placed, as those of a manager are."""
    blocker = world.submit(1, measured(0.01, 9), num_cpus=1)[0]
    terms = {"resources": Resources(num_cpus=0.0, qpu=ANY_QPU), "facts": CircuitFacts(3, 100), **demands}
    tasks = world.submit(count, measured(1.0, 8), terms=terms, needs={blocker: False}, priority=priority)
    world.feed(events.CircuitsEstimated(dict.fromkeys(tasks, expected)))
    world.finish([blocker], 0.01)
    return tasks


def places(world: World, tasks: list[int]) -> list[str]:
    return ["ab"[world.pilot_of[task] == "b"] for task in tasks if task in world.pilot_of]


def test_best_fidelity_waits_and_least_wait_does_not() -> None:
    world = world_with("best-fidelity")
    assert set(places(world, circuits(world, 4))) == {"a"}
    world = world_with("least-wait")
    tasks = circuits(world, 4)
    assert sorted(places(world, tasks)) == ["a", "a", "b", "b"]


def test_the_reason_has_the_figures() -> None:
    world = world_with("least-wait")
    first, second, third, fourth, fifth = circuits(world, 5)
    assert "chose fake:good of a, of 2 QPUs: a fidelity of 0.9000" in world.explain(first)
    assert "a wait of 0.0 s" in world.explain(second)
    assert "waits for its QPU" in world.explain(fifth)
    assert {world.state(third), world.state(fourth)} == {TaskState.BOUND}


def test_tasks_of_a_qpu_go_by_priority_and_move_on_when_it_closes() -> None:
    world = world_with("best-fidelity")
    tasks = circuits(world, 4)  # two are sent, two wait
    (urgent,) = circuits(world, 1, priority=5)
    world.finish_batch(10.0, "a")
    assert world.order[-1] == urgent
    closed = QPUInfo(name="fake:good", qubits=9, max_circuits=1, accepts_jobs=False)
    world.ready("a", qpus=[closed])
    world.tick(1.0)
    assert places(world, tasks[2:]) == ["b", "b"]


def test_a_task_that_waits_for_its_qpu_is_cancelled() -> None:
    world = world_with("best-fidelity")
    tasks = circuits(world, 3)
    world.cancel(tasks[2])
    world.work_off(10.0, "a")
    assert world.state(tasks[2]) is TaskState.CANCELLED
    assert world.settled[tasks[2]] == 1
    assert len(places(world, tasks)) == 2


#: id: (demands, where it goes; None: it fails)
DEMANDS: dict[str, tuple[dict[str, Any], str | None]] = {
    "none": ({}, "a"),
    "cheap": ({"max_cost": 2.0}, "b"),
    "good": ({"min_fidelity": 0.85}, "a"),
    "good and cheap": ({"min_fidelity": 0.85, "max_cost": 2.0}, None),
    "soon": ({"deadline": 10.0}, "a"),
    "too soon": ({"deadline": 9.9}, None),
    "too good": ({"min_fidelity": 0.95}, None),
}


@pytest.mark.parametrize("demands, where", DEMANDS.values(), ids=DEMANDS)
def test_demands(demands: dict[str, Any], where: str | None) -> None:
    world = world_with("best-fidelity")
    (task,) = circuits(world, 1, **demands)
    if where is not None:
        assert places(world, [task]) == [where]
        return
    failed = world.errors[task]
    assert failed.error == ErrorCode.NO_PILOT
    assert "the best offer: fake:good of a (fidelity 0.9000, over after 10.0 s, cost 5)" in failed.reason
    assert "fallback='simulator'" in failed.reason


def test_a_bound_of_the_cost_needs_prices() -> None:
    world = world_with("best-fidelity")
    (task,) = circuits(world, 1, max_cost=2.0, expected=(QPUEstimate("fake:good", 0.9, 10.0),))
    assert "its cost is not known: name a file with prices in QUANTUM_PILOT_PRICES" in world.errors[task].reason


def test_what_no_qpu_meets_waits_for_a_calibration_or_is_simulated() -> None:
    world = world_with("least-wait")
    (waiting,) = circuits(world, 1, min_fidelity=0.95, fallback="wait")
    (simulated,) = circuits(world, 1, min_fidelity=0.95, fallback="simulator")
    world.tick(100.0)
    assert world.state(waiting) is TaskState.QUEUED
    assert simulated in world.pilot_of and not world.tasks[simulated].terms.resources.qpu
    assert "no QPU was expected to meet its demands, so it is simulated" in str(world.tasks[simulated].reason)
    better = (QPUEstimate("fake:good", 0.97, 10.0, 5.0), EXPECTED[1])
    world.feed(events.CircuitsEstimated({waiting: better}))
    world.tick(1.0)
    assert places(world, [waiting]) == ["a"]


@pytest.mark.parametrize("policy", ["best-fidelity", "balanced"])
def test_a_circuit_does_not_go_where_it_cannot_be_compiled(policy: str) -> None:
    world = world_with(policy)
    unable = (QPUEstimate("fake:good", problem="it has no loops"), EXPECTED[1])
    tasks = circuits(world, 3, expected=unable)
    assert set(places(world, tasks)) == {"b"}
    (pinned,) = circuits(world, 1, expected=unable, resources=Resources(num_cpus=0.0, qpu="fake:good"))
    world.tick(1.0)
    assert "fake:good of a cannot run it: it has no loops" in world.errors[pinned].reason


def test_what_no_qpu_can_run_is_simulated_or_waits() -> None:
    world = world_with("least-wait")
    wide = {"facts": CircuitFacts(99, 100)}
    (simulated,) = circuits(world, 1, fallback="simulator", **wide)
    waiting, late = (circuits(world, 1, fallback="wait", deadline=one, **wide)[0] for one in (None, 5.0))
    (neither,) = circuits(world, 1, **wide)
    world.tick(6.0)
    world.controller.validate()
    assert not world.tasks[simulated].terms.resources.qpu and simulated in world.pilot_of
    assert world.state(waiting) is TaskState.QUEUED and "99 are needed" in world.explain(waiting)
    assert "no other pilot came before its deadline" in world.errors[late].reason and neither in world.errors
    world.pilot("c", qpus=[msgspec.structs.replace(GOOD, qubits=100)])
    assert world.pilot_of[waiting] == "c"


def test_tasks_that_a_search_leaves_are_asked_about_again() -> None:
    world = world_with("nsga2", population=8, generations=1)
    tasks = circuits(world, 150)
    for _ in range(200):
        world.tick(1.0)
        world.work_off(0.1, "a")
        world.work_off(0.1, "b")
    assert all(world.state(task) is TaskState.DONE for task in tasks)


@pytest.mark.parametrize("policy", ["matching", "shortest-first"])
def test_a_qpu_runs_the_shortest_first_also_of_those_that_come_later(policy: str) -> None:
    """As the policy's order says, though they were given the QPU in another one."""
    world = World(policy=registry.policy(policy))
    world.pilot("a", qpus=[GOOD])
    seconds = [50.0, 40.0, 30.0, 20.0, 10.0, 5.0]
    tasks = [
        circuits(
            world,
            1,
            expected=(QPUEstimate("fake:good", 0.9, each),),
        )[0]
        for each in seconds
    ]
    world.work_off(1.0, "a")
    assert [task for task in world.order if task in tasks] == [tasks[0], tasks[1], *reversed(tasks[2:])]


DOWN = msgspec.msgpack.encode(Failure(None, "QPUUnavailable", "it went down", ""))


@pytest.mark.parametrize("policy", ["best-fidelity", "balanced"])
def test_circuits_of_a_qpu_that_goes_down_run_elsewhere_and_that_is_no_retry(policy: str) -> None:
    world = world_with(policy)
    tasks = circuits(world, 2)
    (mine,) = [list(batch) for batch in world.sent("a") if tasks[0] in batch]
    world.finish(mine, status=UNAVAILABLE, value=DOWN)
    world.ready("b", qpus=[POOR])
    assert not set(mine) & {task for batch in world.sent("a") for task in batch}
    world.work_off(10.0, "b")
    assert all(world.pilot_of[task] == "b" and world.state(task) is TaskState.DONE for task in mine)
    lost = [one for one in world.commands if isinstance(one, events.RecordAttempt)]
    assert [(one.entry.id, one.reason) for one in lost] == [(task, "it went down") for task in mine]
    assert not any(world.tasks[task].retries for task in tasks)
    (pinned,) = world.submit(1, measured(1.0, 8), terms={"resources": Resources(num_cpus=0.0, qpu="fake:good")})
    assert world.state(pinned) is TaskState.QUEUED  # until the QPU reports that it is back
    world.ready("a", qpus=[GOOD])
    assert world.pilot_of[pinned] == "a"


def refusal(offer: QPUEstimate) -> bytes:
    return msgspec.msgpack.encode(Failure(None, "QPUError", "not good enough", "", offer=offer))


@pytest.mark.parametrize("policy", ["best-fidelity", "balanced"])
def test_circuits_that_a_qpu_refuses_by_its_calibration_of_now_run_elsewhere_and_that_is_no_loss(policy: str) -> None:
    """As often as it gets worse: a refusal is no failed attempt."""
    world = world_with(policy)
    (task,) = circuits(world, min_fidelity=0.75)
    assert places(world, [task]) == ["a"]
    for _ in range(LOSSES):
        world.feed(events.CircuitsEstimated({task: EXPECTED}))
        world.finish([task], status=REFUSED, value=refusal(QPUEstimate("fake:good", 0.7, calibrated=2.0)))
        world.controller.validate()
        assert places(world, [task]) == ["b"]
        assert world.tasks[task].estimates == (QPUEstimate("fake:good", 0.7, 10.0, 5.0, 2.0), EXPECTED[1])
        world.feed(events.CircuitsEstimated({task: EXPECTED}))  # both have another calibration
        world.finish([task], status=REFUSED, value=refusal(QPUEstimate("fake:poor", 0.1)))
        assert places(world, [task]) == ["a"]
    assert not world.tasks[task].retries and not world.tasks[task].losses
    for _ in range(LOSSES):  # it refuses what it says it would take: that does not go on for ever
        world.finish([task], status=REFUSED, value=refusal(QPUEstimate("fake:good", 0.9)))
    assert world.outcomes[task] == RAISED


@pytest.mark.parametrize("policy", ["best-fidelity", "balanced"])
def test_a_circuit_that_no_qpu_is_good_enough_for_any_more_does_not_wait_for_another_pilot(policy: str) -> None:
    world = World(60.0, registry.policy(policy))
    world.pilot("a", qpus=[GOOD])
    world.pilot("b", qpus=[POOR])
    (task,) = circuits(world, min_fidelity=0.85)
    world.finish([task], status=REFUSED, value=refusal(QPUEstimate("fake:good", 0.7, calibrated=2.0)))
    world.tick(1.0)
    assert world.errors[task].error == ErrorCode.NO_PILOT
    assert "fake:poor of b" in world.errors[task].reason
    (able,) = circuits(world, min_fidelity=0.85)
    world.end("a")
    world.tick(1.0)
    assert world.state(able) is TaskState.QUEUED  # a pilot with such a QPU may come


def test_a_qpu_that_goes_down_with_every_job_does_not_go_on_for_ever() -> None:
    world = world_with("best-fidelity")
    (task,) = circuits(world, 1, resources=Resources(num_cpus=0.0, qpu="fake:good"))
    for _ in range(LOSSES):
        world.finish([task], status=UNAVAILABLE, value=DOWN)
        world.ready("a", qpus=[GOOD])
    assert world.outcomes[task] == RAISED


def test_a_circuit_does_not_wait_longer_than_to_its_deadline() -> None:
    world = world_with("least-wait")
    (task,) = circuits(world, 1, deadline=9.0, fallback="wait")
    world.tick(8.0)
    assert world.state(task) is TaskState.QUEUED
    world.tick(2.0)
    failed = world.errors[task]
    assert failed.error == ErrorCode.NO_PILOT and "deadline=9" in failed.reason
    assert "fallback" not in failed.reason  # it has been said


@pytest.mark.parametrize("policy", ["formula", "least-wait", "tradeoff", "dual-prices", "matching"])
def test_demands_are_never_violated(policy: str) -> None:
    dice = random.Random(5)
    world = world_with(policy)
    wanted: dict[int, dict[str, Any]] = {}
    for _ in range(40):
        demands = dice.choice([{"min_fidelity": 0.85}, {"max_cost": 2.0}, {"deadline": dice.uniform(5, 60)}, {}])
        for task in circuits(world, dice.randint(1, 3), **demands):
            wanted[task] = demands
            if task in world.pilot_of and "deadline" in demands:
                assert world.tasks[task].terms.deadline is not None
        for pilot in ("a", "b"):
            if world.sent(pilot) and dice.random() < 0.7:
                world.finish_batch(10.0, pilot)
        world.tick(dice.uniform(0, 8))
    for task, demands in wanted.items():
        if task in world.pilot_of:
            where = places(world, [task])[0]
            assert "min_fidelity" not in demands or where == "a"
            assert "max_cost" not in demands or where == "b"


def test_a_task_in_the_queue_of_others_moves() -> None:
    """The queue of one QPU empties; what waits behind 100 jobs of the other one is sent there."""
    world = World(policy=registry.policy("least-wait", moves=True))
    busy = {"max_circuits": 1, "queue_depth": 10, "accepts_jobs": True}
    world.pilot("a", qpus=[QPUInfo(name="fake:good", qubits=9, pending_jobs=100, **busy)])
    world.pilot("b", qpus=[QPUInfo(name="fake:poor", qubits=9, pending_jobs=400, **busy)])
    (task,) = circuits(world)
    assert places(world, [task]) == ["a"]
    world.now += 600
    world.feed(events.QueueSeen("b", "fake:poor", 0))
    cancels = [one for one in world.commands if isinstance(one, events.SendCancel)]
    assert [(one.pilot, one.tasks, one.running) for one in cancels] == [("a", [task], False)]
    world.finish([task], 0.0, status=CANCELLED)
    world.tick(1.0)
    assert places(world, [task]) == ["b"]
    assert world.settled[task] == 0
    world.work_off(1.0, "b")
    assert world.settled[task] == 1


def test_waits_of_the_past_are_those_of_a_walk_through_the_queue() -> None:
    dice = random.Random(3)
    queue, now, history = QueueForecast(0.0, 7, True), 0.0, []
    pending, gone = 7, 0
    tickets: list[tuple[float, int]] = []
    for _ in range(400):
        now += dice.uniform(1, 30)
        tickets.append((now, queue.ticket))
        new = max(0, pending + dice.choice([-3, -1, -1, 0, 1, 2]))
        gone += max(0, pending - new)
        pending = new
        now += 1.0
        queue.seen(now, pending, True)
        history.append((now, gone))
    for since, ticket in tickets:
        expected = next((time - since for time, left in history if left >= ticket), None)
        found = queue.waited(ticket, since)
        assert (found is None) == (expected is None)
        assert found is None or found == pytest.approx(max(0.0, expected or 0.0))
    last = [time for time, left in history if left > gone - 5]
    assert queue.last(5, now) == pytest.approx(now - last[0])


def test_settings_of_policies_are_checked() -> None:
    for name, settings, words in (
        ("formula", {"c": 1.5}, "c: 1.5 is not valid; expected a number from 0 to 1"),
        ("formula", {"beta": "x"}, "beta: 'x' is not valid"),
        ("least-wait", {"moves": 1}, "moves: 1 is not valid; expected True or False"),
        ("tradeoff", {"price": -1}, "price: -1 is not valid; expected a finite number of at least 0"),
        ("tradeoff", {"price": float("inf")}, "price: inf is not valid; expected a finite number of at least 0"),
        ("least-wait", {"moves": True, "every": 0}, "every: 0 is not valid; expected a finite number of at least 0.1"),
        ("nsga2", {"population": 10.5}, "population: 10.5 is not valid; expected a whole number of at least 4"),
        ("fcfs", {"strict": "no"}, "strict: 'no' is not valid; expected True or False"),
        ("fair-share", {"shares": 3}, "shares: 3 is not valid; expected numbers by name"),
        ("fair-share", {"half_life": 0}, "half_life: 0 is not valid; expected a number above 0"),
        ("hrrn", {"unknown": float("nan")}, "unknown: nan is not valid"),
    ):
        with pytest.raises(PluginError, match=words):
            registry.policy(name, **settings)


def test_fair_share_counts_what_each_circuit_of_a_batch_takes_itself() -> None:
    """Circuits of several users are sent together; the long ones are not paid by all."""
    world = World(policy=registry.policy("fair-share"))
    world.pilot("a", qpus=[msgspec.structs.replace(GOOD, max_circuits=2)])
    (blocker,) = world.submit(1, measured(0.01, 9), num_cpus=1)
    terms = {"resources": Resources(num_cpus=0.0, qpu="fake:good"), "facts": CircuitFacts(3, 100)}
    tasks = world.submit(40, measured(1.0, 8), terms=terms, needs={blocker: False}, weights=[1.0, 9.0] * 20)
    for task in tasks:
        world.tasks[task].name = "long" if world.tasks[task].weight == 9.0 else "short"
    world.finish([blocker])
    for _ in range(10):
        world.finish_batch(10.0, "a")
    names = [world.tasks[task].name for task in world.order if task in tasks]
    assert names[:24].count("short") >= 16  # half of them would be, were each counted as the mean


def test_fair_share_takes_the_name_that_has_used_least() -> None:
    world = World(policy=registry.policy("fair-share", shares={"large": 2.0}))
    world.pilot(cores=1)
    long = {"large": measured(60.0, 1), "small": measured(60.0, 2)}
    for name, function in long.items():
        for task in world.submit(6, function):
            world.tasks[task].name = name
    for _ in range(9):
        world.finish_batch(60.0)
        world.tick(60.0)
    names = [world.tasks[task].name for task in world.order[:9]]
    assert 5 <= names.count("large") <= 7  # twice as much as the other, within one task
    assert np.isclose(names.count("large") / names.count("small"), 2.0, atol=1.0)
