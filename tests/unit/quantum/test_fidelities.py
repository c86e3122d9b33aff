"""Expected fidelities beside closed forms and Qiskit's density matrices. Without pilots."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit.random import random_circuit
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import hellinger_fidelity
from qiskit.transpiler import CouplingMap, InstructionProperties, QubitProperties, Target
from qiskit_aer import AerSimulator

from pilot.quantum.compilation import Compiler
from pilot.quantum.device_noise import DeviceNoise
from pilot.quantum.fidelities import HARMFUL, Fidelities, fidelities_of, hellinger, ideal_of
from pilot.resources import Calibration, CrosstalkFacts, QPUInfo

INFO = QPUInfo(name="bench:5", qubits=5)


@pytest.fixture(scope="module")
def target() -> Target:
    return GenericBackendV2(5, coupling_map=[[0, 1], [1, 2], [2, 3], [3, 4]], seed=3).target


def ghz(qubits: int) -> QuantumCircuit:
    """Compiled by hand: in the target's gates, on its first qubits."""
    circuit = QuantumCircuit(5, qubits)
    circuit.sx(0)
    for one in range(qubits - 1):
        circuit.cx(one, one + 1)
    circuit.measure(range(qubits), range(qubits))
    return circuit


def test_outcomes_without_noise_are_those_of_aer() -> None:
    """A measurement in the middle, a reset, bits out of order and idle qubits."""
    circuit = QuantumCircuit(30, 4)
    circuit.h(7)
    circuit.measure(7, 2)
    circuit.reset(7)
    circuit.ry(0.7, 7)
    circuit.cx(7, 20)
    circuit.measure([20, 7], [0, 3])
    ideal = ideal_of(circuit)
    assert ideal is not None and ideal.bits == (0, 2, 3)
    small = QuantumCircuit(2, 4)
    small.compose(circuit.copy_empty_like().__class__(2, 4), inplace=True)
    for entry in circuit.data:
        small.append(
            entry.operation,
            [{7: 0, 20: 1}[circuit.find_bit(each).index] for each in entry.qubits],
            [circuit.find_bit(bit).index for bit in entry.clbits],
        )
    counts = AerSimulator(seed_simulator=1).run(small, shots=20_000).result().get_counts()
    theirs = np.zeros(8)
    for text, count in counts.items():
        theirs[int(text[-1]) + 2 * int(text[-3]) + 4 * int(text[-4])] += count / 20_000
    assert np.abs(ideal.probabilities - theirs).max() < 0.02


def test_outcomes_without_noise_that_are_not_known() -> None:
    conditional = QuantumCircuit(2, 2)
    conditional.measure(0, 0)
    with conditional.if_test((conditional.clbits[0], 1)):
        conditional.x(1)
    conditional.measure(1, 1)
    wide = QuantumCircuit(15)
    wide.measure_all()
    assert ideal_of(conditional) is ideal_of(wide) is ideal_of(QuantumCircuit(2)) is None


def test_the_fidelity_is_hellingers() -> None:
    random = np.random.default_rng(1)
    one, other = random.dirichlet(np.ones(8), 2)
    texts = [f"{number:03b}" for number in range(8)]
    theirs = hellinger_fidelity(dict(zip(texts, one, strict=True)), dict(zip(texts, other, strict=True)))
    assert hellinger(one, other) == pytest.approx(theirs)


def test_few_qubits_are_computed(target: Target) -> None:
    circuit = ghz(3)
    noise = DeviceNoise(target)
    small, active = noise.reduce(circuit)
    found = Fidelities(noise).estimate(circuit, ideal_of(circuit))
    noisy = noise.probabilities(noise.schedule(small, active), active)[1]
    assert found.is_exact and found.value == pytest.approx((np.sqrt(noisy[0] / 2) + np.sqrt(noisy[7] / 2)) ** 2)
    assert 0 < found.spread < 0.05


def test_errors_that_drift_as_much_as_the_spread_says() -> None:
    """The spread beside the scatter of fidelities where each error of the calibration is drawn anew."""
    random, values = np.random.default_rng(2), []
    errors = {("cx", (0, 1)): 0.03, ("cx", (1, 2)): 0.02, **{("measure", (one,)): 0.03 for one in range(3)}}

    def fidelity(scales: dict[tuple[str, tuple[int, ...]], float]) -> tuple[float, float]:
        target = bare_target({place: error * scales.get(place, 1.0) for place, error in errors.items()})
        found = Fidelities(DeviceNoise(target)).estimate(ghz(3), ideal_of(ghz(3)))
        return found.value, found.spread

    for _ in range(200):
        values.append(fidelity({place: max(0.0, random.normal(1, 0.3)) for place in errors})[0])
    assert fidelity({})[1] == pytest.approx(np.std(values), rel=0.35)


def bare_target(errors: dict[tuple[str, tuple[int, ...]], float]) -> Target:
    """Five qubits in a line whose instructions take no time."""
    backend = GenericBackendV2(5, coupling_map=[[0, 1], [1, 2], [2, 3], [3, 4]], seed=3).target
    target = Target(num_qubits=5, qubit_properties=[QubitProperties() for _ in range(5)])
    for name in ("cx", "sx", "measure"):
        places = {qubits: InstructionProperties(error=errors.get((name, qubits), 0.0)) for qubits in backend[name]}
        target.add_instruction(backend.operation_from_name(name), places)
    return target


def test_the_formula() -> None:
    """Ten qubits: gates by their process fidelity, the readout of the two outcomes of a GHZ state, all else uniform."""
    line = [[one, one + 1] for one in range(9)]
    backend = GenericBackendV2(10, coupling_map=line, seed=3).target
    target = Target(num_qubits=10, qubit_properties=[QubitProperties() for _ in range(10)])
    errors = np.random.default_rng(4).uniform(0.001, 0.02, 9)
    target.add_instruction(
        backend.operation_from_name("cx"),
        {(one, one + 1): InstructionProperties(error=errors[one]) for one in range(9)},
    )
    target.add_instruction(backend.operation_from_name("sx"), {(one,): InstructionProperties() for one in range(10)})
    target.add_instruction(
        backend.operation_from_name("measure"), {(one,): InstructionProperties() for one in range(10)}
    )
    circuit = QuantumCircuit(10, 10)
    circuit.sx(0)
    for one in range(9):
        circuit.cx(one, one + 1)
    circuit.measure(range(10), range(10))
    readout = [(0.01, 0.05)] * 10
    found = Fidelities(DeviceNoise(target, readout)).estimate(circuit, ideal_of(circuit))
    chance = np.prod(1 - 1.25 * errors) * (0.99**10 + 0.95**10) / 2
    right = chance**HARMFUL
    each = right / 2 + (1 - right) / 1024
    assert not found.is_exact and found.value == pytest.approx((2 * np.sqrt(each / 2)) ** 2)
    unknown = Fidelities(DeviceNoise(target, readout)).estimate(circuit, None)
    assert unknown.value == pytest.approx((np.prod(1 - 1.25 * errors) * 0.97**10) ** HARMFUL)


def test_idle_times_count() -> None:
    """A qubit waits in a superposition while another one is busy."""
    target = bare_target({})
    times = [QubitProperties(t1=1e-4, t2=0.8e-4)] * 5
    slow = Target(num_qubits=5, qubit_properties=times)
    for name in ("cx", "measure"):
        slow.add_instruction(target.operation_from_name(name), target[name])
    slow.add_instruction(
        target.operation_from_name("sx"), {(one,): InstructionProperties(duration=1e-5) for one in range(5)}
    )
    from qiskit.circuit import Delay, Parameter

    slow.add_instruction(Delay(Parameter("t")), {(one,): None for one in range(5)})
    circuit = QuantumCircuit(5, 2)
    circuit.cx(0, 1)
    for _ in range(3):
        circuit.sx(1)
    circuit.cx(0, 1)
    circuit.measure([0, 1], [0, 1])
    f = (1 + np.exp(-0.3) + 2 * np.exp(-3e-5 / 0.8e-4)) / 4
    assert Fidelities(DeviceNoise(slow)).success(circuit).gates == pytest.approx(f)


@pytest.mark.parametrize("together", [True, False])
def test_declared_crosstalk_counts_once_where_gates_overlap(together: bool) -> None:
    base = bare_target({})
    target = Target(num_qubits=5, qubit_properties=[QubitProperties() for _ in range(5)])
    target.add_instruction(
        base.operation_from_name("cx"), {qubits: InstructionProperties(duration=3e-7) for qubits in base["cx"]}
    )
    target.add_instruction(base.operation_from_name("measure"), base["measure"])
    circuit = QuantumCircuit(5, 4)
    circuit.cx(0, 1)
    if not together:
        circuit.barrier()
    circuit.cx(2, 3)
    circuit.measure(range(4), range(4))
    declared = CrosstalkFacts((2, 3), (0, 1), 0.1)
    info = QPUInfo(name="bench:5", qubits=5, calibration=Calibration(crosstalk=(declared,)))
    target.update_instruction_properties("cx", (3, 4), InstructionProperties(error=0.5))  # so that errors are known
    fidelities = fidelities_of(info, target)
    assert fidelities is not None
    assert fidelities.success(circuit).gates == pytest.approx(0.9 if together else 1.0)
    assert fidelities.estimate(circuit, ideal_of(circuit)).value == pytest.approx(0.9 + 0.1 / 16 if together else 1.0)


def test_of_alternatives_the_worst_counts_and_without_errors_nothing_is_known() -> None:
    line = [[one, one + 1] for one in range(4)]
    target = GenericBackendV2(5, coupling_map=line, seed=3, control_flow=True).target
    circuit = QuantumCircuit(5, 1)
    circuit.cx(1, 2)
    with circuit.if_test((circuit.clbits[0], 1)) as otherwise:
        circuit.x(3)
    with otherwise:
        circuit.cx(3, 4)
    found = fidelities_of(INFO, target)
    assert found is not None
    wanted = (1 - 1.25 * target["cx"][1, 2].error) * (1 - 1.25 * target["cx"][3, 4].error)
    assert found.success(circuit).gates == pytest.approx(wanted)
    assert found.estimate(circuit, None).value == pytest.approx(wanted**HARMFUL)
    assert fidelities_of(INFO, Target.from_configuration(["cx", "x"], 5)) is None


def test_the_best_of_several_compiled_circuits_is_taken() -> None:
    target = GenericBackendV2(9, coupling_map=CouplingMap.from_grid(3, 3), seed=3).target
    compiler = Compiler(SimpleNamespace(name="bench:9", info=lambda: INFO, target=lambda: target))
    fidelities = compiler.fidelities
    assert fidelities is not None
    gains = []
    for seed in range(4):
        circuit = random_circuit(6, 6, max_operands=2, measure=True, seed=seed)
        found = [fidelities.success(compiler.compile(circuit, 1, tries)).probability() for tries in (1, 3, 9)]
        assert found == sorted(found)
        gains.append(found[2] / found[0])
    assert max(gains) > 1.001
    assert compiler.compile(circuit, 1, 9) is compiler.compile(circuit, 1, 9)
