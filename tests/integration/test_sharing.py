"""Circuits that share a QPU, through a manager: what each gets, and who never shares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pilot import DescriptionError, PilotDescription, PilotManager, TaskDescription
from pilot.qos.families import circuit
from pilot.qos.multiprogramming import MultiProgrammer

pytestmark = pytest.mark.timeout(180)
#: Each job waits for a moment, so that tasks gather.
QPU = "fake:guadalupe?queue=0.5"
SHOTS = 2000


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PilotManager]:
    with PilotManager(tmp_path_factory.mktemp("session") / "s") as manager:
        manager.submit_pilot(PilotDescription(engine="process", cores_per_node=1, qpus=[QPU]))
        yield manager


def describe(family: str, qubits: int, **fields: Any) -> TaskDescription:
    return TaskDescription(circuit=circuit(family, qubits), shots=SHOTS, qpu=QPU, **fields)


def overlap(one: dict[str, float], other: dict[str, float]) -> float:
    """The Hellinger fidelity of two sets of counts."""
    return sum((one.get(key, 0) * other.get(key, 0)) ** 0.5 for key in one | other) ** 2 / SHOTS**2


def test_tasks_that_agree_share(manager: PilotManager) -> None:
    """Circuits of different widths run as one, and give what they give alone; others run alone meanwhile."""
    kinds = [("ghz", 3), ("bv", 4), ("w", 3), ("ghz", 4)]
    private = manager.submit_tasks([describe(*kind) for kind in kinds])
    shared = manager.submit_tasks([describe(*kind, share_qpu=True) for kind in kinds])
    strict = manager.submit_task(describe("w", 4, share_qpu=MultiProgrammer(most=1)))
    alone = [task.result(timeout=120).get_counts() for task in private]
    found = [task.result(timeout=120) for task in shared]
    assert sum("shared fake:guadalupe" in manager.explain(task) for task in shared) >= 2
    assert any("may share the QPU" in manager.explain(task) for task in shared)
    for one, other in zip(found, alone, strict=True):
        counts = one.get_counts()
        assert one.shots == SHOTS == sum(counts.values()) and one.registers
        assert overlap(counts, other) > 0.96
    strict.result(timeout=120)
    for task in (*private, strict):
        assert "shared" not in manager.explain(task)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (TaskDescription(circuit=circuit("ghz", 3), shots=10, qpu="aer", share_qpu=True), "False for a simulator"),
        (describe("ghz", 3, share_qpu="yes"), "share_qpu: 'yes' is not valid; expected True, False, or a Bundler"),
        (describe("ghz", 3, share_qpu=1), "share_qpu: 1 is not valid"),
        (describe("ghz", 3, share_qpu=True, observables=["ZZZ"], mitigation=["zne"]), "False with 'zne'"),
    ],
)
def test_what_is_refused(manager: PilotManager, wanted: TaskDescription, message: str) -> None:
    with pytest.raises(DescriptionError, match=message):
        manager.submit_task(wanted)


def test_only_circuits_share() -> None:
    with pytest.raises(DescriptionError, match="share_qpu: True is not valid; expected nothing without a circuit"):
        TaskDescription(function=len, args=("a",), share_qpu=True)
