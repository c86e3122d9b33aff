"""Mitigated circuits through a manager: what they give, what is refused, and what a failed part does."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import networkx
import numpy as np
import pytest
from qiskit import QuantumCircuit

from pilot import (
    DescriptionError,
    PilotDescription,
    PilotManager,
    PluginError,
    QosOptions,
    TaskDescription,
)
from pilot.errors import QPUError
from pilot.qos.families import circuit
from pilot.qos.mitigator import Context, QosResult, QosStage, Replacement, Step, Variant, running
from pilot.qos.mitigator.stages.cutting import Cutting
from pilot.qos.mitigator.stages.freezing import Freezing
from pilot.qos.qernel import Qernel

pytestmark = pytest.mark.timeout(180)
QPU, BARE = "fake:manila", "qiskit:bare:device()"


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PilotManager]:
    folder = tmp_path_factory.mktemp("session")
    (folder / "bare.py").write_text(
        "from qiskit.providers.fake_provider import GenericBackendV2\n"
        "def device():\n    return GenericBackendV2(5, noise_info=False)\n"
    )
    with pytest.MonkeyPatch.context() as patch, PilotManager(folder / "s") as manager:
        patch.syspath_prepend(str(folder))
        manager.submit_pilot(PilotDescription(engine="process", cores_per_node=1, qpus=[QPU, BARE], name="qpus"))
        yield manager


def run(manager: PilotManager, made: Any, options: Any, **fields: Any) -> Any:
    given = {"shots": 4000, "qpu": QPU, "seed": 1, **fields}
    return manager.submit_task(TaskDescription(circuit=made, qos=options, **given)).result(timeout=120)


def share(outcomes: Any, *texts: str) -> float:
    counts = outcomes.get_counts()
    return float(sum(counts.get(text, 0) for text in texts) / sum(counts.values()))


# ---- what comes out ---------------------------------------------------------------------------------------------


def test_a_distribution(manager: PilotManager) -> None:
    made = circuit("ghz", 5)
    plain = manager.submit_task(TaskDescription(circuit=made, shots=4000, qpu=QPU, seed=1)).result(timeout=120)
    result = run(manager, made, QosOptions())
    assert isinstance(result, QosResult) and result.distribution is not None
    assert share(result.distribution, "00000", "11111") > share(plain, "00000", "11111") + 0.05
    assert result.probabilities.sum() == pytest.approx(1) and len(result.spread) == len(result.probabilities)
    assert 0.9 * 4000 < result.shots <= 4000 and result.circuits >= 1
    assert {step.stage for step in result.steps} & {"cutting", "readout"}
    assert {"decide", "decide: cutting", "run", "combine"} <= set(result.seconds)
    assert min(result.seconds.values()) >= 0 and result.reason == ""


def test_map_and_reduce_give_what_one_task_gives(manager: PilotManager, monkeypatch: pytest.MonkeyPatch) -> None:
    options, found = QosOptions(stages=[Cutting(required=True)], budget=1), []
    for circuits in (1, 1000):
        monkeypatch.setattr(running, "MANY", circuits)
        found.append(run(manager, circuit("ghz", 4), options).distribution.get_counts())
    assert found[0] == found[1] and share(run(manager, circuit("ghz", 4), options).distribution, "0000", "1111") > 0.8


def test_values(manager: PilotManager) -> None:
    made = circuit("vqe", 4).remove_final_measurements(inplace=False)
    exact = manager.submit_task(TaskDescription(circuit=made, observables=["ZZZZ", "IIZZ"])).result(timeout=120).values
    result = run(manager, made, {"budget": 1}, observables=["ZZZZ", "IIZZ"], shots=40_000)
    assert result.distribution is None and np.abs(result.values - exact).max() < 6 * result.spread.max() + 0.02
    with pytest.raises(ValueError, match="has no distribution"):
        _ = result.probabilities


def test_a_problem(manager: PilotManager) -> None:
    """A star: its hub is frozen, and the rest falls apart."""
    graph, made = networkx.star_graph(4), QuantumCircuit(5)
    made.h(range(5))
    for one, other in graph.edges:
        made.rzz(0.9, one, other)
    made.rx(-0.9, range(5))
    made.measure_all()
    qernel = Qernel.of(1, made, 4000, {"qos": QosOptions(objective=graph), "qpu": QPU, "seed": 3})
    result = qernel.run(manager).result(timeout=120)
    assert result.steps[0].frozen[0] == 0 and result.solution.energy == -4
    assert result.solution.bits in ("11110", "00001") and -4 <= result.energy < 0
    turned = {text: text.translate(str.maketrans("01", "10")) for text in result.energies}
    assert all(result.energies[text] == pytest.approx(result.energies[other]) for text, other in turned.items())


def test_more_qubits_than_the_device(manager: PilotManager) -> None:
    result = run(manager, circuit("bv", 7), QosOptions())
    assert share(result.distribution, "111111") > 0.5


# ---- what is refused --------------------------------------------------------------------------------------------

DYNAMIC = QuantumCircuit(2, 2)
DYNAMIC.h(0)
DYNAMIC.measure(0, 0)
with DYNAMIC.if_test((DYNAMIC.clbits[0], 1)):
    DYNAMIC.x(1)
DYNAMIC.measure(1, 1)
EMPTY = QuantumCircuit(2)
EMPTY.measure_all()
BELL = circuit("ghz", 2 + 1)


@pytest.mark.parametrize(("made", "budget"), [(EMPTY, 10**12), (DYNAMIC, 0)], ids=["empty", "dynamic"])
def test_circuits_of_odd_kinds_run(made: QuantumCircuit, budget: int, manager: PilotManager) -> None:
    result = run(manager, made, QosOptions(budget=budget, max_circuits=10**6), shots=500)
    assert result.probabilities.sum() == pytest.approx(1)
    assert not any(step.spent for step in result.steps)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no options": ({"qos": 7}, r"TaskDescription\.qos: 7 is not valid; expected a QosOptions"),
    "unknown field": ({"qos": {"bugdet": 1}}, r"no field 'bugdet' \(did you mean 'budget'\?\)"),
    "negative budget": ({"qos": {"budget": -1}}, "QosOptions.budget: -1 is not valid"),
    "overhead": ({"qos": {"max_overhead": 0.5}}, "at least 1 \\(1: no cuts\\)"),
    "no shots": ({"shots": None}, "shots"),
    "simulator": ({"qpu": "aer"}, "qos"),
    "mitigation": ({"mitigation": ["readout"]}, "nothing with qos: name stages in QosOptions.stages"),
    "tomography": ({"tomography": True}, "nothing with qos"),
    "no measurements": ({"circuit": QuantumCircuit(2)}, "measures nothing: add circuit.measure_all"),
    "required": ({"qos": {"stages": [Freezing(required=True)]}}, "'freezing' is required, but cannot be done"),
    "small graph": ({"qos": {"objective": networkx.path_graph(9)}}, "edges between two different nodes 0 to 2"),
    "no problem": ({"qos": {"objective": {"XXI": 1.0}}}, "objective: .* expected a graph"),
    "gates": ({"qos": {"objective": networkx.path_graph(3)}, "circuit": BELL}, "is no phase of the objective"),
    "both": ({"qos": {"objective": networkx.path_graph(3)}, "observables": ["ZZI"]}, "together with observables"),
    "program": ({"circuit": None, "function": print, "shots": None, "qpu": None}, "nothing without a circuit"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_refused(case: str, manager: PilotManager) -> None:
    given, message = WRONG[case]
    fields = {"circuit": BELL, "shots": 400, "qpu": QPU, "qos": QosOptions(), **given}
    with pytest.raises(DescriptionError, match=message):
        manager.submit_task(TaskDescription(**fields))


def test_a_circuit_that_no_device_can_run(manager: PilotManager) -> None:
    with pytest.raises(QPUError, match="has 24 qubits, fake:manila has 5"):
        run(manager, circuit("qaoa-r", 24), QosOptions())


def test_a_device_without_calibration(manager: PilotManager) -> None:
    """Nothing can be predicted, so the circuit runs as it is, and the result says why."""
    result = run(manager, circuit("ghz", 4), QosOptions(), qpu=BARE)
    assert result.steps == () and "reports no errors" in result.reason


class Failing(QosStage):
    """A stage that raises where it is asked, or whose merge does."""

    name = "failing"
    required = True

    def __init__(self, at: str) -> None:
        self.at = at

    def variants(self, variant: Variant, context: Context) -> Iterable[Variant]:
        if self.at == "variants":
            raise OverflowError("too many")
        merge = partial(fails, os.getpid() if self.at == "combine" else 0)
        part = Replacement(circuits=variant.circuits, shares=(1.0,), groups=(0,), merge=merge)
        yield variant.replaced([part], Step(stage=self.name, text="fails"))


def fails(here: int, outcomes: Any, manager: Any) -> Any:
    """In other processes than this one."""
    if os.getpid() != here:
        raise OverflowError("too many")
    return outcomes[0]


@pytest.mark.parametrize("at", ["variants", "merge"])
def test_a_stage_that_raises(at: str, manager: PilotManager) -> None:
    """Where it is asked, and where what it makes is predicted."""
    with pytest.raises(PluginError, match="the stage 'failing' failed for circuit 'ghz-3': OverflowError: too many"):
        run(manager, BELL, QosOptions(stages=[Failing(at)]))


@pytest.mark.parametrize("circuits", [1, 1000], ids=["in a map", "in the end"])
def test_a_failed_part_fails_the_whole_with_its_error(
    circuits: int, manager: PilotManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "MANY", circuits)
    with pytest.raises(OverflowError, match="too many"):
        run(manager, BELL, QosOptions(stages=[Failing("combine")]))
