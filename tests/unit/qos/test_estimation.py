"""What a worker predicts, what a manager makes of it, and where the controller sends circuits by it."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from pilot_plugins.qpus._qiskit import info_of
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.transpiler import InstructionProperties

from pilot import TaskDescription
from pilot.errors import QPUError
from pilot.qos.estimation import CircuitEstimator, CircuitPrediction
from pilot.quantum.packing import pack
from pilot.quantum.tasks import Sample
from pilot.resources import ANY_QPU, CircuitFacts, QPUEstimate, QPUInfo, Resources
from pilot.scheduling import events
from pilot.states import TaskState
from pilot.testing import World


def bell() -> QuantumCircuit:
    circuit = QuantumCircuit(2, name="bell")
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


def device(name: str, dead: tuple[int, ...]) -> QPUInfo:
    """Three qubits in a line, some of which read what they like."""
    target = GenericBackendV2(3, coupling_map=[[0, 1], [1, 0], [1, 2], [2, 1]], seed=1).target
    for qubit in dead:
        target.update_instruction_properties("measure", (qubit,), InstructionProperties(error=0.5))
    return info_of(name, target, calibrated=1.0)


HALF, DEAD = device("x:half", (0,)), device("x:dead", (0, 1, 2))


def test_circuits_avoid_qubits_that_are_broken() -> None:
    found = CircuitPrediction((HALF, DEAD), 2)(pack(bell()), None).by_qpu
    half, dead = found["x:half"].fidelity, found["x:dead"].fidelity
    assert half is not None and dead is not None
    assert half.value > 0.95 and dead.value == pytest.approx(0.5, abs=0.01)  # of a Bell state and uniform outcomes


def test_what_no_qpu_reaches_is_refused_with_the_best_offer() -> None:
    call = (pack(bell()), None)
    with pytest.raises(
        QPUError, match=r"'bell' with a fidelity of 0\.999: the best offer is 0\.9\d+ by x:half \(of 2\)"
    ):
        CircuitPrediction((DEAD, HALF), 2, 0.999)(*call)
    silent = msgspec.structs.replace(HALF, name="x:silent", calibration=None)  # judged by its medians, elsewhere
    found = CircuitPrediction((silent, DEAD), 2, 0.999)(*call).by_qpu
    assert found["x:silent"].fidelity is None
    assert CircuitPrediction((), 2, 0.9)(*call).by_qpu == {}


def test_a_qpu_that_cannot_run_the_circuit_is_left_out_with_the_reason() -> None:
    conditional = bell()
    with conditional.if_test((conditional.clbits[0], 1)):
        conditional.x(1)
    target = GenericBackendV2(3, seed=1, control_flow=True).target
    able = info_of("x:able", target, calibrated=1.0)
    wanted = TaskDescription(circuit=conditional, shots=100, min_fidelity=0.0)
    result = CircuitPrediction((HALF, able), 2)(pack(conditional), None)
    known, unknown = sorted(CircuitEstimator().estimates(result, wanted, (HALF, able)), key=lambda one: one.qpu)
    assert known.qpu == "x:able" and known.fidelity is not None and not known.problem
    assert unknown.qpu == "x:half" and "cannot be compiled for x:half" in unknown.problem
    assert "x:half" in CircuitPrediction((HALF,), 2, is_final=False)(pack(conditional), None).by_qpu
    with pytest.raises(QPUError, match="cannot be compiled for x:half"):
        CircuitPrediction((HALF,), 2)(pack(conditional), None)


def test_a_manager_estimates_and_learns() -> None:
    angle = Parameter("a")
    free = QuantumCircuit(2)
    free.ry(angle, 0)
    free.cx(0, 1)
    free.measure_all()
    wanted = TaskDescription(circuit=free, parameters=[0.3], shots=4000, min_fidelity=0.5)
    estimator, infos = CircuitEstimator(), (HALF, DEAD, msgspec.structs.replace(HALF, name="x:narrow", qubits=1))
    work, args = estimator.work(Sample(free, np.array([0.3])), wanted, infos, final=True)
    assert work == CircuitPrediction((HALF, DEAD), 2, 0.5)
    assert work != estimator.work(Sample(free, None), wanted, (DEAD,), final=True)[0]
    assert estimator.work(Sample(free, None), wanted, infos, final=False)[0] == CircuitPrediction(
        (HALF, DEAD), 2, 0.0, False
    )
    result = work(*args)
    first = estimator.estimates(result, wanted, infos)
    assert [one.qpu for one in first] == ["x:half", "x:dead"]
    assert first[0].fidelity is not None and first[0].fidelity > 0.9 and first[0].calibrated == 1.0
    for _ in range(5):
        estimator.learn(result, wanted, infos, "x:half", 0.5, 6.0)  # half of the shots
    half, dead = estimator.estimates(result, wanted, infos)
    assert half.seconds == pytest.approx(6.0 * 2, rel=0.5) and dead.seconds == first[1].seconds
    assert half.seconds_spread is not None and first[0].seconds_spread is not None
    assert half.seconds_spread < first[0].seconds_spread


# ---- the controller ---------------------------------------------------------------------------------------------


def estimated(**fidelities: float) -> tuple[QPUEstimate, ...]:
    return tuple(QPUEstimate(f"fake:{name}", fidelity=value) for name, value in fidelities.items())


def submit(world: World, gate: int, floor: float) -> int:
    """A circuit that waits for what estimates it."""
    terms: dict[str, Any] = {
        "resources": Resources(num_cpus=0.0, qpu=ANY_QPU),
        "facts": CircuitFacts(2, 100, 1, 1, 2),
        "min_fidelity": floor,
    }
    return world.submit(1, terms=terms, needs={gate: False})[0]


def test_circuits_go_where_the_floor_is_reached_and_follow_new_calibrations() -> None:
    world = World(wait_for_pilot=None)
    infos = [msgspec.structs.replace(one, name=one.name.replace("x:", "fake:")) for one in (HALF, DEAD)]
    world.pilot("a", qpus=infos)
    (gate,) = world.submit(1)
    good, first, second = submit(world, gate, 0.5), submit(world, gate, 0.9), submit(world, gate, 0.9)
    low = estimated(half=0.8, dead=0.3)
    world.feed(events.CircuitsEstimated({good: low, first: low, second: low}))
    assert [world.state(one) for one in (good, first, second)] == [TaskState.WAITING] * 3
    world.work_off(0.1, "a")
    assert [world.state(one) for one in (good, first, second)] == [TaskState.DONE, TaskState.QUEUED, TaskState.QUEUED]
    assert "fake:half" in world.explain(good)
    assert "fake:half of a has a fidelity of about 0.800, but 0.9 is needed" in world.explain(first)
    world.feed(events.CircuitsEstimated({first: estimated(half=0.8, dead=0.95)}))
    world.controller.validate()
    world.work_off(0.1, "a")
    assert world.state(first) is TaskState.DONE and world.state(second) is TaskState.QUEUED
    assert "fake:dead" in world.explain(first)
