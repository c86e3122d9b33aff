"""Every policy, on random instances: each task ends once, and a policy's faults end no other task than its own."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from pilot import PilotManager, registry
from pilot.descriptions import PilotDescription
from pilot.errors import ErrorCode, PluginError
from pilot.interfaces import Candidate, Policy, QPUTable, QueuedTask
from pilot.resources import ANY_QPU, CircuitFacts, QPUEstimate, Resources, Terms
from pilot.results import OK
from pilot.scheduling import events
from pilot.scheduling.policies import Balanced
from pilot.states import TaskState
from pilot.testing import PolicyContract, World, measured
from pilot.testing.policies import LARGE, SMALL, play

#: The schedules are random and long, and measuring which lines they reach takes twice as long as they do.
pytestmark = pytest.mark.no_cover


class FirstComeFirstServed(Policy):
    def order(self, task: QueuedTask, now: float) -> Any:
        return task.arrived, task.id


class ShortestFirst(Policy):
    def __init__(self, unknown: float = 1.0) -> None:
        self.unknown = unknown

    def order(self, task: QueuedTask, now: float) -> Any:
        return self.unknown if task.seconds is None else task.seconds


class HighestResponseRatio(Policy):
    def order(self, task: QueuedTask, now: float) -> Any:
        seconds = task.seconds or 1.0
        return -(now - task.arrived + seconds) / seconds


class FewestCores(Policy):
    def choose(self, terms: Terms, candidates: Sequence[Candidate]) -> tuple[Candidate, str]:
        return min(candidates, key=lambda one: one.cores), "the smallest"


class BestFidelity(Policy):
    """The QPU with the best fidelity; what is not known counts as 0."""

    def assign(self, queue: Sequence[QueuedTask], table: QPUTable, now: float) -> Sequence[int]:
        fidelity = np.where(table.fits, np.nan_to_num(table.fidelity), -1.0)
        numbers: list[int] = np.where(table.fits.any(axis=1), fidelity.argmax(axis=1), -1).tolist()
        return numbers


class Waits(Policy):
    """Nothing goes to a QPU before ten seconds have passed."""

    def assign(self, queue: Sequence[QueuedTask], table: QPUTable, now: float) -> Sequence[int]:
        first = table.fits.argmax(axis=1)
        return [int(first[row]) if now - task.arrived > 10 else -1 for row, task in enumerate(queue)]


def raising(*args: Any) -> Any:
    raise ZeroDivisionError("a policy's own fault")


def exiting(*args: Any) -> Any:
    raise SystemExit(3)


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError


def mute(*args: Any) -> Any:
    raise Mute


#: id: (method, what it does instead, words of the error)
BAD: dict[str, tuple[str, Callable[..., Any], str]] = {
    "order raises": ("order", raising, "order raised ZeroDivisionError: a policy's own fault"),
    "order exits": ("order", exiting, "order raised SystemExit: 3"),
    "choose exits": ("choose", exiting, "choose raised SystemExit: 3"),
    "assign exits": ("assign", exiting, "assign raised SystemExit: 3"),
    "order raises without a text": ("order", mute, "order raised Mute: <its text cannot be made: ValueError>"),
    "choose gives a reason without a text": (
        "choose",
        lambda terms, ones: (ones[0], Mute()),
        "choose raised ValueError",
    ),
    "order raises for some": ("order", lambda task, now: 1 / (task.id % 3), "order raised ZeroDivisionError"),
    "keys cannot be compared": ("order", lambda task, now: task.id if task.id % 2 else "b", "order raised TypeError"),
    "choose raises": ("choose", raising, "choose raised ZeroDivisionError"),
    "choose gives nothing": ("choose", lambda terms, candidates: None, "choose raised TypeError"),
    "choose gives no candidate": ("choose", lambda terms, candidates: ("p0", "why"), "'p0', which is no candidate"),
    "assign raises": ("assign", raising, "assign raised ZeroDivisionError"),
    "assign gives too few": ("assign", lambda queue, table, now: [], "assign raised ValueError: 0 numbers for"),
    "assign gives no numbers": ("assign", lambda queue, table, now: ["a"] * len(queue), "assign raised TypeError"),
    "assign gives nothing": ("assign", lambda queue, table, now: None, "assign raised TypeError"),
    "no such QPU": ("assign", lambda queue, table, now: [99] * len(queue), "do not exist or cannot run"),
    "below -1": ("assign", lambda queue, table, now: [-2] * len(queue), "do not exist or cannot run"),
}


def bad(name: str) -> Policy:
    method, instead, _ = BAD[name]
    made: type[Policy] = type("Bad", (Policy,), {method: lambda self, *args: instead(*args)})
    return made()


class TestRegistered(PolicyContract):
    @pytest.fixture(params=registry.names("pilot.policies"))
    def chosen(self, request: pytest.FixtureRequest) -> Policy:
        return registry.policy(request.param)


class TestOfATest(PolicyContract):
    @pytest.fixture(
        params=[FirstComeFirstServed, ShortestFirst, HighestResponseRatio, FewestCores, BestFidelity, Waits]
    )
    def chosen(self, request: pytest.FixtureRequest) -> Policy:
        made: Policy = request.param()
        return made


@pytest.mark.parametrize("name", BAD)
def test_faults_of_a_policy_end_its_tasks_and_nothing_else(name: str) -> None:
    method, _, words = BAD[name]
    world = World(policy=bad(name))
    play(world, random.Random(list(BAD).index(name)))
    assert world.errors
    for id, failed in world.errors.items():
        assert failed.error == ErrorCode.PLUGIN_ERROR
        assert failed.reason.startswith("the policy Bad: ")
        assert words in failed.reason
        assert method != "assign" or world.tasks[id].terms.resources.qpu
    if method == "assign":  # tasks that it was not asked about
        assert OK in world.outcomes.values()


@pytest.mark.parametrize("method", ["order", "choose"])
def test_what_looks_like_an_interrupt_is_the_policys_fault(method: str) -> None:
    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt

    policy: Policy = type("Bad", (Policy,), {method: interrupted})()
    with PilotManager(policy=policy) as manager:
        manager.submit_pilot({"cores_per_node": 1})
        with pytest.raises(PluginError, match=f"policy Bad: {method} raised KeyboardInterrupt"):
            manager.submit_task(abs, -1).result(60.0)
    world = World(policy=policy)
    world.pilot(cores=1)
    with pytest.raises(KeyboardInterrupt):  # in the main thread, as of `pilot simulate`, it is Ctrl-C
        world.submit(1)


def test_a_strict_policy_that_raises_when_it_is_asked_again() -> None:
    class Strict(Policy):
        is_strict = True
        asked = 0

        def order(self, task: QueuedTask, now: float) -> Any:
            self.asked += 1
            return raising() if self.asked == 2 else task.id

    world = World(policy=Strict())
    (task,) = world.submit(1)
    world.pilot(cores=1)
    assert "order raised ZeroDivisionError" in world.errors[task].reason


def test_a_policy_that_cannot_take_note_of_what_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    class Forgets(Policy):
        sent = raising

    world = World(policy=Forgets())
    world.pilot(cores=1)
    tasks = world.submit(3, measured(1.0, 1))
    world.work_off(1.0)
    assert sorted(world.outcomes) == sorted(tasks)
    assert len(caplog.records) == 1 and "sent raised ZeroDivisionError" in caplog.text


def queue_up(world: World, *seconds: float, **fields: Any) -> list[int]:
    """Tasks of these lengths, queued behind one that has the only slot."""
    world.pilot(cores=1)
    world.submit(1, measured(100.0, 99))
    made = []
    for number, each in enumerate(seconds):
        world.now += 1
        made += world.submit(1, measured(each, number), **fields)
    return made


def test_orders() -> None:
    for policy, expected in (
        (FirstComeFirstServed(), [0, 1, 2]),
        (ShortestFirst(), [1, 2, 0]),
        (Balanced(), [0, 1, 2]),
    ):
        world = World(policy=policy)
        tasks = queue_up(world, 30.0, 10.0, 20.0)
        assert "is first in the queue: " in world.explain(tasks[expected[0]])
        world.work_off(1.0)
        assert world.order[1:] == [tasks[at] for at in expected]


def test_priority_means_nothing_to_a_policy_that_does_not_look_at_it() -> None:
    world = World(policy=FirstComeFirstServed())
    world.pilot(cores=1)
    tasks = world.submit(3) + world.submit(1, priority=5)
    world.work_off(1.0)
    assert world.order == tasks


def test_a_key_that_changes_with_time() -> None:
    """The long task waits for 100 s: (100 + 20) / 20 is more than (1 + 0.5) / 0.5."""
    world = World(policy=HighestResponseRatio())
    (long,) = queue_up(world, 20.0)
    world.now += 99
    (short,) = world.submit(1, measured(0.5, 7))
    world.now += 1
    world.work_off(1.0)
    assert world.order[1:] == [long, short]


def circuits(world: World, count: int, qubits: int = 3, **changes: Any) -> list[int]:
    terms = {"resources": Resources(num_cpus=0.0, qpu=ANY_QPU), "facts": CircuitFacts(qubits, 100, 10, 10, 5)}
    return world.submit(count, measured(1.0, 8), terms={**terms, **changes})


def test_what_the_table_has() -> None:
    tables: list[QPUTable] = []

    class Looks(Policy):
        def assign(self, queue: Sequence[QueuedTask], table: QPUTable, now: float) -> Sequence[int]:
            tables.append(table)
            return [-1] * len(queue)

    world = World(policy=Looks())
    world.pilot("a", qpus=[SMALL, LARGE])
    first, second = circuits(world, 2, qubits=3)
    (wide,) = circuits(world, 1, qubits=9)
    better = (QPUEstimate("fake:large", fidelity=0.9, seconds=7.0, cost=3.0),)
    world.feed(events.CircuitsEstimated({second: better, 99: better}))  # one of them is over
    assert [world.state(id) for id in (first, second, wide)] == [TaskState.QUEUED] * 3
    table = tables[-1]
    assert table.qpus == (("a", "fake:small"), ("a", "fake:large"))
    assert table.fits.tolist() == [[True, True], [True, True], [False, True]]
    assert table.fidelity[0, 0] == pytest.approx((1 - 1e-4) ** 10 * (1 - 1e-2) ** 10 * (1 - 1e-2) ** 5)
    assert table.fidelity[1, 1] == 0.9
    assert table.seconds.tolist() == [[1.0, 1.0], [1.0, 7.0], [1.0, 1.0]]
    assert np.isnan(table.cost[0]).all()
    assert table.cost[1, 1] == 3.0
    assert table.wait.tolist() == [[0.0, 0.0]] * 3


def test_assigned_tasks_go_where_the_policy_wants_in_jobs_that_the_qpu_takes() -> None:
    world = World(policy=BestFidelity())
    world.pilot("a", qpus=[SMALL, LARGE])
    circuits(world, 30, qubits=3)
    wide = circuits(world, 2, qubits=5)
    assert [len(tasks) for tasks in world.sent("a")] == [7, 7, 2]  # two jobs of at most 7 circuits on the better one
    assert world.sent("a")[2] == wide
    assert "the policy BestFidelity chose fake:large of a" in world.explain(wide[0])
    world.work_off(1.0, "a")
    assert world.settled == dict.fromkeys(world.tasks, 1)


# ---- which policy is meant ------------------------------------------------------------------------------------


def test_a_policy_by_name_by_class_and_as_an_object() -> None:
    assert type(registry.policy("balanced")) is Balanced
    assert type(registry.policy("pilot.scheduling.policies:Balanced")) is Balanced
    mine = ShortestFirst()
    assert registry.policy(mine) is mine


#: id: (what was given, settings, words of the error)
UNKNOWN: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a name": ("balancd", {}, "no policy 'balancd' .did you mean 'balanced'"),
    "a module": ("no.such:Policy", {}, "the policy 'no.such:Policy' cannot be loaded: ModuleNotFoundError"),
    "no class in it": ("pilot.scheduling.policies:Nothing", {}, "cannot be loaded: AttributeError"),
    "no policy": ("builtins:dict", {"wait_for_pilot": 0}, "is not a pilot.interfaces.Policy"),
    "settings": ("balanced", {"speed": 3}, "the policy 'balanced' has no setting 'speed'; it has: none"),
    "settings of a base": (
        "formula",
        {"movs": True},
        "no setting 'movs' .did you mean 'moves'..; it has: c, beta, moves,",
    ),
    "two colons": ("a:b:c", {}, "'a:b:c' is not valid; expected the name of a policy"),
    "no attribute": ("a:", {}, "'a:' is not valid; expected the name of a policy"),
    "a class": (ShortestFirst, {}, "is not valid; expected the name of a policy"),
}


@pytest.mark.parametrize("given, settings, words", UNKNOWN.values(), ids=UNKNOWN)
def test_no_such_policy(given: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(PluginError, match=words):
        registry.policy(given, **settings)


def test_a_manager_with_a_policy_of_ones_own() -> None:
    with pytest.raises(PluginError, match="no policy"):
        PilotManager(policy="balancd")
    with PilotManager(policy=bad("choose raises")) as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1))
        error = manager.submit_task(abs, -3).exception(60)
    assert isinstance(error, PluginError)
    assert "the policy Bad: choose raised ZeroDivisionError: a policy's own fault" in str(error)


def test_numpy_is_loaded_where_a_policy_assigns_only() -> None:
    script = "import sys, pilot.scheduling.controller; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
