"""Which tasks are sent to a QPU together because they may share it, on a virtual clock."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot.cli.main import main
from pilot.qos.simulation.bundling import Bundling, ByUse
from pilot.qos.simulation.jobs import Job, Kind, circuits, sharing, synthetic
from pilot.qos.simulation.scenarios import Settings, named, on_qpus
from pilot.qos.simulation.simulator import Simulator
from pilot.qos.simulation.sites import SimulatedQPU
from pilot.resources import ANY_QPU, CircuitFacts, QPUInfo, Resources
from pilot.scheduling.records import FunctionRecord
from pilot.testing import World

DEVICE = QPUInfo(name="fake:one", qubits=27, max_circuits=1)
SHARED, OTHER = FunctionRecord(1, "shared", "run"), FunctionRecord(2, "other", "run")


def submit(world: World, qubits: int, function: FunctionRecord = SHARED, shares: bool = True) -> int:
    terms: dict[str, Any] = {"resources": Resources(num_cpus=0.0, qpu=ANY_QPU), "facts": CircuitFacts(qubits, 100)}
    (task,) = world.submit(1, function, terms={**terms, "shares_qpu": shares})
    return task


def test_tasks_of_different_widths_are_sent_together() -> None:
    """By their ids, up to four; none that did not agree, nor one with other settings."""
    world = World()
    world.pilot("p", cores=1, qpus=[DEVICE])
    busy = [submit(world, 2, shares=False) for _ in range(2)]
    assert world.sent() == [[one] for one in busy]
    first, private = submit(world, 3), submit(world, 3, shares=False)
    second, other, third = submit(world, 5), submit(world, 4, OTHER), submit(world, 3)
    for one in busy:
        world.finish([one])
    assert sorted(map(sorted, world.sent())) == [[first, second, third], [private]]
    assert "sent with 2 other tasks that may share the QPU" in world.explain(first)
    assert "share" not in world.explain(private)
    world.work_off()
    assert world.sent() == [] and world.settled[other] == 1


@pytest.mark.parametrize("policy", ["balanced", "fcfs", "least-wait", "formula"])
def test_with_every_policy(policy: str) -> None:
    """Of twice the work that QPUs can do one by one, more is done in the same time; who did not agree never shares."""
    kinds = synthetic(["a", "b"], 12, 1)
    kinds = [*sharing(kinds[:6]), *kinds[6:]]
    simulator = Simulator(qpu_policy=named(policy))
    for name in ("a", "b"):
        simulator.add(SimulatedQPU(name, Bundling(ByUse())))
    jobs = [Job(0.2 * at, kinds[at * 5 % 12]) for at in range(120)]
    log = simulator.run(jobs)
    assert log.summary()["done"] == 120 and log.shared > 20
    ended = {(place, round(time, 9)) for place, time in zip(log.place, log.ended_at, strict=True)}
    assert len(ended) < 120  # those that share end together
    own = np.array([int(log.kinds[kind].removeprefix("kind-")) >= 6 for kind in log.kind])
    seconds = log.ended_at - log.began_at
    for place, began in zip(log.place[own], log.began_at[own], strict=True):
        assert sum((log.place == place) & (log.began_at == began)) == 1
    assert (seconds > 0).all()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.booleans(), st.integers(2, 14)), min_size=1, max_size=8), st.floats(0.0, 0.3))
def test_groups_keep_what_their_members_asked_for(given: list[tuple[bool, int]], max_loss: float) -> None:
    kinds: list[Kind] = []
    for shares, qubits in given:
        kind = circuits("k", ["a"], np.ones(1), np.ones(1))
        kind.qubits = qubits
        kinds += sharing([kind]) if shares else [kind]
    found = Bundling(ByUse(), max_loss).groups("a", kinds)
    assert sorted(at for one in found for at in one.members) == list(range(len(kinds)))
    for one in found:
        if len(one.members) > 1:
            assert all(given[at][0] for at in one.members) and len(one.members) <= 4
            assert sum(given[at][1] for at in one.members) <= 24
            assert all(0 < its <= 1 for its in one.relative)


def test_waits_are_shorter_where_circuits_share(capsys: pytest.CaptureFixture[str]) -> None:
    waits = []
    for share in (0.0, 1.0):
        log = on_qpus(Settings(jobs=600, load=1.2, qpus=3, kinds=9, share=share), named("formula"))
        waits.append(log.summary()["wait_mean"])
        assert (log.shared > 0) == (share > 0)
    assert waits[1] < 0.5 * waits[0]
    assert main(["simulate", "--jobs", "20", "--share", "2"]) == 2
    assert "--share: 2.0 is not valid" in capsys.readouterr().err
    assert main(["simulate", "--share", "0.5", "--trace", "queues.csv"]) == 2
    assert "share: 0.5 given, which is for circuits that are made up" in capsys.readouterr().err
